"""A LinkDriver on the in-memory transport, and a handler that writes down what it is told."""

from __future__ import annotations

import asyncio

from tests.loopback.running import until
from tests.unit.transport.streams import MemoryStream, Scribe, stream_pair
from tunneler.addresses import ConnectionId, Role
from tunneler.engine.driver import LinkDriver
from tunneler.errors import Code, LinkFault
from tunneler.protocol.events import LinkEvent
from tunneler.protocol.frames import (
    PROTOCOL_VERSION,
    ConnectionFrame,
    Data,
    Frame,
    Hello,
)
from tunneler.protocol.link import Timing
from tunneler.wire.codec import decode, encode

NAME = ConnectionId(b"0123456789abcdef")
HELLO = Hello(PROTOCOL_VERSION, "far")


UNHURRIED = Timing(5, 15, 10)


class Handler:
    """See :class:`tunneler.engine.driver.LinkHandler`."""

    def __init__(self) -> None:
        self.frames: list[ConnectionFrame] = []
        self.events: list[LinkEvent] = []
        self.sent = 0
        self.ends: list[tuple[Code, str]] = []
        self.fault: LinkFault | None = None

    def frame_received(self, frame: ConnectionFrame, now: float) -> None:
        assert not self.ends
        self.frames.append(frame)
        if self.fault is not None:
            raise self.fault

    def link_event(self, event: LinkEvent, now: float) -> None:
        assert not self.ends
        self.events.append(event)

    def batch_sent(self) -> None:
        assert not self.ends
        self.sent += 1

    def link_ended(self, code: Code, reason: str) -> None:
        self.ends.append((code, reason))


class Bench:
    """A driver at one end of a stream, and what the other end heard."""

    def __init__(self, timing: Timing = UNHURRIED) -> None:
        self.near, far = stream_pair()
        self.driver = LinkDriver(self.near, Role.CLIENT, "near", timing, asyncio.get_running_loop().call_soon)
        self.near.receiver = self.driver
        self.handler = Handler()
        self.driver.start(self.handler)
        self.far = Scribe(far)
        far.receiver = self.far
        self.far_stream: MemoryStream = far

    @property
    def heard(self) -> list[Frame]:
        return [frame for batch in self.far.batches for frame in decode(batch)]

    def put(self, *payloads: bytes, name: ConnectionId = NAME) -> None:
        for payload in payloads:
            self.driver.link.outbox.put(Data(name, 0, payload))

    async def greet(self) -> None:
        self.far.send(encode([HELLO]))
        await until(lambda: self.handler.events and HELLO_OF_NEAR in self.heard)
        self.far.batches.clear()


HELLO_OF_NEAR = Hello(PROTOCOL_VERSION, "near")
