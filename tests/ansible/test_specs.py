"""Each variable of the roles has its specification, which says what the program's schema says."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

import tunneler
from tunneler.addresses import Role
from tunneler.config.changes import LIVE
from tunneler.config.schema import schema_text

ANSIBLE = Path(__file__).parents[2] / "ansible"
ROLES = sorted(path.name for path in (ANSIBLE / "roles").iterdir())
MODULES = {path.stem for path in (ANSIBLE / "plugins/modules").iterdir()}
TYPES = {"string": "str", "integer": "int", "boolean": "bool", "number": "float", "array": "list"}

OWN = {"server_instances"}
"""Variables of the three roles that are no keys of a configuration."""

Node = dict[str, Any]


def load(path: str) -> Node:
    found: Node = yaml.safe_load((ANSIBLE / path).read_text(encoding="utf-8")) or {}
    return found


def options(role: str) -> Node:
    found: Node = load(f"roles/{role}/meta/argument_specs.yml")["argument_specs"]["main"]["options"]
    return found


def variable(role: str, key: str) -> str:
    """The name of the variable for a key: the role's name stands before it once."""
    return key if key.startswith(f"{role}_") else f"{role}_{key}"


def wanted(node: Node, definitions: Node) -> Node:
    """What a specification has to say of a schema's node, its description apart."""
    if "$ref" in node:
        target = definitions[node["$ref"].rpartition("/")[2]]
        required = target.get("required", [])
        inner = {
            key: wanted(value, definitions) | ({"required": True} if key in required else {})
            for key, value in target["properties"].items()
        }
        return {"type": "dict", "options": inner}
    found: Node = {"type": TYPES.get(node.get("type", ""), "raw")}
    if "enum" in node:
        found["choices"] = node["enum"]
    if found["type"] == "list":
        element = wanted(node["items"], definitions)
        found["elements"] = element["type"]
        if "options" in element:
            found["options"] = element["options"]
    return found


def said(option: Node) -> Node:
    """What a specification says, its descriptions apart; fails where one has none."""
    assert option["description"]
    found = {key: value for key, value in option.items() if key != "description"}
    if "options" in option:
        found["options"] = {key: said(value) for key, value in option["options"].items()}
    return found


@pytest.mark.parametrize("role", list(Role))
def test_a_role_has_the_keys_of_its_configuration(role: Role) -> None:
    schema = yaml.safe_load(schema_text(role))
    expected = {
        variable(role, key): wanted(node, schema["$defs"]) for key, node in schema["properties"].items()
    }
    assert {key: said(option) for key, option in options(role).items() if key not in OWN} == expected


@pytest.mark.parametrize("role", list(Role))
def test_every_key_reaches_the_configuration(role: Role) -> None:
    given = load(f"roles/{role}/vars/main.yml")[f"{role}__given"]
    keys = yaml.safe_load(schema_text(role))["properties"].keys() - {"tls"}
    assert given == {key: f"{{{{ {variable(role, key)} | default(none) }}}}" for key in keys}


@pytest.mark.parametrize("role", ROLES)
def test_every_default_is_specified(role: str) -> None:
    defaults = load(f"roles/{role}/defaults/main.yml")
    specified = {key: option["default"] for key, option in options(role).items() if "default" in option}
    assert specified == defaults


@pytest.mark.parametrize("role", ROLES)
def test_every_variable_is_in_the_readme_and_no_other(role: str) -> None:
    text = (ANSIBLE / f"roles/{role}/README.md").read_text(encoding="utf-8")
    assert set(re.findall(r"^\| `(\w+)` \|", text, re.MULTILINE)) == options(role).keys()


@pytest.mark.parametrize("role", ROLES)
def test_no_variable_is_used_that_nobody_specified(role: str) -> None:
    """Of the kinds pki_… and tunneler_…, which the tasks use by name."""
    specified = {key for name in ROLES for key in options(name)} | {
        "tunneler_before",
        "tunneler_roles",
        *MODULES,
    }
    used: set[str] = set()
    for path in (ANSIBLE / "roles" / role).rglob("*.yml"):
        if path.parent.name in ("tasks", "vars", "defaults", "handlers"):
            used.update(re.findall(r"\b((?:tunneler|pki)_(?!_)\w+)", path.read_text(encoding="utf-8")))
    assert used - specified == set()


def test_what_is_only_reloaded_can_be_reloaded() -> None:
    assert set(load("roles/tunneler/vars/main.yml")["tunneler__live_keys"]) == {
        key for key in LIVE if "." not in key
    }


def test_the_versions_are_one() -> None:
    assert load("galaxy.yml")["version"] == tunneler.__version__
    assert load("roles/tunneler/defaults/main.yml")["tunneler_version"] == tunneler.__version__


def test_every_unit_of_a_role_exists() -> None:
    units = load("roles/tunneler/vars/main.yml")["tunneler__units_of"]
    packaged = {path.name for path in (ANSIBLE.parent / "packaging/systemd").iterdir() if path.is_file()}
    assert set().union(*units.values()) == packaged - {"README.md"}
    for role, names in units.items():
        assert {name for name in packaged if name.startswith(f"tunneler-{role}")} <= set(names)
