"""Splices between real TCP sockets and a real LinkEnd; the far end of the link is the test's."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import IPv4Address

from tests.loopback.running import until
from tests.unit.transport.streams import Scribe, stream_pair
from tunneler.addresses import ConnectionId, Endpoint, Role
from tunneler.engine.driver import LinkDriver
from tunneler.engine.link_end import LinkEnd
from tunneler.engine.splice import Splice
from tunneler.errors import Code, ConnectionFault
from tunneler.protocol.events import LinkEvent
from tunneler.protocol.frames import (
    PROTOCOL_VERSION,
    Data,
    Frame,
    Hello,
    Open,
    OpenResult,
    Party,
)
from tunneler.protocol.link import Timing
from tunneler.protocol.window import CEILING, Budget
from tunneler.sockets.calls import Failure
from tunneler.sockets.reactor import Reactor
from tunneler.wire.codec import decode, encode

ANYWHERE = Endpoint(IPv4Address("192.0.2.1"), 80)
SMALL_BUFFER = 4096


def name(number: int = 0) -> ConnectionId:
    return ConnectionId(number.to_bytes(16, "big"))


class Owner:
    """See :class:`tunneler.engine.link_end.EndOwner`."""

    def __init__(self) -> None:
        self.opened: list[Splice] = []
        self.requests: list[Open] = []
        self.ended: list[tuple[Code, ConnectionFault | Failure | None]] = []

    def open_requested(self, end: LinkEnd, request: Open) -> None:
        self.requests.append(request)

    def connection_opened(self, end: LinkEnd, splice: Splice, proxy: Party | None) -> None:
        self.opened.append(splice)

    def connection_ended(
        self, end: LinkEnd, splice: Splice, code: Code, detail: ConnectionFault | Failure | None
    ) -> None:
        self.ended.append((code, detail))

    def link_event(self, end: LinkEnd, event: LinkEvent) -> None: ...

    def link_ended(self, end: LinkEnd, code: Code, reason: str) -> None: ...


class Bench:
    """A client's link end; ``heard`` is what it said, ``say`` is what it is told."""

    def __init__(self, role: Role = Role.CLIENT) -> None:
        self.reactor = Reactor()
        self.reactor.open()
        self.budget = Budget(64 * 1024 * 1024)
        self.owner = Owner()
        self.near, far = stream_pair()
        driver = LinkDriver(self.near, role, "near", Timing(1000, 2000, 1000), self.reactor.at_turn_end)
        self.end = LinkEnd(
            driver,
            self.owner,
            self.reactor,
            self.budget,
            accepts_opens=role is Role.PROXY,
            opening_timeout=100,
            idle_timeout=0,
        )
        self.near.receiver = driver
        self.far = Scribe(far)
        far.receiver = self.far
        self.say(Hello(PROTOCOL_VERSION, "far"))
        self.sockets: list[socket.socket] = []

    def say(self, *frames: Frame) -> None:
        self.far.send(encode(frames))

    @property
    def heard(self) -> list[Frame]:
        return [frame for batch in self.far.batches for frame in decode(batch)]

    def heard_of(self, number: int = 0) -> bytes:
        """The payload that came of one connection, in order and without a gap."""
        whole = b""
        for frame in self.heard:
            if isinstance(frame, Data) and frame.connection == name(number):
                assert frame.offset == len(whole)
                whole += frame.payload
        return whole

    def hold(self) -> None:
        """Let the link be congested until it is released."""
        self.near.held = True

    def release(self) -> None:
        self.near.held = False
        self.near.move()

    async def open(self, number: int = 0, limit: int = CEILING) -> socket.socket:
        """Open a connection; return the application's socket."""
        app, captured = self.tcp_pair()
        self.end.open(Open(name(number), ANYWHERE, ANYWHERE, 0), captured, watch_idle=False)
        self.say(OpenResult(name(number), Code.OK, limit))
        await until(lambda: len(self.owner.opened) > number)
        return app

    def tcp_pair(self) -> tuple[socket.socket, socket.socket]:
        """An application's socket and ours, with the smallest buffers that the kernel has."""
        with socket.socket() as listener:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SMALL_BUFFER)
            listener.bind(("127.0.0.1", 0))
            listener.listen()
            app = socket.socket()
            app.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SMALL_BUFFER)
            app.connect(listener.getsockname())
            ours, _ = listener.accept()
        app.setblocking(False)
        ours.setblocking(False)
        self.sockets.append(app)
        return app, ours


@contextmanager
def bench(role: Role = Role.CLIENT) -> Iterator[Bench]:
    """What is open at the end is reset; then nothing may be left."""
    made = Bench(role)
    try:
        yield made
        made.end.reset_all(Code.DRAINING)
        assert made.end.splices == {}
        assert made.end._waiting == {}
        assert len(made.reactor) == 0
        assert (made.budget.connections, made.budget.outstanding) == (0, 0)
    finally:
        made.reactor.close()
        for sock in made.sockets:
            sock.close()


async def read(sock: socket.socket, length: int) -> bytes:
    loop = asyncio.get_running_loop()
    parts = b""
    async with asyncio.timeout(10):
        while len(parts) < length:
            data = await loop.sock_recv(sock, length - len(parts))
            assert data, "an end of stream too early"
            parts += data
    return parts


def send_reset(sock: socket.socket) -> None:
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


def pattern(length: int, seed: int = 0) -> bytes:
    return bytes((seed + 31 * number) % 251 for number in range(1000)) * (length // 1000 + 1)
