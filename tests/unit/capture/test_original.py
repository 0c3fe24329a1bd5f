from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, suppress

import pytest

from tunneler.addresses import Endpoint, parse_network
from tunneler.capture.original import (
    IP6T_SO_ORIGINAL_DST,
    SO_ORIGINAL_DST,
    DestinationCheck,
    accepted_at,
    original_destination,
)
from tunneler.capture.rules import CapturePlan
from tunneler.errors import CaptureError

HERE = Endpoint.of("127.0.0.1", 9999)
PLAN = CapturePlan(
    (parse_network("100.64.0.0/10"), parse_network("2001:db8::/32"), parse_network("10.1.2.3")),
    9999,
    (parse_network("100.64.2.0/24"), parse_network("10.1.0.0/16")),
)

Accept = Callable[[str, str], socket.socket]


@pytest.fixture
def accept() -> Iterator[Accept]:
    """A listener's end of a connection over loopback, which nobody redirected."""
    with ExitStack() as stack:

        def accept(listen: str, connect: str) -> socket.socket:
            family = socket.AF_INET6 if ":" in listen else socket.AF_INET
            listener = stack.enter_context(
                socket.create_server((listen, 0), family=family, dualstack_ipv6=listen == "::")
            )
            port = listener.getsockname()[1]
            stack.enter_context(closing(socket.create_connection((connect, port), 5)))
            return stack.enter_context(closing(listener.accept()[0]))

        yield accept


@pytest.mark.parametrize("address", ["100.64.1.5", "100.127.255.255", "2001:db8::1"])
def test_captured_destinations_are_carried(address: str) -> None:
    assert DestinationCheck(PLAN).refuse_reason(Endpoint.of(address, 80), HERE) is None


@pytest.mark.parametrize(
    ("address", "reason"),
    [
        ("100.128.0.0", "outside the captured networks"),
        ("203.0.113.1", "outside the captured networks"),
        ("2001:db9::", "outside the captured networks"),
        ("127.0.0.1", "outside the captured networks"),
        ("100.64.2.255", "excluded"),
        ("10.1.2.3", "excluded"),  # although the captured prefix is the longer one
    ],
)
def test_foreign_destinations_are_refused(address: str, reason: str) -> None:
    refused = DestinationCheck(PLAN).refuse_reason(Endpoint.of(address, 80), HERE)
    assert refused is not None
    assert reason in refused
    assert address in refused


def test_loops_are_refused() -> None:
    own = Endpoint.of("100.64.1.1", 9999)
    assert "loop" in str(DestinationCheck(PLAN).refuse_reason(own, own))
    assert "loop" in str(DestinationCheck(PLAN, listeners=[own]).refuse_reason(own, HERE))
    assert DestinationCheck(PLAN, listeners=[own]).refuse_reason(own._replace(port=80), own) is None


def test_loopback_is_refused_even_if_everything_is_captured() -> None:
    everything = CapturePlan((parse_network("0.0.0.0/0"), parse_network("::/0")), 9999)
    for address in ("127.0.0.1", "::1"):
        assert "excluded" in str(DestinationCheck(everything).refuse_reason(Endpoint.of(address, 22), HERE))


@pytest.mark.parametrize(
    ("listen", "connect"), [("127.0.0.1", "127.0.0.1"), ("::1", "::1"), ("::", "127.0.0.1"), ("::", "::1")]
)
def test_a_direct_connection_is_never_carried(accept: Accept, listen: str, connect: str) -> None:
    """Whether the kernel names no destination or the listener itself depends on connection tracking."""
    connection = accept(listen, connect)
    with suppress(CaptureError):
        original = original_destination(connection)
        assert "loop" in str(DestinationCheck(PLAN).refuse_reason(original, accepted_at(connection)))


@pytest.mark.parametrize(
    ("listen", "connect"), [("127.0.0.1", "127.0.0.1"), ("::1", "::1"), ("::", "127.0.0.1"), ("::", "::1")]
)
def test_accepted_at_names_the_address_that_the_peer_used(accept: Accept, listen: str, connect: str) -> None:
    connection = accept(listen, connect)
    assert accepted_at(connection) == Endpoint.of(connect, connection.getsockname()[1])


class FakeSocket:
    """The kernel's part of an accepted socket that was redirected."""

    def __init__(
        self, family: socket.AddressFamily, local: str, options: dict[tuple[int, int], bytes]
    ) -> None:
        self.family = family
        self._local = local
        self._options = options

    def getsockname(self) -> tuple[str, int]:
        return self._local, 9999

    def getsockopt(self, level: int, option: int, size: int) -> bytes:
        answer = self._options.get((level, option))
        if answer is None:
            raise OSError(2, "No such file or directory")
        assert len(answer) == size
        return answer


SOCKADDR_IN = bytes.fromhex("0200 0050 64400105 0000000000000000")
SOCKADDR_IN6 = bytes.fromhex("0a00 01bb 00000000 20010db8000000000000000000000005 00000000")
V4 = {(socket.SOL_IP, SO_ORIGINAL_DST): SOCKADDR_IN}
V6 = {(socket.IPPROTO_IPV6, IP6T_SO_ORIGINAL_DST): SOCKADDR_IN6}


@pytest.mark.parametrize(
    ("family", "local", "options", "original"),
    [
        (socket.AF_INET, "127.0.0.1", V4, "100.64.1.5:80"),
        (socket.AF_INET6, "::1", V6, "[2001:db8::5]:443"),
        (socket.AF_INET6, "::ffff:127.0.0.1", V4, "100.64.1.5:80"),
    ],
)
def test_the_option_is_chosen_by_the_connection(
    family: socket.AddressFamily, local: str, options: dict[tuple[int, int], bytes], original: str
) -> None:
    assert str(original_destination(FakeSocket(family, local, options))) == original  # type: ignore[arg-type]


def test_no_answer_is_a_capture_error() -> None:
    with pytest.raises(CaptureError, match="nobody redirected"):
        original_destination(FakeSocket(socket.AF_INET, "127.0.0.1", {}))  # type: ignore[arg-type]
