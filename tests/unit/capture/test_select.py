from __future__ import annotations

import socket

import pytest

from tunneler.addresses import HostPort, parse_network
from tunneler.capture import select
from tunneler.capture.rules import CaptureBackend, CapturePlan
from tunneler.capture.select import backend, plan_for
from tunneler.capture.users import uid_of
from tunneler.errors import CaptureError, ExitStatus

NETWORKS = (parse_network("100.64.0.0/10"),)


class FakeBackend:
    def __init__(self, name: str, *, fault: str = "", holds_rules: bool = False) -> None:
        self.name = name
        self._fault = fault
        self._holds_rules = holds_rules

    def install(self, plan: CapturePlan) -> None:
        raise AssertionError("choosing a backend changes nothing")

    def remove(self, *, sparing: bool = False) -> None:
        raise AssertionError("choosing a backend changes nothing")

    def check(self, plan: CapturePlan) -> list[str]:
        return []

    def installed(self) -> bool:
        return self._holds_rules

    def probe(self) -> None:
        if self._fault:
            raise CaptureError(self._fault)


def choose(
    monkeypatch: pytest.MonkeyPatch, *backends: FakeBackend, legacy: bool | None
) -> tuple[CaptureBackend, list[str]]:
    """What auto takes, and the names of the backends that were loaded for it."""
    loaded: list[str] = []
    by_name = {one.name: one for one in backends}

    def make(name: str) -> CaptureBackend:
        loaded.append(name)
        return by_name[name]

    makers = {name: (lambda name=name: make(name)) for name in by_name}
    monkeypatch.setattr(select, "BACKENDS", makers)
    monkeypatch.setattr(select, "table_exists", lambda version, name: legacy)
    return backend("auto"), loaded


def test_auto_takes_nftables_and_does_not_even_load_iptables(monkeypatch: pytest.MonkeyPatch) -> None:
    for legacy in (False, None):
        taken, loaded = choose(monkeypatch, FakeBackend("iptables"), FakeBackend("nftables"), legacy=legacy)
        assert (taken.name, loaded) == ("nftables", ["nftables"])


def test_auto_takes_iptables_where_its_tables_are_used(monkeypatch: pytest.MonkeyPatch) -> None:
    assert (
        choose(monkeypatch, FakeBackend("iptables"), FakeBackend("nftables"), legacy=True)[0].name
        == "iptables"
    )


def test_auto_finds_its_rules_again(monkeypatch: pytest.MonkeyPatch) -> None:
    ours = FakeBackend("nftables", holds_rules=True)
    assert choose(monkeypatch, FakeBackend("iptables"), ours, legacy=True)[0] is ours


def test_auto_takes_what_works(monkeypatch: pytest.MonkeyPatch) -> None:
    broken, works = FakeBackend("nftables", fault="x"), FakeBackend("iptables")
    assert choose(monkeypatch, broken, works, legacy=False)[0] is works
    broken, works = FakeBackend("iptables", fault="x"), FakeBackend("nftables")
    assert choose(monkeypatch, broken, works, legacy=True)[0] is works


@pytest.mark.parametrize("legacy", [True, False])
def test_auto_without_any_filter_says_why(monkeypatch: pytest.MonkeyPatch, legacy: bool) -> None:
    backends = FakeBackend("iptables", fault="no modules"), FakeBackend("nftables", fault="no library")
    with pytest.raises(CaptureError, match="iptables: no modules") as caught:
        choose(monkeypatch, *backends, legacy=legacy)
    assert "nftables: no library" in str(caught.value)


def test_the_addresses_of_servers_are_not_captured() -> None:
    servers = [HostPort("100.64.9.9", 8081), HostPort("2001:db8::9", 8081), HostPort("localhost", 8081)]
    plan = plan_for(
        networks=NETWORKS, listen_port=9999, exclude=[parse_network("100.64.2.0/24")], servers=servers
    )
    for network in ("100.64.9.9", "2001:db8::9", "100.64.2.0/24", "127.0.0.0/8", "::1"):
        assert parse_network(network) in plan.excluded


def test_every_address_of_a_name_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    def resolve(host: str, port: int, **_: object) -> list[tuple[object, ...]]:
        assert (host, port) == ("relay.example", 8081)
        ipv4 = [(socket.AF_INET, 1, 6, "", (f"192.0.2.{last}", port)) for last in (1, 3)]
        return [*ipv4, (socket.AF_INET6, 1, 6, "", ("fe80::1%eth0", port, 0, 2))]

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    plan = plan_for(networks=NETWORKS, listen_port=9999, servers=[HostPort("relay.example", 8081)])
    assert set(map(parse_network, ("192.0.2.1", "192.0.2.3", "fe80::1"))) <= set(plan.excluded)


def test_an_unknown_server_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def resolve(*_: object, **__: object) -> None:
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    with pytest.raises(CaptureError, match=r"relay\.example:8081: cannot find the server's address"):
        plan_for(networks=NETWORKS, listen_port=9999, servers=[HostPort("relay.example", 8081)])


def test_an_impossible_name_is_an_error() -> None:
    with pytest.raises(CaptureError, match="cannot find the server's address"):
        plan_for(networks=NETWORKS, listen_port=9999, servers=[HostPort("a" * 64 + ".example", 8081)])


def test_no_user_may_be_written_as_nothing() -> None:
    assert plan_for(networks=NETWORKS, listen_port=9999, user="").user is None


def test_users_have_names_or_numbers() -> None:
    assert uid_of("root") == 0
    assert uid_of("4000000000") == 4_000_000_000
    with pytest.raises(CaptureError, match="no user 'nosuchuser'") as caught:
        uid_of("nosuchuser")
    assert caught.value.exit_status is ExitStatus.USAGE
    with pytest.raises(CaptureError, match="larger than any"):
        uid_of(str(2**32 - 1))
