"""One local socket joined with one connection.

What the socket gives becomes DATA as far as the window and the link have room; what the
connection gives is written as far as the socket takes it, and the rest waits here (never
more than the window that we granted). End of stream and reset are passed on in both
directions, each behind the bytes that came before it.
"""

from __future__ import annotations

import fcntl
import socket
import struct
import termios
from collections import deque
from itertools import islice
from typing import TYPE_CHECKING, Final

from tunneler.addresses import Endpoint
from tunneler.engine.driver import clock
from tunneler.errors import Code
from tunneler.protocol.connection import Connection
from tunneler.protocol.frames import MAX_PAYLOAD, Open
from tunneler.protocol.outbox import JOINED_BYTES
from tunneler.sockets.calls import TRY_AGAIN, Failure, failure_of, pending_failure, reset
from tunneler.sockets.reactor import FAILURE, READ, WRITE

if TYPE_CHECKING:
    from tunneler.engine.link_end import LinkEnd

_BUFFERS_PER_WRITE: Final = 64
"""Pieces given to one sendmsg(2); the kernel takes up to 1024 (UIO_MAXIOV)."""

_scratch = bytearray(MAX_PAYLOAD)
_scratch_view = memoryview(_scratch)


class Splice:
    """See the module. Made, told of events and forgotten by its :class:`LinkEnd`.

    Args:
        request: what the client asked for.
        sock: a captured socket, or one that is being connected to ``target`` (proxy).
    """

    __slots__ = (
        "_end", "_fin_waits", "_mask", "_read_ended", "_sock", "_unsent", "_watched", "_write_ended",
        "connection", "dialling", "opened", "request", "started", "target",
    )  # fmt: skip

    def __init__(
        self,
        end: LinkEnd,
        connection: Connection,
        request: Open,
        sock: socket.socket,
        now: float,
        *,
        target: Endpoint | None = None,
    ) -> None:
        dialling = target is not None
        self._end = end
        self._sock = sock
        self._unsent: deque[memoryview] | None = None
        """What the socket has not taken yet; an empty deque costs more than all the rest of a splice."""
        self._fin_waits = False
        self._read_ended = False
        self._write_ended = False
        self.connection = connection
        self.request = request
        self.target = target
        self.dialling = dialling
        self.opened = False
        self.started = now
        self._mask = WRITE if dialling else READ
        self._watched = True
        end.reactor.register(sock.fileno(), self._mask, self._ready)

    # What the connection brings.

    def deliver(self, payload: bytes) -> None:
        """Write bytes of the peer to the socket."""
        if self._unsent or self.dialling:
            self._keep(payload)
            return
        try:
            sent = self._sock.send(payload)
        except TRY_AGAIN:
            sent = 0
        except OSError as error:
            self._fail(failure_of(error))
            return
        if sent < len(payload):
            self._unsent = deque((memoryview(payload)[sent:],))
            self._watch()
        if sent:
            self._end.endpoint.hand_over(self.connection, sent)

    def deliver_fin(self) -> None:
        """End the socket's stream once everything before is written."""
        self._fin_waits = True
        if not self._unsent and not self.dialling:
            self._write_end()

    def resume(self) -> None:
        """The window or the link has room again."""
        self._watch()

    def close(self) -> None:
        """Both directions have ended: close in good order."""
        self._forget()
        self._sock.close()

    def abort(self) -> None:
        """The connection was reset: so is the socket."""
        self._forget()
        reset(self._sock)

    def _keep(self, payload: bytes) -> None:
        """Hold bytes that the socket does not take yet; small pieces are joined, for each costs memory."""
        unsent = self._unsent
        if not unsent:
            self._unsent = deque((memoryview(payload),))
        elif len(unsent[-1]) + len(payload) <= JOINED_BYTES:
            unsent[-1] = memoryview(bytes(unsent[-1]) + payload)
        else:
            unsent.append(memoryview(payload))

    # What the socket brings.

    def _ready(self, events: int) -> None:
        if events == READ == self._mask:
            self._read()
            return
        if self.dialling:
            self._finish_dial()
            return
        if events & WRITE and self._unsent:
            self._write()
            if self.connection.closed:
                return
        if self._mask & READ and events & (READ | FAILURE):
            # Also where failure is all that was found: what made this want to read may have come
            # since, in the same turn, and bytes may lie before the failure.
            self._read()
        elif events & FAILURE and self._watched:
            self._failed_unread()

    def _finish_dial(self) -> None:
        failure = pending_failure(self._sock)
        if failure is not None:
            self._end.dial_failed(self, failure)
            return
        self.dialling = False
        self._end.dial_succeeded(self)
        if self._unsent:
            self._write()
        elif self._fin_waits:
            self._write_end()
        self._watch()

    def _read(self) -> None:
        connection, end = self.connection, self._end
        if not end.has_room:
            end.wait_for_room(self)
            self._watch()
            return
        sending = connection.sending
        room = sending.limit - sending.sent
        try:
            length = self._sock.recv_into(_scratch, min(room, MAX_PAYLOAD))
        except TRY_AGAIN:
            return
        except OSError as error:
            self._fail(failure_of(error))
            return
        if length:
            end.endpoint.send(connection, bytes(_scratch_view[:length]), clock())
            if length == room:
                self._watch()
        else:
            self._end_reading()

    def _end_reading(self) -> None:
        self._read_ended = True
        self._end.endpoint.finish(self.connection)
        self._watch()

    def _write(self) -> None:
        unsent = self._unsent
        assert unsent
        try:
            sent = self._sock.sendmsg(list(islice(unsent, _BUFFERS_PER_WRITE)))
        except TRY_AGAIN:
            return
        except OSError as error:
            self._fail(failure_of(error))
            return
        left = sent
        while left and left >= len(unsent[0]):
            left -= len(unsent.popleft())
        if left:
            unsent[0] = unsent[0][left:]
        self._end.endpoint.hand_over(self.connection, sent)
        if not unsent:
            self._unsent = None
            if self._fin_waits:
                self._write_end()
            self._watch()

    def _write_end(self) -> None:
        self._fin_waits = False
        self._write_ended = True
        try:
            self._sock.shutdown(socket.SHUT_WR)
        except OSError as error:  # ENOTCONN: it was reset in this moment
            self._fail(failure_of(error))
            return
        self._watch()
        self._end.fin_handed_over(self)

    def _failed_unread(self) -> None:
        """The socket failed while nothing was to be read from it.

        Bytes that came before a reset stay readable (tcp(7)), as they would for the
        application; while some are left, the failure waits behind them until there is room.
        """
        if not self._read_ended and _readable_bytes(self._sock):
            self._unwatch()
            return
        failure = pending_failure(self._sock)
        if failure is not None or self._read_ended:
            self._fail(failure or Failure(Code.RESET_BY_PEER, "reset"))
        else:  # EPOLLHUP alone: both directions have ended in good order
            self._end_reading()

    def _fail(self, failure: Failure) -> None:
        self._end.socket_failed(self, failure)

    # What is watched for.

    def _watch(self) -> None:
        """Ask the reactor for what is useful now; a connection that has ended asks for nothing."""
        if self.connection.closed:
            return
        if self._read_ended and self._write_ended:
            # Nothing can come of it but EPOLLHUP, for ever; the peer's ACK ends it.
            self._unwatch()
            return
        mask = 0
        if not self._read_ended and self.connection.sending.room and not self._end.is_waiting(self):
            mask |= READ
        if self._unsent:
            mask |= WRITE
        if not self._watched:
            self._end.reactor.register(self._sock.fileno(), mask, self._ready)
            self._watched = True
        elif mask != self._mask:
            self._end.reactor.modify(self._sock.fileno(), mask)
        self._mask = mask

    def _forget(self) -> None:
        """The socket is closed next."""
        if self._watched:
            self._end.reactor.forget(self._sock.fileno())
            self._watched = False

    def _unwatch(self) -> None:
        if self._watched:
            self._end.reactor.unregister(self._sock.fileno())
            self._watched = False


def _readable_bytes(sock: socket.socket) -> int:
    (count,) = struct.unpack("i", fcntl.ioctl(sock, termios.FIONREAD, b"\0\0\0\0"))
    return int(count)
