"""An in-memory twin of a transport, and a receiver that writes down what it is told.

The twin passes the same suite as the real transports (test_conformance.py), so that what is
tested against it above the seam holds for them too.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager

from tunneler.addresses import HostPort, Identity, Role
from tunneler.errors import TransportError
from tunneler.transport.seam import (
    NO_CALLS,
    Attach,
    BatchReceiver,
    BatchStream,
    Listening,
    Peer,
    Released,
    UnaryHandler,
)


class Scribe:
    """See :class:`tunneler.transport.seam.BatchReceiver`; sends what it is given, as there is room."""

    def __init__(self, stream: BatchStream) -> None:
        self.stream = stream
        self.batches: list[bytes] = []
        self.handed = 0
        self.rooms = 0
        self.closed = 0
        self.error: Exception | None = None
        self.to_send: list[bytes] = []
        self.when_received: Callable[[bytes], None] = lambda batch: None

    def send(self, *batches: bytes) -> None:
        """Hand over what the stream takes now, and the others at each room_made."""
        self.to_send += batches
        self._send_next()

    @property
    def taken(self) -> int:
        """How many batches have left."""
        return self.handed - self.stream.congested

    def batch_received(self, batch: bytes) -> None:
        assert not self.closed
        self.batches.append(batch)
        self.when_received(batch)

    def room_made(self) -> None:
        assert not self.closed
        assert not self.stream.congested
        self.rooms += 1
        self._send_next()

    def stream_closed(self, error: Exception | None) -> None:
        self.closed += 1
        self.error = error

    def _send_next(self) -> None:
        while self.to_send and not self.stream.congested:
            self.stream.send(self.to_send.pop(0))
            self.handed += 1


class MemoryStream:
    """See :class:`tunneler.transport.seam.BatchStream`: one end of a pair."""

    def __init__(self, peer: Peer) -> None:
        self._peer = peer
        self._batch: bytes | None = None
        self._last = b""
        self._closing = False
        self.other: MemoryStream | None = None
        self.receiver: BatchReceiver | None = None
        self.held = False
        """Set by a test: the peer takes nothing for now."""
        self.ended = asyncio.Event()

    @property
    def peer(self) -> Peer:
        return self._peer

    @property
    def congested(self) -> bool:
        return self._batch is not None

    def send(self, batch: bytes) -> None:
        if self._batch is not None or self._closing:
            raise RuntimeError("send on a stream that is congested or closed")
        self._batch = batch
        asyncio.get_running_loop().call_soon(self.move)

    def close(self, last: bytes = b"") -> None:
        if not self._closing:
            self._closing = True
            self._last = last
            asyncio.get_running_loop().call_soon(self.move)

    def move(self) -> None:
        """Deliver what was handed over; end when that was the last."""
        if self.held or self.ended.is_set() or self.other is None or self.other.receiver is None:
            return
        batch, self._batch = self._batch, None
        if batch is not None:
            self.other.receiver.batch_received(batch)
            if not self._closing and self.receiver is not None:
                self.receiver.room_made()
        if self._closing:
            if self._last:
                self.other.receiver.batch_received(self._last)
            self.end(None)

    def end(self, error: Exception | None) -> None:
        """Both ends are told, once."""
        for stream in (self.other, self):
            if stream is not None and not stream.ended.is_set():
                stream._closing = True
                stream.ended.set()
                if stream.receiver is not None:
                    stream.receiver.stream_closed(error)


def stream_pair() -> tuple[MemoryStream, MemoryStream]:
    """A dialling end and a listening end."""
    near = MemoryStream(Peer(Identity(Role.SERVER, "127.0.0.1"), "127.0.0.1:1"))
    far = MemoryStream(Peer(Identity(Role.CLIENT, "client"), "memory"))
    near.other, far.other = far, near
    return near, far


class MemoryNetwork:
    """A dialler and a listener without a network between."""

    handshake_timeout = 0.0

    def __init__(self) -> None:
        self._attach: Attach | None = None
        self._streams: list[MemoryStream] = []

    async def run_link(self, server: HostPort, attach: Attach) -> None:
        await asyncio.sleep(0)
        if self._attach is None:
            raise TransportError(f"{server}: nobody listens")
        near, far = stream_pair()
        self._streams += (near, far)
        try:
            far.receiver = self._attach(far)
            near.receiver = attach(near)
            for stream in (near, far):
                stream.move()
            await near.ended.wait()
        finally:
            near.end(TransportError("the stream was cut off"))

    @asynccontextmanager
    async def serve(
        self, listening: Listening, attach: Attach, unary: Mapping[str, UnaryHandler] = NO_CALLS
    ) -> AsyncIterator[None]:
        if self._attach is not None:
            raise TransportError(f"cannot listen on {listening}: in use")
        self._attach = attach
        try:
            yield
        finally:
            self._attach = None
            for stream in self._streams:
                stream.end(TransportError("the listener closed"))

    async def take_over(self, released: Released) -> None:
        """Nothing is ever adopted."""
