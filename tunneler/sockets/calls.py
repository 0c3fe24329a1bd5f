"""The few socket calls that captured and dialled connections need, and what their failures mean."""

from __future__ import annotations

import errno
import socket
import struct
from typing import Final, NamedTuple, Protocol

from tunneler.addresses import Endpoint
from tunneler.errors import Code

TRY_AGAIN: Final = (BlockingIOError, InterruptedError)

_CODES: Final = {
    errno.ECONNREFUSED: Code.REFUSED,
    errno.EHOSTUNREACH: Code.UNREACHABLE,
    errno.ENETUNREACH: Code.UNREACHABLE,
    errno.EADDRNOTAVAIL: Code.UNREACHABLE,
    errno.EAFNOSUPPORT: Code.UNREACHABLE,
    errno.ETIMEDOUT: Code.TIMEOUT,
    errno.EACCES: Code.DENIED,
    errno.EPERM: Code.DENIED,
    errno.EMFILE: Code.LIMITED,
    errno.ENFILE: Code.LIMITED,
    errno.ENOBUFS: Code.LIMITED,
    errno.ENOMEM: Code.LIMITED,
    errno.ECONNRESET: Code.RESET_BY_PEER,
    errno.EPIPE: Code.RESET_BY_PEER,
}

_NO_LINGER: Final = struct.pack("ii", 1, 0)


class Keepalive(Protocol):
    """TCP keepalive (tcp(7)); seconds, and a number of probes."""

    @property
    def enabled(self) -> bool: ...
    @property
    def idle(self) -> float: ...
    @property
    def interval(self) -> float: ...
    @property
    def count(self) -> int: ...


class DialFailed(Exception):
    """A target cannot be dialled at all."""

    def __init__(self, code: Code) -> None:
        super().__init__(code.name)
        self.code = code


class Failure(NamedTuple):
    """Why a socket ended."""

    code: Code
    text: str


def failure_of(error: OSError) -> Failure:
    """The wire's word for a failed socket call, and the system's."""
    return Failure(_CODES.get(error.errno or 0, Code.INTERNAL), error.strerror or str(error))


def pending_failure(sock: socket.socket) -> Failure | None:
    """The failure that the kernel holds for a socket, if any (socket(7), SO_ERROR)."""
    number = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    return failure_of(OSError(number, errno.errorcode.get(number, "failed"))) if number else None


def prepare(sock: socket.socket, keepalive: Keepalive, *, watched: bool = False) -> None:
    """Make a socket fit for relaying: it never delays, and notices a dead peer if asked.

    Args:
        watched: use keepalive even if it is not enabled, because the connection has no idle timeout.
    """
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    on = keepalive.enabled or watched
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, on)
    if on:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, max(1, round(keepalive.idle)))
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, max(1, round(keepalive.interval)))
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, keepalive.count)


def start_dial(target: Endpoint, keepalive: Keepalive, *, watched: bool) -> socket.socket:
    """Begin to connect; the socket is writable when that has succeeded or failed.

    Args: as for :func:`prepare`.

    Raises:
        DialFailed: it failed at once.
    """
    family = socket.AF_INET if target.address.version == 4 else socket.AF_INET6
    try:
        sock = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    except OSError as error:
        raise DialFailed(failure_of(error).code) from error
    try:
        prepare(sock, keepalive, watched=watched)
        number = sock.connect_ex((str(target.address), target.port))
        if number not in (0, errno.EINPROGRESS):
            raise DialFailed(failure_of(OSError(number, "")).code)
    except BaseException:
        sock.close()
        raise
    return sock


def reset(sock: socket.socket) -> None:
    """Close with a TCP reset, so that the application sees a failure and not an end."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
    sock.close()
