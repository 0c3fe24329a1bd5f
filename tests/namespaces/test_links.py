"""Links come back by themselves, and a peer that says nothing is dead."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import pytest

from testbed import Host, Lab, standard_topology
from testbed.suite import PORT, Suite
from tests.namespaces.applications import Pair, attempt, receive_exactly, wait_for_path
from tunneler.addresses import Role

TARGET2 = "100.64.10.5"
SILENCE = 15.0
"""Seconds: the product's promise, and its default."""


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with Lab(standard_topology(second_site=True)) as lab:
        yield lab


@pytest.fixture(scope="module")
def suite(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Suite]:
    with Suite(lab, tmp_path_factory.mktemp("suite")) as suite:
        suite.add_three_roles(proxy={"timeouts": {"backoff_cap": 1.0, "handshake": 2.0}})
        second = {
            "server_addr": f"{lab.host('server').address_on('uplink2')}:{PORT}",
            "proxy_id": "proxy-2",
            "managed_cidr": "10.0.10.0/24",
        }
        suite.add(Role.PROXY, second, name="proxy2")
        suite.start()
        yield suite


def say(pair: Pair, text: bytes = b"hello") -> None:
    pair.application.sendall(text)
    assert receive_exactly(pair.target, len(text)) == text
    pair.target.sendall(text)
    assert receive_exactly(pair.application, len(text)) == text


def test_links_come_back_after_the_server_was_killed(working: Suite, client: Host, target: Host) -> None:
    with Pair.open(client, target) as pair:
        working.server.kill()
        for end in (pair.application, pair.target):
            with pytest.raises(ConnectionResetError):
                end.recv(1)
    marks = {name: working[name].mark() for name in ("client", "proxy", "proxy2")}
    working.server.start()
    working.server.wait_ready()
    seconds = wait_for_path(client, target, 10)
    print(f"the path works {seconds:.2f} s after the server listens again")
    for name, mark in marks.items():
        working[name].wait_for("link_up" if name == "client" else "registered", since=mark)


@pytest.fixture
def uplink(lab: Lab) -> Iterator[Callable[[str], None]]:
    """Takes the proxy's cable to the server ``down`` and ``up``; up again after the test."""

    def turn(state: str) -> None:
        lab.host("proxy").run("ip", "link", "set", "uplink", state)

    yield turn
    turn("up")


@pytest.mark.timeout(120)
def test_a_dead_peer_is_found_and_costs_nobody_else_anything(
    working: Suite, lab: Lab, client: Host, target: Host, uplink: Callable[[str], None]
) -> None:
    server = working.server
    with Pair.open(client, target) as lost, Pair.open(client, lab.host("target2"), TARGET2) as other:
        say(lost)
        mark = server.mark()
        uplink("down")
        cut = time.monotonic()
        slowest = 0.0
        while not server.events("link_down", since=mark, peer="proxy/proxy#proxy-1"):
            before = time.monotonic()
            say(other)
            slowest = max(slowest, time.monotonic() - before)
            assert time.monotonic() - cut < SILENCE + 2
        print(
            f"found dead after {time.monotonic() - cut:.1f} s; slowest other exchange {slowest * 1e3:.0f} ms"
        )
        assert server.events("link_down", since=mark)[0]["cause"] == "silent"
        assert slowest < 1
        with pytest.raises(ConnectionResetError):
            lost.application.recv(1)
        mark = working.client.mark()
        outcome = attempt(client, 80)
        assert outcome.result == "ECONNRESET"
        assert outcome.seconds < 1
        assert working.client.wait_for("connection_refused", since=mark)["cause"] == "no_route"
        say(other)
        # By now the proxy knows, too: it heard nothing either.
        working.proxy.wait_for("link_down", SILENCE)
        with pytest.raises(ConnectionResetError):
            lost.target.recv(1)
        uplink("up")
        print(f"healed after {wait_for_path(client, target, 10):.1f} s")
        say(other)


def test_a_newer_link_of_the_same_instance_replaces_the_older(
    working: Suite, client: Host, target: Host
) -> None:
    older = working.proxy
    twin = working.add(Role.PROXY, older.settings, name="twin", host="proxy")
    mark = older.mark()
    twin.start()
    twin.wait_ready()
    assert older.wait_for("link_down", since=mark)["cause"] == "replaced"
    wait_for_path(client, target, 5)
    with Pair.open(client, target) as pair:
        say(pair)
        source = "{}:{}".format(*pair.application.getsockname())
        twin.wait_for("connection_opened", source=source)
    assert not older.events("connection_opened", source=source)
    # Without a pause the two would take the link from each other for ever.
    assert older.wait_for("link_retry", since=mark)["seconds"] >= 0.4
