"""What cannot work fails at once, and truthfully, instead of hanging."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from testbed import Host, Lab
from testbed.suite import Suite
from tests.namespaces.applications import attempt, wait_for_path

AT_ONCE = 1.0
"""Seconds within which an application must hear of a failure that is known at once."""
DIAL_TIMEOUT = 1.0

REFUSED_PORT = 81
SILENT_PORT = 4444
FILTERED_PORT = 4445

PREPARE_TARGET = f"""
iptables-legacy -A INPUT -p tcp --dport {SILENT_PORT} -j DROP
iptables-legacy -A INPUT -p tcp --dport {FILTERED_PORT} -j REJECT --reject-with icmp-admin-prohibited
"""
PREPARE_PROXY = """
ip route add prohibit 192.168.1.98
ip route add unreachable 192.168.1.99
"""


@pytest.fixture(scope="module")
def suite(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Suite]:
    lab.host("target").run("bash", "-euc", PREPARE_TARGET)
    lab.host("proxy").run("bash", "-euc", PREPARE_PROXY)
    with Suite(lab, tmp_path_factory.mktemp("suite")) as suite:
        suite.add_three_roles(
            proxy={"timeouts": {"dial": DIAL_TIMEOUT, "backoff_cap": 0.5}},
            client={"timeouts": {"backoff_cap": 0.5}},
        )
        suite.start()
        yield suite


def refused(suite: Suite, host: Host, port: int, address: str) -> tuple[str, float]:
    """Why, says the client's log, and the seconds after which the application saw a reset."""
    mark = suite.client.mark()
    outcome = attempt(host, port, address)
    assert outcome.result in ("ECONNRESET", "ECONNREFUSED")
    event = suite.client.wait_for("connection_refused", since=mark)
    assert event["original_target"] == f"{address}:{port}"
    print(f"{address}:{port}: {event['cause']} after {outcome.seconds * 1000:.0f} ms")
    return str(event["cause"]), outcome.seconds


@pytest.mark.parametrize(
    ("address", "port", "cause"),
    [
        ("100.64.1.5", REFUSED_PORT, "refused"),
        ("100.64.1.5", FILTERED_PORT, "unreachable"),
        ("100.64.1.98", 80, "denied"),
        ("100.64.1.99", 80, "unreachable"),
        ("100.64.77.5", 80, "no_route"),
        ("100.127.255.254", 80, "no_route"),
    ],
)
def test_a_failure_known_at_once(suite: Suite, client: Host, address: str, port: int, cause: str) -> None:
    said, seconds = refused(suite, client, port, address)
    assert said == cause
    assert seconds < AT_ONCE


def test_a_silent_target(suite: Suite, client: Host) -> None:
    cause, seconds = refused(suite, client, SILENT_PORT, "100.64.1.5")
    assert cause == "timeout"
    assert DIAL_TIMEOUT * 0.9 < seconds < DIAL_TIMEOUT + 1


def test_without_a_proxy(suite: Suite, client: Host, target: Host) -> None:
    suite.proxy.kill()
    suite.server.wait_for("link_down", peer="proxy/proxy#proxy-1")
    cause, seconds = refused(suite, client, 80, "100.64.1.5")
    assert cause == "no_route"
    assert seconds < AT_ONCE
    suite.start()
    wait_for_path(client, target, 10)


def test_without_a_link(suite: Suite, client: Host, target: Host) -> None:
    mark = suite.client.mark()
    suite.server.kill()
    suite.client.wait_for("link_down", since=mark)
    cause, seconds = refused(suite, client, 80, "100.64.1.5")
    assert cause == "link_lost"
    assert seconds < AT_ONCE
    suite.start()
    wait_for_path(client, target, 10)
