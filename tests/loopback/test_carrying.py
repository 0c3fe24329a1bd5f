"""Bytes, ends and resets of one connection, and of many, through the three roles."""

from __future__ import annotations

import asyncio
import itertools
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.loopback.applications import (
    Pair,
    SilentTarget,
    Target,
    echo_target,
    end,
    ending,
    noise,
    open_pair,
    read,
    read_to_end,
    reset,
    write,
)
from tests.loopback.recorder import Recorder
from tests.loopback.running import background, descriptors, eventually, other_tasks, until
from tests.loopback.trio import HOST, Trio, running_trio
from tunneler.engine.splice import Splice
from tunneler.protocol.frames import MAX_BATCH, MAX_PAYLOAD
from tunneler.protocol.window import FLOOR


@pytest.mark.parametrize("secured", [True, False], ids=["mutual TLS", "insecure loopback"])
async def test_echo(pki: Path, log: Recorder, secured: bool) -> None:
    async with echo_target() as target, running_trio(pki if secured else None) as trio:
        with await trio.connect(target.port) as app:
            await write(app, b"hello")
            assert await read(app, 5) == b"hello"
            end(app)
            assert await read_to_end(app) == b""
        await trio.released()
    for part, peer in (("client", "server/127.0.0.1" if secured else "server/insecure"), ("server", None)):
        (closed,) = log.of("connection_closed", part, bytes_up=5, bytes_down=5, cause="ok")
        assert peer is None or str(closed["peer"]) == peer
    (closed,) = log.of("connection_closed", "proxy", bytes_up=5, bytes_down=5, cause="ok")
    assert str(closed["target"]) == f"{HOST}:{target.port}"
    assert bool(log.of("plaintext")) is not secured


@pytest.mark.parametrize("direction", ["up", "down"])
async def test_large_transfer(pki: Path, direction: str) -> None:
    size = 48 * 1024 * 1024
    with Target() as target:
        async with running_trio(pki) as trio:
            with await open_pair(trio, target) as pair:
                writer, reader = pair if direction == "up" else reversed(pair)

                async def send() -> None:
                    await write(writer, noise(size))
                    end(writer)

                async with background(send()):
                    assert await read_to_end(reader) == noise(size)


async def test_transfers_both_ways_at_once(pki: Path) -> None:
    size = 16 * 1024 * 1024
    with Target() as target:
        async with running_trio(pki) as trio:
            with await open_pair(trio, target) as (app, far):

                async def send(sock: socket.socket, seed: int) -> None:
                    await write(sock, noise(size, seed))
                    end(sock)

                async with asyncio.TaskGroup() as group:
                    group.create_task(send(app, 1))
                    group.create_task(send(far, 2))
                    up = group.create_task(read_to_end(far))
                    down = group.create_task(read_to_end(app))
                assert up.result() == noise(size, 1)
                assert down.result() == noise(size, 2)


async def exchange(trio: Trio, port: int, seed: int) -> None:
    with await trio.connect(port) as app:
        data = noise(1 + seed * 613 % 40_000, seed)
        await write(app, data)
        end(app)
        assert await read_to_end(app, 25) == data


async def test_many_connections_at_once(pki: Path) -> None:
    async with echo_target() as target, running_trio(pki) as trio:
        async with asyncio.TaskGroup() as group:
            for seed in range(300):
                group.create_task(exchange(trio, target.port, seed))
        await trio.released()


@pytest.mark.timeout(60)
async def test_nothing_is_left_of_2000_connections(pki: Path) -> None:
    """Tasks, file descriptors and table entries are what they were before."""
    async with echo_target() as target, running_trio(pki) as trio:
        await exchange(trio, target.port, 0)
        await trio.released()
        before = (descriptors(), len(other_tasks()), watched(trio))
        for wave in range(20):
            async with asyncio.TaskGroup() as group:
                for seed in range(100):
                    group.create_task(one_of_many(trio, target.port, 100 * wave + seed))
        await trio.released()

        def after() -> object:
            return (descriptors(), len(other_tasks()), watched(trio))

        assert await eventually(lambda: after() == before), (before, after())


async def one_of_many(trio: Trio, port: int, seed: int) -> None:
    """Most end in good order; some with a reset, some abruptly, some are refused."""
    with await trio.connect(port if seed % 5 else 1) as app:
        if seed % 5 == 0:
            assert await ending(app) == "reset"
            return
        await write(app, noise(200, seed))
        if seed % 5 == 1:
            reset(app)
        elif seed % 5 != 2:
            end(app)
            assert await read_to_end(app) == noise(200, seed)


def watched(trio: Trio) -> tuple[int, int]:
    return len(trio.client.reactor), len(trio.proxy.reactor)


# How connections end.


@pytest.mark.parametrize("first", ["app", "target"])
async def test_half_close(pki: Path, first: str) -> None:
    """Whoever ends first can still read for as long as the other likes."""
    with Target() as target:
        async with running_trio(pki) as trio:
            with await open_pair(trio, target) as pair:
                early, late = pair if first == "app" else reversed(pair)
                await write(early, b"request")
                end(early)
                assert await read_to_end(late) == b"request"
                await write(late, noise(3 * FLOOR))
                assert await read(early, 3 * FLOOR) == noise(3 * FLOOR)
                await write(late, b"more")
                end(late)
                assert await read_to_end(early) == b"more"
            await trio.released()


@pytest.mark.parametrize("first", ["app", "target"])
async def test_reset_arrives_as_reset(pki: Path, log: Recorder, first: str) -> None:
    with Target() as target:
        async with running_trio(pki) as trio:
            with await open_pair(trio, target) as pair:
                one, other = pair if first == "app" else reversed(pair)
                await write(one, b"bytes before it")
                assert await read(other, 15) == b"bytes before it"
                reset(one)
                assert await ending(other) == "reset"
            await trio.released()
    assert len(log.of("connection_closed", "server", cause="reset_by_peer")) == 1


@pytest.mark.parametrize("first", ["app", "target"])
async def test_reset_reaches_a_side_that_reads_nothing(pki: Path, first: str) -> None:
    """The other side's window is full, so nothing is read of the socket that is reset."""
    with Target() as target:
        async with running_trio(pki) as trio:
            with await open_pair(trio, target) as pair:
                one, other = pair if first == "app" else reversed(pair)
                async with background(write(one, noise(64 * 1024 * 1024))) as (writing,):
                    await stalled(trio)
                    writing.cancel()
                reset(one)
                assert await ending(other) == "reset"
            await trio.released()


async def stalled(trio: Trio) -> None:
    """Wait until no byte has moved for a while."""

    def moved() -> int:
        return sum(
            entry.up.sequence.received + entry.down.sequence.received
            for entry in trio.server.relay.connections.values()
        )

    while True:
        before = moved()
        await asyncio.sleep(0.15)
        if before and moved() == before:
            return


END_MOVES: dict[str, Callable[[Pair], None]] = {
    "app ends": lambda pair: end(pair.app),
    "app closes": lambda pair: pair.app.close(),
    "app resets": lambda pair: reset(pair.app),
    "target ends": lambda pair: end(pair.target),
    "target closes": lambda pair: pair.target.close(),
    "target resets": lambda pair: reset(pair.target),
}
ORDERS = [
    (one, other) for one, other in itertools.permutations(END_MOVES, 2) if one.split()[0] != other.split()[0]
]


@pytest.mark.parametrize("settled", [True, False], ids=["in turn", "at once"])
async def test_every_order_of_ends(pki: Path, settled: bool) -> None:
    """With and without bytes under way, nothing is left, and no end is mistaken for another."""
    with Target() as target:
        async with running_trio(pki) as trio:
            for moves, data in itertools.product(ORDERS, (b"", noise(3000))):
                with await open_pair(trio, target) as pair:
                    await write(pair.app, data)
                    await write(pair.target, data)
                    for move in moves:
                        END_MOVES[move](pair)
                        if settled:
                            await asyncio.sleep(0.01)
                    for name, sock in zip(pair._fields, pair, strict=True):
                        if sock.fileno() >= 0:
                            expected = ending_of(name, moves, data)
                            assert await ending(sock) in expected, (moves, name, len(data))
                assert await eventually(lambda: not trio.held()), (moves, len(data), trio.held())


def ending_of(side: str, moves: tuple[str, str], data: bytes) -> set[str]:
    """What may be seen by a side that did no more than end its own direction."""
    (other,) = (move for move in moves if not move.startswith(side))
    if other.endswith("ends"):
        return {"fin"}
    if other.endswith("closes") and not data:
        return {"fin"}
    # A close with unread bytes is a reset, and so is one that bytes arrive after: RFC 2525, 2.17.
    return {"reset"} if other.endswith("resets") else {"fin", "reset"}


# Connections that do not open.


async def test_refused(pki: Path, log: Recorder) -> None:
    async with running_trio(pki) as trio:
        with await trio.connect(1) as app:
            assert await ending(app, 1.0) == "reset"
        await trio.released()
    for part in ("client", "server", "proxy"):
        assert len(log.of("connection_refused", part, cause="refused")) == 1


async def test_no_route(pki: Path, log: Recorder) -> None:
    async with running_trio(pki) as trio:
        with await trio.connect(80, host="100.64.9.1") as app:
            assert await ending(app, 1.0) == "reset"
    assert len(log.of("connection_refused", "client", cause="no_route")) == 1
    assert len(log.of("connection_refused", "server", cause="no_route", proxy=None)) == 1


async def test_silent_target(pki: Path, log: Recorder) -> None:
    with SilentTarget() as target:
        async with running_trio(pki, dial=0.3) as trio:
            with await trio.connect(target.port) as app:
                await write(app, b"patience")
                await asyncio.sleep(0.15)
                assert trio.connections() == (1, 1, 1)
                assert await ending(app, 2.0) == "reset"
            await trio.released()
    for part in ("client", "server", "proxy"):
        assert len(log.of("connection_refused", part, cause="timeout")) == 1


async def test_application_gives_up_while_the_target_is_dialled(pki: Path) -> None:
    with SilentTarget() as target:
        async with running_trio(pki, dial=20, open=20) as trio:
            with await trio.connect(target.port) as app:
                await until(lambda: trio.connections() == (1, 1, 1))
                reset(app)
            await trio.released()


async def test_end_of_stream_before_the_target_answers(pki: Path) -> None:
    """FIN waits for the open; the request before it does not."""
    with Target() as target:
        async with running_trio(pki) as trio:
            with await trio.connect(target.port) as app:
                await write(app, b"early")
                end(app)
                with await target.accept() as far:
                    assert await read_to_end(far) == b"early"
                    await write(far, b"answer")
                    end(far)
                    assert await read_to_end(app) == b"answer"


async def test_stranger_at_the_capture_port(pki: Path, log: Recorder) -> None:
    """Whom no rule redirected, nobody is dialled for."""
    async with running_trio(pki) as trio:
        stranger = socket.create_connection((HOST, trio.capture_port))
        stranger.setblocking(False)
        with stranger:
            assert await ending(stranger) == "reset"
        with await trio.connect(80, host="198.51.100.1") as app:
            assert await ending(app) == "reset"
        assert trio.connections() == (0, 0, 0)
    assert len(log.of("capture_refused", "client")) == 2


async def test_limit_of_connections(pki: Path, log: Recorder) -> None:
    with Target() as target:
        async with running_trio(pki) as trio:
            await trio.clients[0].finish()
            trio.start_client(limits={"max_connections": 1})
            await trio.ready()
            with await open_pair(trio, target), await trio.connect(target.port) as app:
                assert await ending(app) == "reset"
            await trio.released()
            with await open_pair(trio, target):
                pass
    assert len(log.of("connection_refused", "client", cause="limited")) == 1


# Memory.


@pytest.mark.parametrize("reader", ["app", "target"])
async def test_slow_reader_costs_bounded_memory(pki: Path, reader: str) -> None:
    """A writer that never stops faces a reader that never reads."""
    with Target() as target:
        async with running_trio(pki) as trio:
            with await open_pair(trio, target) as pair:
                writer = pair.target if reader == "app" else pair.app
                async with background(write(writer, noise(64 * 1024 * 1024))) as (writing,):
                    peak = 0
                    for _ in range(100):
                        peak = max(peak, queued(trio))
                        await asyncio.sleep(0.005)
                    assert not writing.done()
                    assert 0 < peak <= trio.server.config.limits.memory_budget
                    # A reader that never reads gets what its kernel buffers took, and the window over that.
                    splices = all_splices(trio)
                    unsent = max(sum(map(len, splice._unsent)) for splice in splices)
                    assert 0 < unsent <= 16 * 1024 * 1024
                    assert trio.server.budget.outstanding <= trio.server.budget.total + 2 * FLOOR
                    writing.cancel()


async def test_slow_readers_share_the_budget(pki: Path) -> None:
    """Twenty stalled readers and 1 MiB: nobody holds more than that and a floor for each."""
    budget, count = 1024 * 1024, 20
    with Target() as target:
        async with running_trio(pki) as trio:
            await trio.clients[0].finish()
            await trio.proxies[0].finish()
            trio.start_client(limits={"memory_budget": budget})
            trio.start_proxy(limits={"memory_budget": budget})
            await trio.ready()
            pairs = [await open_pair(trio, target) for _ in range(count)]
            try:
                async with background(*(write(pair.target, noise(8 * 1024 * 1024)) for pair in pairs)):
                    await stalled(trio)
                    held = sum(splice.connection.receiving.buffered for splice in all_splices(trio))
                    assert 0 < held <= budget + count * FLOOR
                    assert trio.client._budget.outstanding <= budget + count * FLOOR
            finally:
                for pair in pairs:
                    pair.__exit__()


def all_splices(trio: Trio) -> list[Splice]:
    ends = [*trio.client.ends, *trio.proxy.ends]
    return [splice for one in ends for splice in one.splices.values()]


def queued(trio: Trio) -> int:
    """The largest queue of bytes anywhere above the transport."""
    outboxes = [link.driver.link.outbox.size for link in trio.server.links]
    outboxes += [one._outbox.size for role in (trio.client, trio.proxy) for one in role.ends]
    assert all(size <= MAX_BATCH + MAX_PAYLOAD + 4096 for size in outboxes[len(trio.server.links) :])
    return max(outboxes)


async def test_a_stalled_reader_stops_nobody_else(pki: Path) -> None:
    async with echo_target() as echo, running_trio(pki) as trio:
        with Target() as target, await open_pair(trio, target) as pair:
            async with background(write(pair.target, noise(64 * 1024 * 1024))):
                await stalled(trio)
                async with asyncio.timeout(5):
                    for seed in range(20):
                        await exchange(trio, echo.port, seed)
