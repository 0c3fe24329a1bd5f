"""The exported JSON Schema, the committed copies of it, and the documentation of each key."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tunneler.addresses import Role
from tunneler.config.keys import dotted, leaves, variable_of
from tunneler.config.model import MODEL_OF_ROLE
from tunneler.config.schema import schema_of, schema_text

DOCUMENTATION = Path(__file__).parents[3] / "docs"


def resolved(schema: dict[str, Any], node: dict[str, Any]) -> dict[str, Any]:
    reference = node.get("$ref")
    return schema["$defs"][reference.rpartition("/")[2]] if reference else node


def keys_in(schema: dict[str, Any], node: dict[str, Any], above: tuple[str, ...] = ()) -> Iterator[Any]:
    for name, value in node["properties"].items():
        inner = resolved(schema, value)
        yield (*above, name), value, inner
        if "properties" in inner:
            yield from keys_in(schema, inner, (*above, name))


@pytest.mark.parametrize("role", list(Role))
class TestSchema:
    def test_every_key_is_there_and_described(self, role: Role) -> None:
        schema = schema_of(role)
        found = {path: (value, inner) for path, value, inner in keys_in(schema, schema)}
        assert set(leaves(MODEL_OF_ROLE[role])) <= set(found)
        for path, (value, inner) in found.items():
            assert value.get("description") or inner.get("description"), dotted(path)

    def test_no_section_takes_unknown_keys(self, role: Role) -> None:
        schema = schema_of(role)
        for section in (schema, *schema["$defs"].values()):
            assert section["additionalProperties"] is False

    def test_nothing_is_required_of_one_file(self, role: Role) -> None:
        assert "required" not in schema_of(role)

    def test_only_words_of_json_schema_are_used(self, role: Role) -> None:
        # pydantic leaves "ge" and the like where it does not understand a bound.
        assert not re.findall(r'"(ge|le|gt|lt)":', schema_text(role))

    def test_the_committed_copy_is_current(self, role: Role) -> None:
        committed = (DOCUMENTATION / "schema" / f"{role}.json").read_text()
        assert committed == schema_text(role), f"run: tunneler schema {role} > docs/schema/{role}.json"
        assert json.loads(committed)["title"] == f"tunneler {role}"

    def test_the_documentation_says_of_every_key_what_the_model_says(self, role: Role) -> None:
        text = (DOCUMENTATION / "configuration.md").read_text()
        for path, field in leaves(MODEL_OF_ROLE[role]).items():
            assert f"`{dotted(path)}`" in text, dotted(path)
            assert f"`{variable_of(path)}`" in text, variable_of(path)
            assert f"| {field.description} |" in text, dotted(path)


@pytest.mark.parametrize("role", list(Role))
def test_the_documentation_names_no_key_that_does_not_exist(role: Role) -> None:
    text = (DOCUMENTATION / "configuration.md").read_text()
    known = {variable_of(path) for model in MODEL_OF_ROLE.values() for path in leaves(model)}
    assert set(re.findall(r"`(TUNNELER_[A-Z_]+)`", text)) <= known
