"""A role's life: its rules, its stop by request and by force, and the end of idle connections."""

from __future__ import annotations

import select
import signal
import time
from collections.abc import Iterator

import pytest

from testbed import Host, Lab
from testbed.suite import TARGET, Member, Suite
from tests.namespaces.applications import (
    TIMEOUT,
    Download,
    Pair,
    attempt,
    connect,
    listen,
    receive_exactly,
    wait_for_path,
    who_is_reached,
)

KINDS = {
    "client-iptables": {"capture": {"backend": "iptables"}},
    "client-nftables": {"capture": {"backend": "nftables"}},
    "server": {},
    "proxy": {},
}
"""Each role, and the client with each packet filter: that is in the path of what it carries."""
ALL_RULES = "nft list ruleset; iptables-legacy-save; ip6tables-legacy-save"
AT_ONCE = 2.0
"""Seconds that a role may take to end when nothing is to be waited for; its Python ends, too."""


@pytest.fixture(scope="module")
def suite(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Suite]:
    quick = {"timeouts": {"backoff_cap": 0.5}}
    with Suite(lab, tmp_path_factory.mktemp("suite")) as suite:
        suite.add_three_roles(proxy=quick, client=quick)
        suite.start()
        yield suite


@pytest.fixture(params=KINDS)
def member(request: pytest.FixtureRequest, working: Suite) -> Member:
    """Each kind in its turn; restored after the test."""
    kind: str = request.param
    member = working[kind.partition("-")[0]]
    if KINDS[kind]:
        member.restart(KINDS[kind])
    return member


# ---------------------------------------------------------------------------- rules


@pytest.fixture
def decoy(lab: Lab) -> Iterator[Host]:
    """The server's host has the captured address too: what is not captured ends there."""
    host = lab.host("server")
    host.run("ip", "address", "add", f"{TARGET}/32", "dev", "lo")
    yield host
    host.run("ip", "address", "del", f"{TARGET}/32", "dev", "lo")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("backend", ["iptables", "nftables"])
def test_the_client_brings_its_rules_and_takes_them_away(
    working: Suite, client: Host, target: Host, decoy: Host, backend: str, number: signal.Signals
) -> None:
    working.client.restart({"capture": {"backend": backend}})
    assert who_is_reached(client, TARGET, target, decoy) == "target at 192.168.1.5"
    assert working.client.stop(number) == 0
    assert who_is_reached(client, TARGET, target, decoy) == f"server at {TARGET}"
    assert "tunneler" not in client.run("bash", "-c", ALL_RULES).stdout.lower()


# ---------------------------------------------------------------------------- stopping


def test_drain_finishes_what_is_open(member: Member, client: Host, target: Host) -> None:
    """SIGTERM during a download: it finishes, nothing new begins, the exit status is 0."""
    with Download(wait_for_pair(client, target)) as download:
        download.advance()
        member.process.send_signal(signal.SIGTERM)
        member.wait_for("draining")
        download.advance()
        with listen(target) as listener:
            if member.name == "client":  # it captures no more: nobody is there who could refuse
                with pytest.raises(ConnectionRefusedError):
                    connect(client, 9999, "127.0.0.1")
            else:
                outcome = attempt(client, listener.getsockname()[1])
                assert outcome.result == "ECONNRESET"
                assert outcome.seconds < 1
        download.advance()
        assert member.running
        download.finish()
    started = time.monotonic()
    assert member.process.wait(TIMEOUT) == 0
    assert time.monotonic() - started < AT_ONCE


def test_drain_has_a_deadline(member: Member, client: Host, target: Host) -> None:
    member.restart({"timeouts": {"drain": 1.0}})
    with wait_for_pair(client, target) as pair:
        started = time.monotonic()
        member.process.send_signal(signal.SIGTERM)
        for end in (pair.application, pair.target):
            with pytest.raises(ConnectionResetError):
                end.recv(1)
        assert 0.9 < time.monotonic() - started < 1 + AT_ONCE
    assert member.process.wait(AT_ONCE) == 0


def test_a_second_signal_ends_at_once(member: Member, client: Host, target: Host) -> None:
    pair = wait_for_pair(client, target)
    member.process.send_signal(signal.SIGTERM)
    member.wait_for("draining")
    started = time.monotonic()
    member.process.send_signal(signal.SIGTERM)
    assert member.process.wait(TIMEOUT) == 0
    assert time.monotonic() - started < AT_ONCE
    with pair:
        for end in (pair.application, pair.target):
            with pytest.raises(ConnectionResetError):
                end.recv(1)
    if member.name == "client":
        assert "tunneler" not in client.run("bash", "-c", ALL_RULES).stdout.lower()


def wait_for_pair(client: Host, target: Host) -> Pair:
    wait_for_path(client, target, TIMEOUT)
    return Pair.open(client, target)


# ---------------------------------------------------------------------------- idling


def test_an_idle_connection_is_reset(member: Member, client: Host, target: Host) -> None:
    """Each role has the timeout, and one of them is enough."""
    member.restart({"timeouts": {"idle": 1.0}})
    with wait_for_pair(client, target) as idle, Pair.open(client, target) as busy:
        started = time.monotonic()
        while not select.select([idle.application], [], [], 0.2)[0]:
            busy.application.sendall(b"still here")
            assert receive_exactly(busy.target, 10) == b"still here"
            assert time.monotonic() - started < 4
        assert time.monotonic() - started > 0.9
        for end in (idle.application, idle.target):
            with pytest.raises(ConnectionResetError):
                end.recv(1)
        busy.target.sendall(b"as ever")
        assert receive_exactly(busy.application, 7) == b"as ever"
    assert member.wait_for("connection_closed", cause="idle")
