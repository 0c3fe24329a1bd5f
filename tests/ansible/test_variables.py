"""The variables that READMEs and the example inventory show: by specification, and for the program."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator

from tests.ansible.test_specs import load, options, variable
from tests.readme import example
from tunneler.addresses import Role
from tunneler.config.load import load as load_configuration
from tunneler.config.model import MODEL_OF_ROLE
from tunneler.config.schema import schema_text

Variables = dict[str, Any]


def of_readme(role: Role) -> Variables:
    """What the README's play gives to the role."""
    ((play,), name) = yaml.safe_load(example(f"ansible/roles/{role}/README.md", "- hosts")), str(role)
    assert play["hosts"] == f"tunneler_{name}"
    (used,) = play["roles"]
    assert used["role"] == name
    found: Variables = used["vars"]
    return found


def of_inventory(role: Role) -> Variables:
    """What the example inventory gives to the role's host."""
    group = load("inventory/example/hosts.yml")["tunneler"]["children"][f"tunneler_{role}"]
    ((name, host),) = group["hosts"].items()
    given = load(f"inventory/example/group_vars/tunneler_{role}.yml") | (host or {})
    short = name.partition(".")[0]
    return {
        key: short if value == "{{ inventory_hostname_short }}" else value for key, value in given.items()
    }


@pytest.mark.parametrize("source", [of_readme, of_inventory])
@pytest.mark.parametrize("role", list(Role))
def test_variables_are_right(role: Role, source: Any, tmp_path: Path) -> None:
    given = source(role)
    specified = options(role) | options("tunneler") | options("pki")
    assert given.keys() <= specified.keys()
    result = ArgumentSpecValidator({name: specified[name] for name in given}).validate(given)
    assert result.error_messages == []
    keys = {variable(role, key): key for key in yaml.safe_load(schema_text(role))["properties"]}
    assert given.keys() & keys.keys()
    settings = {keys[name]: value for name, value in given.items() if name in keys}
    file = tmp_path / f"{role}.yaml"
    place = f"/etc/tunneler/tls/{role}"
    tls = {f"{name}_file": f"{place}/{name}.pem" for name in ("cert", "key", "ca")}
    file.write_text(yaml.safe_dump({"tls": tls, **settings}), encoding="utf-8")
    assert load_configuration(MODEL_OF_ROLE[role], [file], {}, {}).warnings == ()
