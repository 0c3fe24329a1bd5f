"""Names of keys: in files, in the environment, and as flags."""

from __future__ import annotations

import pytest

from tunneler.addresses import Role
from tunneler.config.flags import FLAG_OF_KEY
from tunneler.config.keys import dotted, leaves, suggestion, variable_of, variables, variables_of_every_role
from tunneler.config.model import MODEL_OF_ROLE, ClientConfig

PATHS = {path for model in MODEL_OF_ROLE.values() for path in leaves(model)}


def test_variables_are_derived_from_the_model() -> None:
    names = variables(ClientConfig)
    assert names["TUNNELER_SERVER_ADDR"] == ("server_addr",)
    assert names["TUNNELER_TLS_CERT_FILE"] == ("tls", "cert_file")
    assert names["TUNNELER_TIMEOUTS_DIAL"] == ("timeouts", "dial")
    assert names["TUNNELER_CAPTURE_BACKEND"] == ("capture", "backend")
    assert names["TUNNELER_TCP_KEEPALIVE_IDLE"] == ("tcp_keepalive", "idle")


def test_no_two_keys_of_any_roles_share_a_variable() -> None:
    assert len({variable_of(path) for path in PATHS}) == len(PATHS)
    assert variables_of_every_role() == {variable_of(path) for path in PATHS}


def test_no_two_keys_share_a_flag_and_every_flag_has_a_key() -> None:
    assert len(set(FLAG_OF_KEY.values())) == len(FLAG_OF_KEY)
    assert set(FLAG_OF_KEY) <= {dotted(path) for path in PATHS}


@pytest.mark.parametrize("role", list(Role))
def test_sections_are_not_leaves(role: Role) -> None:
    paths = set(leaves(MODEL_OF_ROLE[role]))
    assert ("tls",) not in paths
    assert ("tls", "cert_file") in paths


def test_suggestions_need_likeness() -> None:
    assert suggestion("sever", ["server", "client"]) == "; did you mean server?"
    assert suggestion("zzz", ["server", "client"]) == ""
