"""Listening sockets, and taking what arrives there."""

from __future__ import annotations

import errno
import socket
from collections.abc import Callable
from pathlib import Path

from tunneler.addresses import HostPort
from tunneler.errors import TransportError
from tunneler.sockets.calls import TRY_AGAIN
from tunneler.sockets.reactor import READ, Reactor

ACCEPTS_PER_TURN = 64
BACKLOG = 4096
"""What Linux allows by default (net.core.somaxconn since 5.4)."""

EXHAUSTED = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
"""Failures of accept(2) that leave the connection in the queue: trying again at once would spin."""

_IPV6_ADDRESSES = Path("/proc/net/if_inet6")
"""Absent where the kernel has no IPv6, or it is disabled."""


def has_ipv6() -> bool:
    """Whether an IPv6 socket can be listened on here."""
    return socket.has_ipv6 and _IPV6_ADDRESSES.exists()


def listen(host: str, port: int) -> socket.socket:
    """Bind a listening socket; an IPv6 one takes IPv6 only, so that both families can have the port.

    Raises:
        TransportError: the address cannot be had.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind((host, port))
        sock.listen(BACKLOG)
        sock.setblocking(False)
    except OSError as error:
        sock.close()
        raise TransportError(
            f"cannot listen on {HostPort(host, port)}: {error.strerror}; is another program using it?"
        ) from error
    return sock


class Acceptor:
    """Accepts connections from one listening socket; owns the socket.

    Args:
        accepted: given each connection, and its peer's host and port. The connection has the
            options of the listening socket (TCP_NODELAY and keepalive, in Linux), but blocks.
        report: told, as an event and its fields, when the kernel has no room for more.
        held: accept nothing before :meth:`begin`; until then, connections wait in the kernel's queue.
    """

    def __init__(
        self,
        sock: socket.socket,
        reactor: Reactor,
        accepted: Callable[[socket.socket, tuple[str, int]], None],
        report: Callable[..., None],
        *,
        held: bool = False,
    ) -> None:
        self.socket = sock
        self._reactor = reactor
        self._accepted = accepted
        self._report = report
        self._paused = False
        reactor.register(sock.fileno(), 0 if held else READ, self._ready)

    def begin(self) -> None:
        """Accept what waits, and what comes."""
        self._paused = False
        self._reactor.modify(self.socket.fileno(), READ)

    def tick(self) -> None:
        """Try again after file descriptors ran out."""
        if self._paused:
            self.begin()

    def close(self) -> None:
        self._reactor.unregister(self.socket.fileno())  # for systemd keeps it open, and epoll would watch it
        self.socket.close()

    def _ready(self, events: int) -> None:
        for _ in range(ACCEPTS_PER_TURN):
            try:
                sock, address = self.socket.accept()
            except TRY_AGAIN:
                return
            except OSError as error:
                if error.errno in EXHAUSTED:
                    self._pause(error)
                    return
                continue  # the connection was gone before we took it: accept(2), ECONNABORTED and others
            self._accepted(sock, address[:2])

    def _pause(self, error: OSError) -> None:
        self._paused = True
        self._reactor.modify(self.socket.fileno(), 0)
        self._report("accept_paused", error=error.strerror, hint="raise LimitNOFILE= or ulimit -n")
