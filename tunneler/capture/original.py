"""Where a captured connection was going, and whether it may be carried there."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterable
from ipaddress import IPv4Address, IPv6Address

from tunneler.addresses import Endpoint, PrefixTable, address_of
from tunneler.capture.rules import CapturePlan
from tunneler.errors import CaptureError

SO_ORIGINAL_DST = 80
"""Option of SOL_IP: linux/netfilter_ipv4.h. It needs no capability."""
IP6T_SO_ORIGINAL_DST = 80
"""Option of SOL_IPV6: linux/netfilter_ipv6/ip6_tables.h."""
SOL_IPV6 = socket.IPPROTO_IPV6

SOCKADDR_IN = struct.Struct("!2xH4s8x")
"""ip(7), without sin_family, which the option tells already."""
SOCKADDR_IN6 = struct.Struct("!2xH4x16s4x")
"""ipv6(7), without sin6_family, and without flow label and scope: neither can be tunnelled."""


def original_destination(sock: socket.socket) -> Endpoint:
    """Where the peer meant to connect to when netfilter brought it to this accepted socket.

    For a connection that nobody redirected the kernel may answer with the socket's own address,
    if connection tracking is active: :class:`DestinationCheck` refuses those.

    Raises:
        CaptureError: the kernel knows no original destination.
    """
    try:
        if sock.family == socket.AF_INET or _is_mapped(sock):
            answer = sock.getsockopt(socket.SOL_IP, SO_ORIGINAL_DST, SOCKADDR_IN.size)
            port, packed = SOCKADDR_IN.unpack(answer)
            return Endpoint(address_of(packed), port)
        answer = sock.getsockopt(SOL_IPV6, IP6T_SO_ORIGINAL_DST, SOCKADDR_IN6.size)
        port, packed = SOCKADDR_IN6.unpack(answer)
        return Endpoint(address_of(packed), port)
    except OSError as error:
        raise CaptureError(
            f"no original destination, as nobody redirected this connection: {error}"
        ) from error


def accepted_at(sock: socket.socket) -> Endpoint:
    """The listener's address as the peer reached it; ``::ffff:192.0.2.1`` is 192.0.2.1.

    Raises:
        OSError: the socket is closed.
    """
    host, port = sock.getsockname()[:2]
    if sock.family == socket.AF_INET:
        return Endpoint(IPv4Address(host), port)
    address = IPv6Address(host)
    return Endpoint(address.ipv4_mapped or address, port)


def _is_mapped(sock: socket.socket) -> bool:
    """Whether an IPv6 socket carries an IPv4 connection, of which only SOL_IP knows."""
    host: str = sock.getsockname()[0]
    return host.startswith("::ffff:")


class DestinationCheck:
    """Which original destinations a client carries: those that its own rules could have captured.

    Whoever connects to the listener directly must not get it to dial for him.

    Args:
        plan: what is captured.
        listeners: addresses that the listener is bound to, as far as they are specific; of a
            wildcard address, ``accepted_at`` tells.
    """

    def __init__(self, plan: CapturePlan, listeners: Iterable[Endpoint] = ()) -> None:
        self._listeners = frozenset(listeners)
        self._captured = PrefixTable[bool]()
        self._excluded = PrefixTable[bool]()
        for network in plan.networks:
            self._captured[network] = True
        for network in plan.excluded:
            self._excluded[network] = True

    def refuse_reason(self, original: Endpoint, accepted_at: Endpoint | None) -> str | None:
        """Why a connection to ``original`` must be refused; None: it may be carried.

        Args:
            original: where the peer was going.
            accepted_at: where the listener got it; see :func:`accepted_at`. None if that has
                another port than ``original``.
        """
        if original == accepted_at or original in self._listeners:
            return f"{original} is the capture listener itself: carrying it would be a loop"
        if self._captured.longest_match(original.address) is None:
            return f"{original} is outside the captured networks: nothing here would have captured it"
        # As in the rules: an exclusion counts even if a longer captured prefix lies inside it.
        if self._excluded.longest_match(original.address) is not None:
            return f"{original} is in an excluded network: nothing here would have captured it"
        return None
