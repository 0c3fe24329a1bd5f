"""Splices between real TCP sockets and a real LinkEnd; the far end of the link is the test's."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import IPv4Address

import pytest

from tests.loopback.running import until
from tests.unit.transport.streams import Scribe, stream_pair
from tunneler.addresses import ConnectionId, Endpoint, Role
from tunneler.engine.driver import LinkDriver
from tunneler.engine.link_end import LinkEnd
from tunneler.engine.reactor import Reactor
from tunneler.engine.sockets import Failure
from tunneler.engine.splice import Splice
from tunneler.errors import Code, ConnectionFault
from tunneler.protocol.events import LinkEvent
from tunneler.protocol.frames import (
    MAX_BATCH,
    MAX_PAYLOAD,
    PROTOCOL_VERSION,
    Ack,
    Data,
    Fin,
    Frame,
    Hello,
    Open,
    OpenResult,
    Party,
    Reset,
)
from tunneler.protocol.link import Timing
from tunneler.protocol.window import CEILING, FLOOR, Budget
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
        self.budget = Budget(64 * 1024 * 1024)
        self.owner = Owner()
        self.near, far = stream_pair()
        driver = LinkDriver(self.near, role, "near", Timing(1000, 2000, 1000))
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


# To the socket.


async def test_what_the_socket_does_not_take_waits() -> None:
    with bench() as made:
        app = await made.open()
        data = pattern(FLOOR)[:FLOOR]
        made.say(*(Data(name(), at, data[at : at + 4000]) for at in range(0, FLOOR, 4000)))
        splice = made.end.splices[name()]
        await until(lambda: splice._unsent)
        assert await read(app, FLOOR) == data
        assert not splice._unsent
        await until(lambda: any(isinstance(frame, Ack) for frame in made.heard))
        assert splice.connection.receiving.handed_over == FLOOR


async def test_small_pieces_that_wait_are_joined() -> None:
    """A window of single bytes costs about a window, not an object for each byte."""
    with bench() as made:
        app = await made.open()
        splice = made.end.splices[name()]
        filler = pattern(FLOOR // 2)[: FLOOR // 2]
        made.say(Data(name(), 0, filler))
        await until(lambda: splice._unsent)
        single = pattern(FLOOR // 2, 5)[: FLOOR // 2]
        pieces = (Data(name(), len(filler) + at, single[at : at + 1]) for at in range(len(single)))
        made.far.send(encode(pieces))
        await until(lambda: splice.connection.receiving.sequence.received == FLOOR)
        assert len(splice._unsent) < 200
        assert await read(app, FLOOR) == filler + single


async def test_fin_comes_after_what_waits() -> None:
    with bench() as made:
        app = await made.open()
        data = pattern(FLOOR)[:FLOOR]
        made.say(Data(name(), 0, data), Fin(name(), FLOOR))
        await until(lambda: made.end.splices[name()]._unsent)
        assert await read(app, FLOOR) == data
        async with asyncio.timeout(5):
            assert await asyncio.get_running_loop().sock_recv(app, 1) == b""
        await until(lambda: covered(made))
        app.send(b"the other direction lives")
        await until(lambda: made.heard_of() == b"the other direction lives")


def covered(made: Bench) -> bool:
    return any(isinstance(frame, Ack) and frame.offset == FLOOR + 1 for frame in made.heard)


async def test_reset_throws_away_what_waits() -> None:
    with bench() as made:
        app = await made.open()
        made.say(Data(name(), 0, b"x" * FLOOR), Reset(name(), Code.RESET_BY_PEER))
        await until(lambda: made.owner.ended)
        with pytest.raises(ConnectionResetError):
            await read(app, FLOOR)
        assert made.owner.ended == [(Code.RESET_BY_PEER, None)]


async def test_socket_that_is_gone_when_data_comes() -> None:
    """Bytes wait, more are readable, and then a reset: all in one turn of the reactor."""
    with bench() as made:
        app = await made.open()
        made.say(Data(name(), 0, b"x" * FLOOR))
        await until(lambda: made.end.splices[name()]._unsent)
        app.send(b"last words")
        send_reset(app)
        await until(lambda: made.owner.ended)
        ((code, detail),) = made.owner.ended
        assert code is Code.RESET_BY_PEER
        assert isinstance(detail, Failure)
        await until(lambda: Reset(name(), Code.RESET_BY_PEER) in made.heard)
        made.say(Data(name(), FLOOR - 1, b"late"))  # crosses the reset: a normal race
        await asyncio.sleep(0.01)
        assert len(made.owner.ended) == 1


# From the socket.


async def test_reads_as_far_as_the_window() -> None:
    with bench() as made:
        app = await made.open(limit=FLOOR)
        data = pattern(2 * FLOOR)[: 2 * FLOOR]
        async with asyncio.TaskGroup() as group:
            group.create_task(asyncio.get_running_loop().sock_sendall(app, data))
            await until(lambda: len(made.heard_of()) == FLOOR)
            await asyncio.sleep(0.02)
            assert len(made.heard_of()) == FLOOR
            made.say(Ack(name(), FLOOR, FLOOR + 1000))
            await until(lambda: len(made.heard_of()) == FLOOR + 1000)
            made.say(Ack(name(), FLOOR, CEILING))
            await until(lambda: made.heard_of() == data)


async def test_reads_as_far_as_the_link_has_room() -> None:
    """While the link is congested a batch gathers, and the sockets wait in turn."""
    with bench() as made:
        apps = [await made.open(number) for number in range(8)]
        data = pattern(MAX_PAYLOAD * 3)[: MAX_PAYLOAD * 3]
        made.hold()
        loop = asyncio.get_running_loop()
        async with asyncio.TaskGroup() as group:
            for app in apps:
                group.create_task(loop.sock_sendall(app, data))
            await until(lambda: not made.end.has_room)
            await asyncio.sleep(0.05)
            assert MAX_BATCH <= made.end._outbox.size <= MAX_BATCH + MAX_PAYLOAD + 1000
            assert len(made.end._waiting) >= 1
            made.release()
            await until(lambda: all(made.heard_of(number) == data for number in range(8)))
        assert not made.end._waiting


async def test_end_of_stream() -> None:
    with bench() as made:
        app = await made.open()
        app.send(b"all of it")
        app.shutdown(socket.SHUT_WR)
        await until(lambda: Fin(name(), 9) in made.heard)
        assert made.heard_of() == b"all of it"
        made.say(Ack(name(), 10, CEILING), Data(name(), 0, b"answer"), Fin(name(), 6))
        assert await read(app, 6) == b"answer"
        await until(lambda: made.owner.ended == [(Code.OK, None)])


async def ended_by_both(made: Bench, app: socket.socket) -> None:
    """The peer has ended its direction, and the application has been told."""
    made.say(Fin(name(), 0))
    async with asyncio.timeout(5):
        assert await asyncio.get_running_loop().sock_recv(app, 1) == b""


async def test_end_of_stream_without_room_in_the_window() -> None:
    """EPOLLHUP, nothing to read, and no room: it is an end in good order all the same."""
    with bench() as made:
        app = await made.open(limit=FLOOR)
        await ended_by_both(made, app)
        await asyncio.get_running_loop().sock_sendall(app, b"x" * FLOOR)
        await until(lambda: len(made.heard_of()) == FLOOR)
        app.shutdown(socket.SHUT_WR)
        await until(lambda: Fin(name(), FLOOR) in made.heard)
        made.say(Ack(name(), FLOOR + 1, FLOOR))
        await until(lambda: made.owner.ended == [(Code.OK, None)])


async def test_end_of_stream_without_room_on_the_link() -> None:
    with bench() as made:
        app = await made.open()
        await ended_by_both(made, app)
        made.hold()
        other = name(99)
        made.end._outbox.put(Data(other, 0, b"first"))
        await asyncio.sleep(0)
        for at in range(MAX_BATCH // MAX_PAYLOAD):
            made.end._outbox.put(Data(other, 5 + at * MAX_PAYLOAD, b"x" * MAX_PAYLOAD))
        assert not made.end.has_room
        app.shutdown(socket.SHUT_WR)
        await asyncio.sleep(0.05)
        made.release()
        await until(lambda: Fin(name(), 0) in made.heard)
        assert made.owner.ended == []


async def test_reset_of_the_socket() -> None:
    with bench() as made:
        app = await made.open()
        app.send(b"before")
        await until(lambda: made.heard_of() == b"before")
        send_reset(app)
        await until(lambda: Reset(name(), Code.RESET_BY_PEER) in made.heard)


@pytest.mark.parametrize("unread", [0, 1000])
async def test_reset_behind_bytes_that_wait_for_room(unread: int) -> None:
    """What came before the reset is still carried, once there is room; without any, the reset is at once."""
    with bench() as made:
        app = await made.open(limit=FLOOR)
        await asyncio.get_running_loop().sock_sendall(app, b"x" * FLOOR)
        await until(lambda: len(made.heard_of()) == FLOOR)
        app.send(b"y" * unread)
        await asyncio.sleep(0.01)
        send_reset(app)
        await asyncio.sleep(0.05)
        if unread:
            assert made.owner.ended == []
            made.say(Ack(name(), FLOOR, CEILING))
        await until(lambda: Reset(name(), Code.RESET_BY_PEER) in made.heard)
        assert len(made.heard_of()) == FLOOR + unread


@pytest.mark.parametrize("state", ["both ended", "reset with bytes unread", "no room"])
async def test_no_state_spins(state: str) -> None:
    """A socket of which nothing can come does not keep the loop busy."""
    with bench() as made:
        calls = 0
        turn = Splice._ready

        def counted(splice: Splice, events: int) -> None:
            nonlocal calls
            calls += 1
            turn(splice, events)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Splice, "_ready", counted)
            app = await made.open(limit=FLOOR)
            if state == "both ended":
                await ended_by_both(made, app)
                app.shutdown(socket.SHUT_WR)  # FIN goes out, and its ACK does not come
            else:
                await asyncio.get_running_loop().sock_sendall(app, b"x" * (FLOOR + 100))
                await until(lambda: len(made.heard_of()) == FLOOR)
                if state == "reset with bytes unread":
                    send_reset(app)
            await asyncio.sleep(0.05)
            calls = 0
            await asyncio.sleep(0.1)
            assert calls <= 2
            patch.undo()


# A target that is dialled.


async def request_of(made: Bench, target: tuple[str, int]) -> socket.socket:
    made.say(Open(name(), ANYWHERE, ANYWHERE, CEILING))
    await until(lambda: made.owner.requests)
    sock = socket.socket()
    sock.setblocking(False)
    sock.connect_ex(target)
    made.end.dial(made.owner.requests[0], sock, Endpoint(IPv4Address(target[0]), target[1]))
    return sock


async def test_early_bytes_and_end_wait_for_the_target() -> None:
    with bench(Role.PROXY) as made, socket.create_server(("127.0.0.1", 0)) as target:
        target.setblocking(False)
        await request_of(made, target.getsockname())
        made.end.frame_received(Data(name(), 0, b"early"), 0.0)
        made.end.frame_received(Fin(name(), 5), 0.0)
        accepted, _ = await asyncio.get_running_loop().sock_accept(target)
        with accepted:
            assert await read(accepted, 5) == b"early"
            assert await asyncio.get_running_loop().sock_recv(accepted, 1) == b""
        await until(lambda: any(isinstance(frame, Fin) for frame in made.heard))
        kinds = [type(frame) for frame in made.heard if isinstance(frame, OpenResult | Fin)]
        assert kinds == [OpenResult, Fin]


async def test_target_that_refuses() -> None:
    with bench(Role.PROXY) as made:
        await request_of(made, ("127.0.0.1", 1))
        made.end.frame_received(Data(name(), 0, b"early"), 0.0)
        await until(lambda: OpenResult(name(), Code.REFUSED) in made.heard)
        assert [code for code, _ in made.owner.ended] == [Code.REFUSED]


async def test_reset_while_the_target_is_dialled() -> None:
    with bench(Role.PROXY) as made, socket.create_server(("127.0.0.1", 0)) as target:
        await request_of(made, target.getsockname())
        made.end.frame_received(Reset(name(), Code.IDLE), 0.0)
        await asyncio.sleep(0.02)
        assert made.owner.ended == [(Code.IDLE, None)]
        assert not any(isinstance(frame, OpenResult) for frame in made.heard)


# The link's end.


async def test_link_loss_resets_every_socket() -> None:
    with bench() as made:
        apps = [await made.open(number) for number in range(3)]
        made.near.end(None)
        for app in apps:
            with pytest.raises(ConnectionResetError):
                await read(app, 1)
        assert [code for code, _ in made.owner.ended] == [Code.LINK_LOST] * 3
