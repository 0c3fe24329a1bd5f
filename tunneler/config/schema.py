"""JSON Schema of each role's configuration file, for editors and for reading.

``docs/schema/`` holds what :func:`schema_text` returns; a test keeps the two equal.
"""

from __future__ import annotations

import json
from typing import Any

from tunneler.addresses import Role
from tunneler.config.model import MODEL_OF_ROLE

DIALECT = "https://json-schema.org/draft/2020-12/schema"


def schema_of(role: Role) -> dict[str, Any]:
    """The schema of one file of a role.

    Nothing is required at the top: what one file lacks may come from another source.
    """
    schema = _without_noise(MODEL_OF_ROLE[role].model_json_schema())
    del schema["required"]
    return {"$schema": DIALECT, "title": f"tunneler {role}", **schema}


def schema_text(role: Role) -> str:
    """The schema as the text of a file."""
    return json.dumps(schema_of(role), indent=2, ensure_ascii=False) + "\n"


def _without_noise(node: Any, *, names: bool = False) -> Any:
    """Drop titles that pydantic derives from names, and defaults that are whole sections or null.

    With ``names``, the keys of ``node`` are names of the configuration, not words of JSON Schema.
    """
    if isinstance(node, list):
        return [_without_noise(item) for item in node]
    if not isinstance(node, dict):
        return node
    kept = {}
    for word, value in node.items():
        if not names and (
            word == "title" or (word == "default" and (value is None or isinstance(value, dict)))
        ):
            continue
        kept[word] = _without_noise(value, names=not names and word in ("properties", "$defs"))
    return kept
