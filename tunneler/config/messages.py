"""What pydantic found, in words for an operator: where, which key, what was expected."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic_core import ErrorDetails

from tunneler.config import keys
from tunneler.config.model import RoleConfig
from tunneler.errors import ConfigError

LONGEST_QUOTE = 40
"""Characters of a wrong value that a message repeats; it may be anything, and huge."""

EXPECTED_BY_TYPE = {
    "bool_parsing": "expected true or false",
    "bool_type": "expected true or false",
    "greater_than_equal": "expected at least {ge}",
    "int_parsing": "expected a whole number",
    "int_parsing_size": "expected a whole number",
    "int_type": "expected a whole number",
    "less_than_equal": "expected at most {le}",
    "literal_error": "expected {expected}",
    "model_type": "expected virtual and real",
    "path_type": "expected a path",
    "string_too_short": "expected some text",
    "string_type": "expected text",
    "string_unicode": "expected text",
}


def one_line(text: str) -> str:
    """Keep what prints; a newline or an escape sequence from a file must not reach a terminal."""
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape").decode("ascii") for char in text
    )


def fault_of(detail: ErrorDetails, model: type[RoleConfig], sources: Mapping[str, str]) -> ConfigError:
    """Say one error of pydantic in our words.

    Args:
        detail: an element of ``ValidationError.errors()``.
        model: the model that was validated.
        sources: the source of each dotted key that was set.
    """
    context: dict[str, Any] = detail.get("ctx", {})
    path = tuple(detail["loc"])
    if detail["type"] == "section":
        path += tuple(context["key"].split("."))
    source = _source_of(path, sources)
    return ConfigError(source, one_line(keys.dotted(path)), one_line(_expected(detail, context, path, model)))


def _expected(
    detail: ErrorDetails, context: Mapping[str, Any], path: tuple[int | str, ...], model: type[RoleConfig]
) -> str:
    kind = detail["type"]
    if kind == "missing":
        known = path in keys.leaves(model)
        return f"required; {keys.ways_to_set(tuple(map(str, path)))}" if known else "required"
    if kind == "extra_forbidden":
        return f"unknown key{keys.suggestion(str(path[-1]), ('virtual', 'real'))}"
    if kind == "section":
        return str(context["expected"])
    if kind == "value_error":
        expected = str(context["error"])
    else:
        expected = EXPECTED_BY_TYPE.get(kind, detail["msg"]).format_map(context)
    return expected if _says_what_was_found(expected) else expected + _quoted(detail["input"])


def _says_what_was_found(expected: str) -> bool:
    return not expected.startswith("expected") or ", not " in expected


def _quoted(value: object) -> str:
    if isinstance(value, (list, tuple)):
        return ", not a list"
    if isinstance(value, Mapping):
        return ", not a section"
    if isinstance(value, bool):
        return f", not {str(value).lower()}"
    text = repr(value) if isinstance(value, str) else str(value)
    return f", not {text}" if len(text) <= LONGEST_QUOTE else f", not {text[:LONGEST_QUOTE]}…"


def _source_of(path: tuple[int | str, ...], sources: Mapping[str, str]) -> str:
    """Who set this key; else who set a part of its section; else nobody did."""
    for length in range(len(path), 0, -1):
        key = keys.dotted(path[:length])
        if key in sources:
            return sources[key]
        inside = [source for other, source in sources.items() if other.startswith(f"{key}.")]
        if inside:
            return inside[-1]
    return "configuration"
