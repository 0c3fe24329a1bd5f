"""One socket with its TLS and its HTTP/2 connection.

    handshake  →  established (the owner looks at the certificate)  →  events
    shut: GOAWAY, close_notify, end of our half; then what the peer still sends is dropped
    until its end, or a deadline, so that nothing it has not read yet is lost to a reset

Each carrier is owned by a dialler's link or a listener's guest, hears of readiness from the
reactor, and of time from its owner.
"""

from __future__ import annotations

import socket
import ssl
import time
from collections.abc import Callable
from enum import Enum, auto
from typing import Final

from tunneler.errors import TransportError
from tunneler.http2.codes import ErrorCode, Http2Error
from tunneler.http2.connection import Connection
from tunneler.sockets.calls import TRY_AGAIN
from tunneler.sockets.reactor import READ, WRITE, Reactor
from tunneler.transport.native.channel import Channel, describe
from tunneler.transport.native.owner import CarrierOwner

HANDSHAKE_SECONDS: Final = 5.0
"""From the socket to the peer's SETTINGS, TLS included."""

KEEPALIVE_SECONDS: Final = 20.0
"""A peer that has said nothing for so long is asked to, by PING."""

KEEPALIVE_TIMEOUT: Final = 10.0
"""And has so long to answer."""

LINGER_SECONDS: Final = 1.0
"""For the peer to end its half after we ended ours."""

_RECEIVED_BYTES: Final = 256 * 1024
_received = bytearray(_RECEIVED_BYTES)
_received_view = memoryview(_received)

clock = time.monotonic


class State(Enum):
    """Of a carrier, in order."""

    HANDSHAKE = auto()
    OPEN = auto()
    SHUTTING = auto()  # what waits is still to be written
    LINGERING = auto()  # our half has ended
    CLOSED = auto()


class Carrier:
    """See the module.

    Args:
        sock: connected, non-blocking; the carrier owns it.
    """

    def __init__(
        self, sock: socket.socket, reactor: Reactor, channel: Channel, http2: Connection, owner: CarrierOwner
    ) -> None:
        self._sock = sock
        self._reactor = reactor
        self._channel = channel
        self.http2 = http2
        self._owner = owner
        self._unsent = memoryview(b"")
        self._flush_scheduled = False
        self._error: TransportError | None = None
        self._pinged_at: float | None = None
        self._settled = False
        self._began = self._heard = clock()
        self._shut_at = 0.0
        self.state = State.HANDSHAKE
        self.closed = False
        self._talking = False

    # For the owner.

    def start(self) -> None:
        """Begin to watch the socket, and to shake hands."""
        self._sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._reactor.register(self._sock.fileno(), READ, self._ready)
        self._shake_hands()

    @property
    def channel(self) -> Channel:
        return self._channel

    @property
    def congested(self) -> bool:
        """Whether bytes wait for the socket, or for the handshake."""
        return bool(self._unsent) or not self._talking

    def flush(self) -> None:
        """Write what the HTTP/2 connection has to say, if the socket takes it."""
        self._flush_scheduled = False
        if not self._talking or self._unsent:
            return
        if self.http2.output.buffers:
            self._write(self._channel.seal(self.http2.output.take()))
        if self.state is State.SHUTTING and not self._unsent:
            self._end_our_half()

    def flush_later(self) -> None:
        """Write at the end of this turn, with what else may come up in it."""
        if not self._flush_scheduled:
            self._flush_scheduled = True
            self._reactor.at_turn_end(self.flush)

    def defer(self, callback: Callable[[], None]) -> None:
        """Call back at the end of this turn."""
        self._reactor.at_turn_end(callback)

    def shut(self, code: ErrorCode = ErrorCode.NO_ERROR, error: TransportError | None = None) -> None:
        """End in good order: GOAWAY, what waits, close_notify; then wait for the peer's end.

        Args:
            error: why, if not because the owner is done.
        """
        if self.state is State.HANDSHAKE:
            self.abort(error)
        elif self.state is State.OPEN:
            self._error = error
            self.state = State.SHUTTING
            self._shut_at = clock()
            self.http2.go_away(code)
            self.flush()

    def abort(self, error: TransportError | None) -> None:
        """End at once."""
        if self.closed:
            return
        self.state = State.CLOSED
        self.closed = True
        self._talking = False
        self._reactor.forget(self._sock.fileno())
        self._sock.close()
        self._owner.carrier_closed(self._error or error)

    def tick(self, now: float) -> None:
        """Let time pass."""
        if self.state in (State.SHUTTING, State.LINGERING):
            if now - self._shut_at >= LINGER_SECONDS:
                self.abort(TransportError("the peer did not end its half in time"))
        elif not self.http2.settled:
            if now - self._began >= HANDSHAKE_SECONDS:
                self.abort(TransportError(f"no TLS and HTTP/2 within {HANDSHAKE_SECONDS:g} s"))
        elif self._pinged_at is not None:  # long silence alone may be ours: this process was stopped
            if now - self._pinged_at >= KEEPALIVE_TIMEOUT:
                self.abort(TransportError(f"nothing heard for {now - self._heard:.1f} s"))
        elif now - self._heard >= KEEPALIVE_SECONDS:
            self._pinged_at = now
            self.http2.ping()
            self.flush()

    # From the reactor.

    def _ready(self, events: int) -> None:
        if events & WRITE:
            self._write_unsent()
        if self.closed or not events & ~WRITE:
            return
        try:
            length = self._sock.recv_into(_received)
        except TRY_AGAIN:
            return
        except OSError as error:
            self.abort(TransportError(f"the connection broke: {error.strerror}"))
            return
        if not length:
            self._peer_ended("the connection was cut off, without TLS's close_notify")
            return
        self._heard = clock()
        self._pinged_at = None
        if self.state is State.LINGERING:
            return
        self._channel.receive(_received_view[:length])
        if self._talking or self._shake_hands():
            self._take()

    def _take(self) -> None:
        """Act on what has arrived."""
        try:
            for data in self._channel.plaintext():
                events = self.http2.receive(data, self._heard)
                if not self._settled and self.http2.settled:
                    self._settled = True
                    self._owner.settled()
                for event in events:
                    self._owner.event(event)
                if self.closed:
                    return
        except Http2Error as error:
            self._fail(error)
            return
        except ssl.SSLError as error:
            self.abort(TransportError(describe(error)))
            return
        if self._channel.ended:
            self._peer_ended("the peer closed the connection")
        elif self.http2.output.buffers:
            self.flush_later()

    def _fail(self, error: Http2Error) -> None:
        """Tell a peer that broke HTTP/2 so (GOAWAY is in the output), and be done with it."""
        fault = TransportError(f"the peer broke HTTP/2, {error.code.name}: {error}")
        if self.state is State.OPEN:
            self._error = fault
            self.state = State.SHUTTING
            self._shut_at = clock()
            self.flush()
            self._owner.failed(fault)
        else:
            self.abort(fault)

    def _peer_ended(self, how: str) -> None:
        if self.state is State.OPEN or self.state is State.HANDSHAKE:
            self.abort(TransportError(how))
        else:
            self.abort(None)

    def _shake_hands(self) -> bool:
        """Go on with the handshake; return whether it is over, and the owner content."""
        try:
            ready = self._channel.handshake()
        except ssl.SSLError as error:
            self._write(self._channel.seal(()))  # the alert that says why
            self.abort(TransportError(describe(error)))
            return False
        self._write(self._channel.seal(()))
        if ready and self.state is State.HANDSHAKE:
            self.state = State.OPEN
            self._talking = True
            self._owner.established()
            self.flush()
        return self._talking

    # To the socket.

    def _write(self, data: bytes) -> None:
        if not data or self.closed:
            return
        if self._unsent:  # of the handshake
            self._unsent = memoryview(bytes(self._unsent) + data)
            return
        sent = self._send(data)
        if sent < len(data) and not self.closed:
            self._unsent = memoryview(data)[sent:]
            self._reactor.modify(self._sock.fileno(), READ | WRITE)

    def _write_unsent(self) -> None:
        self._unsent = self._unsent[self._send(self._unsent) :]
        if self._unsent or self.closed:
            return
        self._reactor.modify(self._sock.fileno(), READ)
        if self.state is State.LINGERING:
            self._send_end()
            return
        self.flush()
        if self.state is State.OPEN and not self._unsent:
            self._owner.room_made()

    def _send(self, data: bytes | memoryview) -> int:
        try:
            return self._sock.send(data)
        except TRY_AGAIN:
            return 0
        except OSError as error:
            self.abort(TransportError(f"the connection broke: {error.strerror}"))
            return 0

    def _end_our_half(self) -> None:
        self.state = State.LINGERING
        self._talking = False
        self._write(self._channel.seal_end())
        if not self._unsent:
            self._send_end()

    def _send_end(self) -> None:
        if self.closed:
            return
        try:
            self._sock.shutdown(socket.SHUT_WR)
        except OSError:  # ENOTCONN: the peer has reset it
            self.abort(None)
