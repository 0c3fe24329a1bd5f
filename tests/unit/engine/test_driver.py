"""A LinkDriver on the in-memory transport (which passes the transports' own suite)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from tests.loopback.running import until
from tests.unit.engine.driving import HELLO, HELLO_OF_NEAR, NAME, UNHURRIED, Bench, Handler
from tests.unit.transport.streams import MemoryStream, Scribe, stream_pair
from tunneler.addresses import ConnectionId, Identity, Role
from tunneler.engine.driver import BATCHES_PER_TURN, LinkDriver
from tunneler.errors import Code, LinkFault
from tunneler.protocol.events import LinkOpened, PeerDraining, PeerLeft
from tunneler.protocol.frames import (
    MAX_BATCH,
    MAX_PAYLOAD,
    PROTOCOL_VERSION,
    Bye,
    Data,
    Drain,
    Heartbeat,
    Hello,
    Reset,
    SealedData,
)
from tunneler.protocol.link import Timing
from tunneler.transport.seam import Peer
from tunneler.wire.codec import decode, encode


def names(count: int) -> list[ConnectionId]:
    return [ConnectionId(number.to_bytes(16, "big")) for number in range(count)]


async def test_greets_first() -> None:
    bench = Bench()
    await until(lambda: bench.heard == [HELLO_OF_NEAR])
    assert bench.handler.sent == 1


async def test_what_is_queued_in_one_turn_leaves_as_one_batch() -> None:
    bench = Bench()
    await bench.greet()
    for name in names(50):
        bench.put(b"payload", name=name)
    assert bench.far.batches == []  # not before the turn is over
    await until(lambda: bench.far.batches)
    assert len(bench.far.batches) == 1
    assert len(bench.heard) == 50


async def test_frames_gather_while_congested() -> None:
    bench = Bench()
    await bench.greet()
    bench.near.held = True
    for name in names(20):
        bench.put(b"x", name=name)
        await asyncio.sleep(0)
    assert bench.near.congested
    assert bench.far.batches == []
    sent = bench.handler.sent
    bench.near.held = False
    bench.near.move()
    await until(lambda: len(bench.heard) == 20)
    assert len(bench.far.batches) == 2  # the one in flight, and all others
    assert bench.handler.sent == sent + 1


async def test_a_backlog_leaves_in_batches_of_bounded_size() -> None:
    bench = Bench()
    await bench.greet()
    for name in names(12):
        bench.put(b"x" * MAX_PAYLOAD, name=name)
    await until(lambda: len(bench.heard) == 12)
    assert len(bench.far.batches) >= 3
    assert max(map(len, bench.far.batches)) <= MAX_BATCH + MAX_PAYLOAD + 100


class OpenStream(MemoryStream):
    """Never congested, however much it is given."""

    def __init__(self, peer: Peer) -> None:
        super().__init__(peer)
        self.taken: list[bytes] = []

    @property
    def congested(self) -> bool:
        return False

    def send(self, batch: bytes) -> None:
        self.taken.append(batch)


async def test_a_stream_that_has_room_gets_the_next_batch_at_once() -> None:
    """But only so many; then others have their turn."""
    stream = OpenStream(Bench().near.peer)
    turns: list[Callable[[], None]] = []
    driver = LinkDriver(stream, Role.CLIENT, "near", UNHURRIED, turns.append)
    driver.start(Handler())
    backlog = names(3 * BATCHES_PER_TURN * MAX_BATCH // MAX_PAYLOAD)
    for name in backlog:
        driver.link.outbox.put(Data(name, 0, b"x" * MAX_PAYLOAD))
    taken: list[int] = []
    while turns:
        assert len(turns) == 1
        turns.pop()()
        taken.append(len(stream.taken))
    assert taken[:2] == [BATCHES_PER_TURN, 2 * BATCHES_PER_TURN]
    frames = [frame for batch in stream.taken for frame in decode(batch)]
    assert [frame.connection for frame in frames if isinstance(frame, Data)] == backlog


async def test_a_server_leaves_data_sealed() -> None:
    """And no other role: an end needs what is inside."""
    for role, peer, kind in ((Role.SERVER, Role.CLIENT, SealedData), (Role.CLIENT, Role.SERVER, Data)):
        driver = LinkDriver(
            OpenStream(Peer(Identity(peer, "far"), "memory")), role, "near", UNHURRIED, lambda _: None
        )
        handler = Handler()
        driver.start(handler)
        driver.batch_received(encode([HELLO, Data(NAME, 0, b"x")]))
        assert [type(frame) for frame in handler.frames] == [kind]


@pytest.mark.parametrize("role", [Role.SERVER, Role.CLIENT])
async def test_data_before_hello(role: Role) -> None:
    peer = Role.CLIENT if role is Role.SERVER else Role.SERVER
    driver = LinkDriver(
        OpenStream(Peer(Identity(peer, "far"), "memory")), role, "near", UNHURRIED, lambda _: None
    )
    handler = Handler()
    driver.start(handler)
    driver.batch_received(encode([Data(NAME, 0, b"x")]))
    assert handler.frames == []
    assert handler.ends == [(Code.PROTOCOL, "Data before Hello")]


async def test_frames_and_events_reach_the_handler() -> None:
    bench = Bench()
    reset = Reset(NAME, Code.IDLE)
    bench.far.send(encode([HELLO, reset, Heartbeat(), Drain()]))
    await until(lambda: bench.handler.frames)
    assert bench.handler.frames == [reset]
    assert bench.handler.events == [LinkOpened("far"), PeerDraining()]


# Ends.


@pytest.mark.parametrize(
    ("batch", "code"),
    [
        (b"\xff\xff", Code.PROTOCOL),
        (encode([Reset(NAME, Code.IDLE)]), Code.PROTOCOL),
        (encode([Hello(PROTOCOL_VERSION + 1, "x")]), Code.VERSION),
        (encode([HELLO, HELLO]), Code.PROTOCOL),
    ],
    ids=["not a batch", "frame before Hello", "another version", "Hello twice"],
)
async def test_a_fault_ends_the_link_with_bye(batch: bytes, code: Code) -> None:
    bench = Bench()
    bench.far.send(batch)
    await until(lambda: bench.far.closed)
    assert bench.heard[-1] == Bye(code)
    ((found, reason),) = bench.handler.ends
    assert found is code
    assert reason
    assert bench.driver.ended


async def test_a_fault_that_the_handler_finds() -> None:
    bench = Bench()
    bench.handler.fault = LinkFault("not yours", Code.DENIED)
    frame = Reset(NAME, Code.IDLE)
    bench.far.send(encode([HELLO, frame, frame]))
    await until(lambda: bench.far.closed)
    assert bench.heard[-1] == Bye(Code.DENIED)
    assert bench.handler.ends == [(Code.DENIED, "not yours")]
    assert bench.handler.frames == [frame]  # the rest of the batch is not looked at


async def test_bye_of_the_peer() -> None:
    bench = Bench()
    await bench.greet()
    bench.far.send(encode([Bye(Code.REPLACED), Reset(NAME, Code.IDLE)]))
    await until(lambda: bench.far.closed)
    assert bench.handler.events[-1] == PeerLeft(Code.REPLACED)
    assert [code for code, _ in bench.handler.ends] == [Code.REPLACED]
    assert bench.handler.frames == []
    assert bench.heard == []  # no Bye in return


async def test_loss() -> None:
    bench = Bench()
    await bench.greet()
    bench.near.end(ConnectionError("cable cut"))
    assert bench.handler.ends == [(Code.LINK_LOST, "cable cut")]


async def test_close_says_what_waits_and_bye() -> None:
    bench = Bench()
    await bench.greet()
    bench.put(b"the last word")
    bench.driver.close(Code.DRAINING, "done")
    await until(lambda: bench.far.closed)
    assert bench.heard == [Data(NAME, 0, b"the last word"), Bye(Code.DRAINING)]
    assert bench.handler.ends == [(Code.DRAINING, "done")]


async def test_close_while_congested_says_them_too() -> None:
    """The last ACK of the last connection must not be lost for a batch in flight."""
    bench = Bench()
    await bench.greet()
    bench.near.held = True
    bench.put(b"in flight")
    await asyncio.sleep(0)
    bench.put(b"the last word", name=names(1)[0])
    bench.driver.close(Code.DRAINING, "done")
    bench.near.held = False
    bench.near.move()
    await until(lambda: bench.far.closed)
    assert bench.heard == [
        Data(NAME, 0, b"in flight"),
        Data(names(1)[0], 0, b"the last word"),
        Bye(Code.DRAINING),
    ]


async def test_nothing_happens_after_the_end() -> None:
    bench = Bench()
    await bench.greet()
    bench.driver.close(Code.DRAINING, "done")
    bench.driver.close(Code.SILENT, "again")
    bench.driver.batch_received(encode([Reset(NAME, Code.IDLE)]))
    bench.driver.batch_received(b"\xff")
    bench.driver.room_made()
    bench.driver.tick()
    bench.put(b"too late")
    bench.driver.stream_closed(None)
    await until(lambda: bench.far.closed)
    await asyncio.sleep(0.01)
    assert len(bench.handler.ends) == 1
    assert bench.handler.frames == []
    assert bench.heard == [Bye(Code.DRAINING)]


async def test_end_before_there_is_a_handler() -> None:
    near, far = stream_pair()
    driver = LinkDriver(near, Role.CLIENT, "near", Timing(5, 15, 10), asyncio.get_running_loop().call_soon)
    near.receiver = driver
    far.receiver = Scribe(far)
    driver.stream_closed(None)
    assert driver.ended


# Time.


async def test_heartbeats_only_when_nothing_else_goes_out() -> None:
    bench = Bench(Timing(0.3, 100, 100))
    await bench.greet()
    deadline = asyncio.get_running_loop().time() + 5
    while bench.heard.count(Heartbeat()) < 3 and asyncio.get_running_loop().time() < deadline:
        bench.driver.tick()
        await asyncio.sleep(0.01)
    assert set(bench.heard) == {Heartbeat()}
    assert bench.heard.count(Heartbeat()) == 3


async def test_silent_peer() -> None:
    bench = Bench(Timing(0.1, 0.4, 100))
    await bench.greet()
    while not bench.driver.ended:
        bench.driver.tick()
        await asyncio.sleep(0.01)
    await until(lambda: bench.far.closed)
    assert bench.heard[-1] == Bye(Code.SILENT)
    assert bench.handler.ends[0][0] is Code.SILENT


async def test_any_batch_proves_life() -> None:
    bench = Bench(Timing(0.1, 0.6, 100))
    await bench.greet()
    for _ in range(20):
        bench.far.send(encode([Heartbeat()]))
        bench.driver.tick()
        await asyncio.sleep(0.05)
    assert not bench.driver.ended


async def test_peer_that_never_greets() -> None:
    bench = Bench(Timing(0.1, 100, 0.4))
    while not bench.driver.ended:
        bench.far.send(b"")  # an empty batch is no greeting
        bench.driver.tick()
        await asyncio.sleep(0.01)
    assert bench.handler.ends[0][0] is Code.SILENT
