from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import ExitStack
from ipaddress import ip_network

import pytest

from tunneler.addresses import Network
from tunneler.capture.rules import CapturePlan
from tunneler.errors import ConfigError
from tunneler.roles.passed import address_of, require_loopback, require_reach

FOUR, SIX = ip_network("100.64.0.0/10"), ip_network("fd00::/48")


@pytest.fixture
def kept() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def listening(kept: ExitStack, host: str, port: int = 0, *, both: bool = False) -> socket.socket:
    """As a .socket unit makes one; ``both`` is BindIPv6Only=both."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return kept.enter_context(socket.create_server((host, port), family=family, dualstack_ipv6=both))


def plan_for(sock: socket.socket, *networks: Network) -> CapturePlan:
    return CapturePlan(networks, sock.getsockname()[1])


@pytest.mark.parametrize(
    ("host", "shown"), [("127.0.0.1", "127.0.0.1"), ("::ffff:127.0.0.1", "127.0.0.1"), ("::1", "[::1]")]
)
def test_an_address_is_shown_as_it_is_dialled(kept: ExitStack, host: str, shown: str) -> None:
    sock = listening(kept, host, both=host.startswith("::ffff"))
    assert str(address_of(sock)) == f"{shown}:{sock.getsockname()[1]}"


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "::ffff:127.0.0.1"])
def test_plaintext_on_loopback(kept: ExitStack, host: str) -> None:
    require_loopback([listening(kept, host, both=host.startswith("::ffff"))])


@pytest.mark.parametrize("host", ["0.0.0.0", "::"])
def test_plaintext_beyond_loopback(kept: ExitStack, host: str) -> None:
    near, far = listening(kept, "127.0.0.1"), listening(kept, host)
    with pytest.raises(
        ConfigError, match=r"tls\.insecure: plaintext is for loopback addresses only.*listens on"
    ):
        require_loopback([near, far])


def test_one_socket_of_both_families_takes_all(kept: ExitStack) -> None:
    sock = listening(kept, "::", both=True)
    require_reach([sock], plan_for(sock, FOUR, SIX))


def test_a_socket_for_each_family(kept: ExitStack) -> None:
    four = listening(kept, "127.0.0.1")
    six = listening(kept, "::1", four.getsockname()[1])
    require_reach([four, six], plan_for(four, FOUR, SIX))


@pytest.mark.parametrize(
    ("host", "both", "missing"),
    [
        ("0.0.0.0", False, SIX),
        ("::ffff:127.0.0.1", True, SIX),
        ("::", False, FOUR),
        ("::1", True, FOUR),
    ],
)
def test_a_family_that_nobody_takes(kept: ExitStack, host: str, both: bool, missing: object) -> None:
    sock = listening(kept, host, both=both)
    with pytest.raises(ConfigError, match=f"target_cidr: {missing}: the .socket unit takes no IPv"):
        require_reach([sock], plan_for(sock, FOUR, SIX))


def test_what_is_not_captured_needs_no_socket(kept: ExitStack) -> None:
    sock = listening(kept, "127.0.0.1")
    require_reach([sock], plan_for(sock, FOUR))


def test_another_port_than_the_rules(kept: ExitStack) -> None:
    sock, other = listening(kept, "127.0.0.1"), listening(kept, "127.0.0.1")
    with pytest.raises(ConfigError, match=r"listen_port: expected the port of the \.socket unit, which is"):
        require_reach([sock, other], plan_for(sock, FOUR))


def test_without_sockets_there_is_nothing_to_require() -> None:
    require_reach([], CapturePlan((FOUR,), 9999))
    require_loopback([])
