"""The native listener at work, and honest links that must not notice what others do to it."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from tests.http2.rawframes import (
    CLIENT_STREAM,
    DEFAULT_WINDOW,
    Flag,
    Kind,
    Setting,
    data,
    headers,
    message,
    ping,
    request,
    window_update,
)
from tests.http2.rawpeer import PATIENCE, RawPeer, tls_context
from tests.loopback.applications import noise
from tests.loopback.peers import Material
from tests.loopback.running import background, until
from tests.loopback.trio import HOST, free_port
from tunneler.addresses import HostPort
from tunneler.pki.identity import identity_of_certificate
from tunneler.roles.health import health_calls
from tunneler.sockets.acceptor import listen
from tunneler.sockets.reactor import Reactor
from tunneler.transport.native.listener import NativeListener
from tunneler.transport.seam import BatchStream, Security

HONEST_SIZES = (1, 100, 16_379, 70_000, 5, 300_000, 20_000)
"""Bytes of the messages that honest links send, over and over."""

MAX_GUESTS = 10_000

MUCH = b"much, please"
MEBIBYTE = bytes(1 << 20)
"""One object, however often it is sent."""


class Echo:
    """See :class:`tunneler.transport.seam.BatchReceiver`: sends every batch back, in order.

    A mebibyte is sent back for :data:`MUCH`.
    """

    def __init__(self, stream: BatchStream) -> None:
        self.stream = stream
        self.batches: list[bytes] = []
        self.remembers = True
        self.waiting: list[bytes] = []
        self.closed = False
        self.error: Exception | None = None

    def batch_received(self, batch: bytes) -> None:
        assert not self.closed
        if self.remembers:
            self.batches.append(batch)
        self.waiting.append(MEBIBYTE if batch == MUCH else batch)
        self._send_next()

    def room_made(self) -> None:
        assert not self.closed
        self._send_next()

    def stream_closed(self, error: Exception | None) -> None:
        assert not self.closed
        self.closed = True
        self.error = error

    def _send_next(self) -> None:
        if self.waiting and not self.stream.congested:
            self.stream.send(self.waiting.pop(0))


class Place:
    """Where a listener listens, and what it was heard to do.

    Attributes:
        links: every stream that became a link, in order.
        reports: events of peers that never became one.
        pki: certificates; None where the listener speaks plaintext.
        draining: what health checks are to say.
        watched: counts the listener's sockets.
    """

    def __init__(self, address: HostPort, pki: Path | None) -> None:
        self.address = address
        self.pki = pki
        self.links: list[Echo] = []
        self.reports: list[tuple[str, dict[str, Any]]] = []
        self.draining = False
        self.watched: Callable[[], int] = lambda: 0

    def attach(self, stream: BatchStream) -> Echo:
        self.links.append(Echo(stream))
        return self.links[-1]

    def report(self, event: str, **fields: Any) -> None:
        self.reports.append((event, fields))

    @property
    def open_links(self) -> int:
        return sum(not link.closed for link in self.links)

    @asynccontextmanager
    async def peer(self, holder: str | None = "client") -> AsyncIterator[RawPeer]:
        """A TCP connection; nothing is said on it yet."""
        with await RawPeer.connect(self.address, tls_context(self.pki, holder) if self.pki else None) as peer:
            yield peer

    @asynccontextmanager
    async def started(self, *declared: tuple[int, int]) -> AsyncIterator[RawPeer]:
        """A peer that has shaken hands."""
        async with self.peer() as peer:
            await peer.start(*declared)
            yield peer


@asynccontextmanager
async def listening(
    pki: Path | None, max_guests: int = MAX_GUESTS, *, send_buffer: int = 0
) -> AsyncIterator[Place]:
    """A native listener on loopback; plaintext without certificates.

    Args:
        max_guests: peers that have shaken hands, at once.
        send_buffer: bytes that the kernel may hold unsent for each peer; 0 for as many as it likes.
    """
    place = Place(HostPort(HOST, free_port()), pki)
    security = Security(Material(pki, "server") if pki else None, identity_of_certificate)
    calls = health_calls(lambda: place.draining)
    with Reactor() as reactor:
        listener = NativeListener(security, reactor, lambda: max_guests, place.report)
        place.watched = lambda: len(reactor)
        sock = listen(*place.address)
        if send_buffer:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, send_buffer)  # accepted ones inherit it
        async with listener.serve([sock], place.attach, calls):
            yield place
        assert len(reactor) == 0


class HonestLink:
    """A link that keeps every rule, sends messages, and checks that each comes back unchanged."""

    def __init__(self, peer: RawPeer) -> None:
        self._peer = peer
        granted = sum(frame.number for frame in peer.heard if frame.kind == Kind.WINDOW_UPDATE)
        initial = peer.settings.get(Setting.INITIAL_WINDOW_SIZE, DEFAULT_WINDOW)
        self._windows = {0: DEFAULT_WINDOW + granted, 1: initial}
        self._received = bytearray()
        self.rounds = 0

    async def run(self) -> None:
        """Go on until cancelled."""
        await self._peer.send(
            window_update(0, 2**30), headers(1, request(CLIENT_STREAM)), window_update(1, 2**30)
        )
        while True:
            size = HONEST_SIZES[self.rounds % len(HONEST_SIZES)]
            await self.exchange(noise(size, seed=self.rounds))
            self.rounds += 1
            await asyncio.sleep(0)

    async def exchange(self, content: bytes) -> None:
        unsent = memoryview(message(content))
        while unsent:
            size = min(len(unsent), 16_384, *self._windows.values())
            if size > 0:
                for stream in self._windows:
                    self._windows[stream] -= size
                await self._peer.send(data(1, bytes(unsent[:size])))
                unsent = unsent[size:]
            else:
                await self._take()
        while len(self._received) < 5 + len(content):
            await self._take()
        assert self._received == message(content)
        self._received.clear()

    async def _take(self) -> None:
        frame = await self._peer.receive()
        assert frame is not None, f"an honest link was ended: {self._peer.heard[-3:]}"
        assert frame.kind not in (Kind.GOAWAY, Kind.RST_STREAM), frame
        assert not frame.ends_stream, frame
        if frame.kind == Kind.WINDOW_UPDATE:
            self._windows[frame.stream] += frame.number
        elif frame.kind == Kind.DATA:
            self._received += frame.payload
            await self._peer.send(*(window_update(at, len(frame.payload)) for at in (0, 1) if frame.payload))
        elif frame.kind == Kind.PING and not frame.flags & Flag.ACK:
            await self._peer.send(ping(frame.payload, ack=True))
        self._peer.heard.clear()


@asynccontextmanager
async def undisturbed(place: Place) -> AsyncIterator[HonestLink]:
    """An honest link that is busy during the block, and must still make progress at its end."""
    async with place.started() as peer:
        link = HonestLink(peer)
        async with background(link.run()) as (task,):
            await until(lambda: task.done() or link.rounds >= 1)
            place.links[-1].remembers = False  # it is looked at by the link, and there may be much of it
            place.links[-1].batches.clear()
            yield link
            reached = link.rounds
            await until(lambda: task.done() or link.rounds >= reached + 2, PATIENCE)
            assert not task.done()
