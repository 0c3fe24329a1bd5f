"""What a reload takes on, and what it leaves for the next start."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from tunneler.addresses import HostPort, Role
from tunneler.config.changes import DERIVED, LIVE, changes
from tunneler.config.keys import dotted, leaves
from tunneler.config.model import MODEL_OF_ROLE, ProxyConfig, ServerConfig
from tunneler.config.plain import plain_copy


def server(**options: Any) -> SimpleNamespace:
    return plain_copy(
        ServerConfig.model_validate({"tls": {"insecure": True}, "listen_addr": "[::1]:1", **options})
    )


def proxy(**options: Any) -> SimpleNamespace:
    content = {"tls": {"insecure": True}, "server_addr": "[::1]:1", "managed_cidr": "10.1.0.0/24", **options}
    return plain_copy(ProxyConfig.model_validate(content))


def test_nothing_changed() -> None:
    difference = changes(server(), server())
    assert difference == ((), (), server())


def test_each_key_on_its_side() -> None:
    old = server()
    new = server(
        listen_addr="[::1]:2",
        transport="grpcio",
        limits={"max_links": 7},
        timeouts={"drain": 1},
        log={"level": "debug"},
    )
    difference = changes(old, new)
    assert set(difference.live) == {"limits.max_links", "timeouts.drain", "log.level"}
    assert set(difference.pending) == {"listen_addr", "transport"}
    in_force = difference.config
    assert (in_force.limits.max_links, in_force.timeouts.drain, in_force.log.level) == (7, 1, "debug")
    assert (in_force.listen_addr, in_force.transport) == (HostPort("::1", 1), "native")


def test_what_waits_for_a_restart_is_named_again_each_time() -> None:
    old, new = server(), server(listen_addr="[::1]:2")
    assert changes(changes(old, new).config, new).pending == ("listen_addr",)
    assert changes(changes(old, new).config, old).pending == ()


def test_the_files_of_credentials_may_change_and_their_absence_may_not() -> None:
    files = {"cert_file": "/a", "key_file": "/b", "ca_file": "/c"}
    old, moved = server(tls=files), server(tls={**files, "cert_file": "/d"})
    assert changes(old, moved).live == ("tls.cert_file",)
    assert "tls.insecure" in changes(old, server()).pending


def test_what_is_computed_follows_and_is_not_named() -> None:
    difference = changes(proxy(), proxy(managed_cidr="10.2.0.0/24"))
    assert difference.live == ("managed_cidr",)
    assert difference.config.all_routes == proxy(managed_cidr="10.2.0.0/24").all_routes


@pytest.mark.parametrize("role", list(Role))
def test_what_is_derived_is_what_the_models_compute(role: Role) -> None:
    model = MODEL_OF_ROLE[role]
    sections = {name for name, _ in model.model_fields.items()}
    computed = {
        name
        for base in model.__mro__
        for name, value in vars(base).items()
        if type(value).__name__ in ("property", "cached_property") and base.__module__.startswith("tunneler.")
    }
    assert computed - sections <= DERIVED


def test_every_live_key_is_one() -> None:
    paths = [path for model in MODEL_OF_ROLE.values() for path in leaves(model)]
    assert {dotted(path) for path in paths} | {path[0] for path in paths if len(path) > 1} >= LIVE
