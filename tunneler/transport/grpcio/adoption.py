"""gRPC on a socket that systemd listens on.

gRPC's Python package cannot be given a listening socket: it binds its own. With SO_REUSEPORT both
can have the address, and form a group, of which the kernel gives each new connection to one:

    waiting     the service is not there: connections queue at systemd's socket, which is alone
    joined      gRPC listens beside it; a one-instruction program, "return 1", gives everything
                that is new to the second of the group. It is attached before gRPC binds: without it,
                half of what arrives would go on queueing where nobody takes it
    announced   systemd knows that we work, and no longer looks at its socket (else the next step would
                look to it like a socket that broke)
    taken over  what had queued at systemd's socket has moved to gRPC's; see below

When gRPC's socket goes away, killed or closed, systemd's is alone again: the kernel then ignores a
program that names a socket which is not there. No connection is refused in any of these states.

What had queued moves when systemd's socket stops to listen, if net.ipv4.tcp_migrate_req is 1: then
the kernel gives its queue, handshakes and unread bytes included, to another of the group, and does
the same with gRPC's queue when that closes. The socket listens again at once, and has become the
second of the group, so the program is "return 0" from then on.

With tcp_migrate_req at 0, which is the default, to stop listening would reset all that. What has
queued is accepted and closed instead: those peers dial again, and reach gRPC. (To pass their
bytes on by hand would spare them that, but for as long as the connection lives, which for a
link is days; and every peer would seem to be this host.)

A group needs one owner: the kernel compares the user id that each socket belongs to, and systemd's
belongs to root. A unit with CAP_CHOWN and nothing else gives it away, before this process starts: see
tunneler-server-sockets.service.

Sources: net/core/sock_reuseport.c, net/ipv4/inet_connection_sock.c and inet_hashtables.c in Linux;
Documentation/networking/ip-sysctl.rst (tcp_migrate_req, Linux 5.14); socket(7).
"""

from __future__ import annotations

import asyncio
import os
import socket
import struct
from array import array
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

from tunneler.addresses import HostPort
from tunneler.errors import ConfigError
from tunneler.sockets.acceptor import BACKLOG
from tunneler.sockets.calls import TRY_AGAIN, reset

MIGRATE_REQ: Final = Path("/proc/sys/net/ipv4/tcp_migrate_req")
"""Of the network namespace; for IPv6, too."""

SO_ATTACH_REUSEPORT_CBPF: Final = 51
"""asm-generic/socket.h, Linux 4.5; needs no privilege."""
BPF_RET_K: Final = 0x06
"""``return constant``: BPF_RET | BPF_K in linux/bpf_common.h."""
SECOND, FIRST = 1, 0
"""Places in the group, as the program names them."""

TCP_INFO_UNACKED: Final = struct.Struct("=24xI")
"""Of struct tcp_info: how many connections wait, if the socket listens (tcp_get_info in net/ipv4/tcp.c)."""


class AdoptedSocket:
    """One of systemd's sockets, beside which gRPC is to listen.

    Args:
        sock: it is closed with the object.
        report: told, as an event and its fields, of peers that have to dial again.

    Raises:
        ConfigError: gRPC cannot listen beside it, and what its unit lacks.
    """

    def __init__(self, sock: socket.socket, report: Callable[..., None]) -> None:
        self._sock = sock
        self._report = report
        self._watched = False
        self._require_a_form_that_grpc_binds()
        self._own()
        attach(sock, SECOND)

    @property
    def target(self) -> str:
        """Where gRPC is to listen, as it takes it."""
        return str(HostPort(*self._sock.getsockname()[:2]))

    async def take_over(self, *, unwatched: bool) -> None:
        """Have gRPC serve what arrived before it did.

        Args:
            unwatched: the service manager does not look at the socket any more.
        """
        if not unwatched or not migrates():
            self._turn_away_for_good()
            return
        waiting = waiting_connections(self._sock)
        attach(self._sock, FIRST)
        self._sock.shutdown(socket.SHUT_RD)
        self._sock.listen(BACKLOG)
        if waiting:
            await self._wake()

    def close(self) -> None:
        """Leave the socket to systemd alone."""
        if self._watched:
            asyncio.get_running_loop().remove_reader(self._sock.fileno())
        self._sock.close()

    def _require_a_form_that_grpc_binds(self) -> None:
        sock = self._sock
        port = sock.getsockname()[1]
        if sock.family != socket.AF_INET6 or sock.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY):
            raise _fault(
                sock,
                f"write ListenStream={port} and BindIPv6Only=both, or an IPv4 address as "
                f"[::ffff:192.0.2.1]:{port}: gRPC listens on IPv6 sockets that take IPv4, too",
            )
        if not sock.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT):
            raise _fault(sock, "set ReusePort=yes: gRPC listens beside it")

    def _own(self) -> None:
        """Be the owner, which may need CAP_CHOWN."""
        if os.fstat(self._sock.fileno()).st_uid == os.geteuid():
            return
        try:
            os.fchown(self._sock.fileno(), os.geteuid(), -1)
        except PermissionError as error:
            raise _fault(
                self._sock, "it belongs to another user; let tunneler-server-sockets.service run before"
            ) from error

    async def _wake(self) -> None:
        """Have gRPC look at its queue: not every kernel tells it of what was moved there.

        Linux before "tcp: call sk_data_ready() after listener migration".
        """
        host, port = self._sock.getsockname()[:2]
        nobody = socket.socket(socket.AF_INET6)
        with nobody:
            nobody.setblocking(False)
            with suppress(OSError):
                await asyncio.get_running_loop().sock_connect(nobody, (host if host != "::" else "::1", port))

    def _turn_away_for_good(self) -> None:
        """Accept and reset what is there, and the handshakes that were under way, whenever they end."""
        self._watched = True
        asyncio.get_running_loop().add_reader(self._sock.fileno(), self._turn_away)

    def _turn_away(self) -> None:
        count = 0
        try:
            while True:
                sock, _ = self._sock.accept()
                reset(sock)
                count += 1
        except TRY_AGAIN:
            pass
        except OSError as error:
            # No descriptors, or no memory. To be called again at once would help nobody.
            asyncio.get_running_loop().remove_reader(self._sock.fileno())
            self._report("accept_paused", error=error.strerror, hint="raise LimitNOFILE= or ulimit -n")
        if count:
            self._report("queue_turned_away", address=self.target, count=count)


def attach(sock: socket.socket, place: int) -> None:
    """Have the socket's group give new connections to the one in this place, as long as there is one."""
    instruction = array("B", struct.pack("=HBBI", BPF_RET_K, 0, 0, place))  # struct sock_filter
    address, _ = instruction.buffer_info()
    sock.setsockopt(socket.SOL_SOCKET, SO_ATTACH_REUSEPORT_CBPF, struct.pack("@HP", 1, address))  # sock_fprog


def migrates() -> bool:
    """Whether connections move to another socket of the group when theirs stops to listen."""
    try:
        return MIGRATE_REQ.read_text(encoding="ascii").strip() == "1"
    except OSError:  # an older kernel, or a sandbox
        return False


def waiting_connections(sock: socket.socket) -> int:
    """How many a listening socket has that were not accepted yet."""
    info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, TCP_INFO_UNACKED.size)
    waiting: int = TCP_INFO_UNACKED.unpack(info)[0]
    return waiting


def _fault(sock: socket.socket, advice: str) -> ConfigError:
    address = HostPort(*sock.getsockname()[:2])
    return ConfigError(
        "transport",
        "",
        f"grpcio cannot listen where the .socket unit does ({address}); {advice}, or use native",
    )
