"""What a role needs of its sockets where systemd made them, and so decided on their addresses."""

from __future__ import annotations

import socket
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from tunneler.addresses import HostPort
from tunneler.config.hosts import is_loopback
from tunneler.errors import ConfigError

if TYPE_CHECKING:
    from tunneler.capture.rules import CapturePlan

_MAPPED = "::ffff:"
"""Start of an IPv4 address in a socket of both families: RFC 4291, 2.5.5.2."""


def address_of(sock: socket.socket) -> HostPort:
    """Where a TCP socket listens."""
    host, port = sock.getsockname()[:2]
    return HostPort(host.removeprefix(_MAPPED), port)


def require_loopback(listening: Iterable[socket.socket]) -> None:
    """For plaintext, as configuration requires of addresses that it names itself.

    Raises:
        ConfigError: one of the sockets can be reached from elsewhere.
    """
    for sock in listening:
        address = address_of(sock)
        if not is_loopback(address.host):
            raise ConfigError(
                "tls.insecure",
                "",
                f"plaintext is for loopback addresses only, and the .socket unit listens on {address}: "
                "set tls.cert_file, key_file and ca_file, or ListenStream=127.0.0.1:PORT",
            )


def require_reach(listening: Sequence[socket.socket], plan: CapturePlan) -> None:
    """That what the rules redirect arrives.

    Raises:
        ConfigError: a socket has another port than the rules, or no socket takes a family of addresses
            that is captured.
    """
    for sock in listening:
        found = sock.getsockname()[1]
        if found != plan.listen_port:
            raise ConfigError(
                "listen_port",
                "",
                f"expected the port of the .socket unit, which is {found}, not {plan.listen_port}: "
                "connections are redirected to one port",
            )
    taken = {version for sock in listening for version in _versions(sock)}
    for network in plan.networks:
        if listening and network.version not in taken:
            raise ConfigError(
                "target_cidr",
                str(network),
                f"the .socket unit takes no IPv{network.version}: "
                f"give it ListenStream={plan.listen_port} and BindIPv6Only=both, or one of each family",
            )


def _versions(sock: socket.socket) -> set[int]:
    """The versions of IP by which connections reach a socket: ipv6(7), IPV6_V6ONLY."""
    if sock.family == socket.AF_INET:
        return {4}
    host = sock.getsockname()[0]
    if host.startswith(_MAPPED):
        return {4}
    both = host == "::" and not sock.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY)
    return {4, 6} if both else {6}
