from __future__ import annotations

import pickle
from ipaddress import IPv4Network
from types import SimpleNamespace
from typing import Any

import pytest

from tunneler.addresses import HostPort, Role
from tunneler.config.keys import leaves
from tunneler.config.model import MODEL_OF_ROLE, ClientConfig, ProxyConfig, RoleConfig, ServerConfig
from tunneler.config.plain import plain_copy

TLS = {"insecure": True}
CONFIGURATIONS: dict[Role, RoleConfig] = {
    Role.CLIENT: ClientConfig.model_validate({"tls": TLS, "server_addr": "127.0.0.1:1"}),
    Role.SERVER: ServerConfig.model_validate({"tls": TLS, "listen_addr": "127.0.0.1:1"}),
    Role.PROXY: ProxyConfig.model_validate(
        {"tls": TLS, "server_addr": "127.0.0.1:1", "managed_cidr": "192.168.1.0/24"}
    ),
}


def value_at(config: Any, path: tuple[str, ...]) -> object:
    for name in path:
        config = getattr(config, name)
    return config


@pytest.mark.parametrize("role", list(Role))
def test_every_key_has_the_same_value(role: Role) -> None:
    config = CONFIGURATIONS[role]
    copy = plain_copy(config)
    for path in leaves(MODEL_OF_ROLE[role]):
        assert value_at(copy, path) == value_at(config, path)


@pytest.mark.parametrize("role", list(Role))
def test_it_travels_and_holds_nothing_of_pydantic(role: Role) -> None:
    packed = pickle.dumps(plain_copy(CONFIGURATIONS[role]))
    assert b"pydantic" not in packed
    assert b"tunneler.config" not in packed
    assert pickle.loads(packed) == plain_copy(CONFIGURATIONS[role])  # noqa: S301 - made here


def test_what_is_computed_is_there_too() -> None:
    copy = plain_copy(CONFIGURATIONS[Role.PROXY])
    assert [route.virtual for route in copy.all_routes] == [
        IPv4Network("192.168.1.0/24"),
        IPv4Network("100.64.1.0/24"),
    ]
    assert copy.link_addresses == (HostPort("127.0.0.1", 1),)
    assert isinstance(copy.timeouts, SimpleNamespace)
