"""A client's and a proxy's end of a link without sockets: connections that send frames of random sizes
both ways, as fast as they may, and look at every byte that comes.

Run as a program, for a core of its own:

    python -m tests.loopback.frame_ends ROLE SERVER PKI CONNECTIONS FRAMES

What a connection says at an offset is a function of the connection, the direction and the offset:
a frame that is lost, repeated, altered or another's cannot go unnoticed.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import cycle, islice
from pathlib import Path
from random import Random
from typing import NamedTuple

import uvloop

from tests.loopback.peers import Material
from tunneler.addresses import Endpoint as Address
from tunneler.addresses import FourTuple, HostPort, Role, Route, parse_network
from tunneler.engine.driver import LinkDriver, clock
from tunneler.errors import Code
from tunneler.pki.identity import identity_of_certificate
from tunneler.protocol.connection import Connection
from tunneler.protocol.endpoint import Endpoint
from tunneler.protocol.events import (
    ConnectionClosed,
    DataReceived,
    EndpointEvent,
    FinReceived,
    LinkEvent,
    LinkOpened,
    Opened,
    OpenRequested,
    RoomMade,
)
from tunneler.protocol.frames import MAX_BATCH, MAX_PAYLOAD, ConnectionFrame, Open, Routes
from tunneler.protocol.link import Timing
from tunneler.protocol.window import Budget
from tunneler.sockets.reactor import Reactor
from tunneler.transport.native.dialer import NativeDialer
from tunneler.transport.seam import BatchStream, Security

AT_ONCE = 128
"""Connections that are open at the same time."""
FIRST_PORT = 1024
"""A connection is numbered by its source port."""

PERIOD = 1_048_573
"""Bytes after which what is said repeats: a prime, so that no size of frame or buffer fits into it."""
_BLOCK = Random(2).randbytes(PERIOD)
_BLOCK += _BLOCK[:MAX_PAYLOAD]

DESTINATION = Address.of("100.64.1.5", 80)
ROUTE = Route(parse_network("100.64.1.0/24"), parse_network("192.168.1.0/24"))


def said(number: int, upwards: bool, offset: int, length: int) -> bytes:
    """What connection ``number`` says, in one direction, at an offset."""
    start = (number * 15_485_863 + upwards * 7_919 + offset) % PERIOD
    return _BLOCK[start : start + length]


def sizes() -> Iterator[int]:
    """Payloads: most as small as a request, some like a page, few of 64 KiB."""
    dice = Random(1)
    ceilings = dice.choices([64, 512, 1460, 4096, 65_536], [20, 30, 30, 18, 2], k=100_000)
    return cycle([dice.randint(1, ceiling) for ceiling in ceilings])


class Tally(NamedTuple):
    """What one end did; the two ends' figures must be each other's."""

    frames_sent: int
    bytes_sent: int
    frames_received: int
    bytes_received: int
    faults: list[str]
    seconds: float


class Talk:
    """One connection, and how much of it is left to say."""

    __slots__ = ("connection", "frames_left", "number")

    def __init__(self, number: int, connection: Connection, frames: int) -> None:
        self.number = number
        self.connection = connection
        self.frames_left = frames


class TalkingEnd:
    """See :class:`tunneler.engine.driver.LinkHandler`.

    Args:
        connections: how many there are to be, one after the other.
        frames: for each connection to send.
    """

    def __init__(
        self, role: Role, stream: BatchStream, reactor: Reactor, connections: int, frames: int
    ) -> None:
        self._upwards = role is Role.CLIENT
        self._frames = frames
        self._to_come = iter(range(connections))
        self._left = connections
        self._sizes = sizes()
        self._talks: dict[bytes, Talk] = {}
        self._ready: dict[Talk, None] = {}
        """Those that may send."""
        self._counts = [0, 0, 0, 0]
        self._faults: list[str] = []
        self._started = time.monotonic()
        self.done = asyncio.Event()
        self.driver = LinkDriver(stream, role, f"{role}-1", Timing(5, 30, 5), reactor.at_turn_end)
        self._outbox = self.driver.link.outbox
        self._endpoint = Endpoint(
            self._outbox,
            Budget(64 * 1024 * 1024),
            accepts_opens=role is Role.PROXY,
            opening_timeout=10,
            idle_timeout=0,
        )
        self._actors: dict[type, Callable[..., None]] = {
            OpenRequested: self._open_requested,
            Opened: self._room_made,
            FinReceived: self._fin_received,
            RoomMade: self._room_made,
            ConnectionClosed: self._connection_closed,
        }
        self.driver.start(self)

    @property
    def tally(self) -> Tally:
        frames_sent, bytes_sent, frames_received, bytes_received = self._counts
        seconds = round(time.monotonic() - self._started, 3)
        return Tally(frames_sent, bytes_sent, frames_received, bytes_received, self._faults, seconds)

    # From the driver.

    def frame_received(self, frame: ConnectionFrame, now: float) -> None:
        event = self._endpoint.receive(frame, now)
        if type(event) is DataReceived:
            self._heard(event.connection, event.payload)
        elif event is not None:
            self._act(event)

    def link_event(self, event: LinkEvent, now: float) -> None:
        if isinstance(event, LinkOpened):
            self._started = time.monotonic()
            if self._upwards:
                for number in list(islice(self._to_come, AT_ONCE)):
                    self._open(number)
            else:
                self._outbox.put_control(Routes("proxy-1", (ROUTE,)))

    def batch_sent(self) -> None:
        self._say()

    def link_ended(self, code: Code, reason: str) -> None:
        if not self.done.is_set():
            self._fail(f"the link ended: {code.name}, {reason}")

    # What is heard.

    def _heard(self, name: bytes, payload: bytes) -> None:
        talk = self._talks[name]
        length, offset = len(payload), talk.connection.receiving.sequence.received - len(payload)
        if payload != said(talk.number, not self._upwards, offset, length):
            self._fail(f"connection {talk.number} was altered between {offset} and {offset + length}")
        self._counts[2] += 1
        self._counts[3] += length
        self._endpoint.hand_over(talk.connection, length)

    def _act(self, event: EndpointEvent) -> None:
        actor = self._actors.get(type(event))
        if actor is None:
            self._fail(str(event))
        else:
            actor(event)

    def _open_requested(self, event: OpenRequested) -> None:
        connection = self._endpoint.connections[event.connection]
        self._endpoint.accept(connection)
        self._keep(Talk(event.open.source.port - FIRST_PORT, connection, self._frames))

    def _room_made(self, event: Opened | RoomMade) -> None:
        talk = self._talks[event.connection]
        if talk.frames_left:
            self._ready[talk] = None
            if not self._outbox:
                self._say()

    def _fin_received(self, event: FinReceived) -> None:
        closed = self._endpoint.hand_over_fin(self._talks[event.connection].connection)
        if closed is not None:
            self._act(closed)

    def _connection_closed(self, event: ConnectionClosed) -> None:
        assert self._talks.pop(event.connection) not in self._ready
        self._left -= 1
        if not self._left:
            self.done.set()
        elif self._upwards and (number := next(self._to_come, None)) is not None:
            self._open(number)

    # What is said.

    def _open(self, number: int) -> None:
        source = Address.of("192.0.2.7", FIRST_PORT + number)
        name = FourTuple(source, DESTINATION).connection_id(b"")
        connection = self._endpoint.open(Open(name, source, DESTINATION, limit=0), clock())
        self._keep(Talk(number, connection, self._frames))

    def _keep(self, talk: Talk) -> None:
        self._talks[talk.connection.id] = talk
        self._ready[talk] = None

    def _say(self) -> None:
        """A frame of each connection that may; one, because neighbours would be joined."""
        for talk in list(self._ready):
            if self._outbox.size >= MAX_BATCH:
                return
            if not talk.frames_left:
                del self._ready[talk]
                self._endpoint.finish(talk.connection)
                continue
            sending = talk.connection.sending
            length = min(next(self._sizes), sending.room)
            if not length:
                del self._ready[talk]  # until there is room
                continue
            payload = said(talk.number, self._upwards, sending.sent, length)
            self._endpoint.send(talk.connection, payload, 0.0)
            talk.frames_left -= 1
            self._counts[0] += 1
            self._counts[1] += length

    def _fail(self, fault: str) -> None:
        self._faults.append(fault)
        self.done.set()


async def run(role: Role, server: HostPort, pki: Path, connections: int, frames: int) -> Tally:
    """Link to a server and talk to the other end; return when everything is said and heard."""
    ends: list[TalkingEnd] = []
    with Reactor() as reactor:

        def attach(stream: BatchStream) -> LinkDriver:
            ends.append(TalkingEnd(role, stream, reactor, connections, frames))
            return ends[-1].driver

        dialer = NativeDialer(role, Security(Material(pki, role), identity_of_certificate), reactor, 5.0)
        async with asyncio.TaskGroup() as group:
            link = group.create_task(dialer.run_link(server, attach))
            while not ends or not ends[0].done.is_set():
                if link.done():
                    break
                with suppress(TimeoutError):
                    async with asyncio.timeout(0.25):
                        await (ends[0].done.wait() if ends else asyncio.sleep(1))
                for end in ends:
                    end.driver.tick()
            (end,) = ends
            end.driver.close(Code.DRAINING, "all is said")
            await asyncio.wait((link,), timeout=5)
            link.cancel()
    return end.tally


def main() -> None:
    role, server, pki, connections, frames = sys.argv[1:]
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        tally = runner.run(run(Role(role), HostPort.parse(server), Path(pki), int(connections), int(frames)))
    json.dump(tally._asdict(), sys.stdout)


if __name__ == "__main__":
    main()
