"""The same exchanges whoever plays server and proxy: ours, or JavaScript's; the client is ours."""

from __future__ import annotations

import asyncio
import socket
from hashlib import sha256
from pathlib import Path

import pytest

from tests.interop.casting import CASTS, Cast, company
from tests.loopback.applications import (
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
from tests.loopback.running import background
from tests.loopback.trio import Trio
from tunneler.protocol.window import FLOOR

MEBIBYTE = 1024 * 1024
PIECE = 64 * 1024
MUCH = 32 * MEBIBYTE
"""More than all windows and all buffers of the kernel on the way."""
NOWHERE = 1
"""A port that nobody listens on."""


@pytest.fixture(params=CASTS)
def cast(request: pytest.FixtureRequest) -> Cast:
    return CASTS[request.param]


async def test_requests_and_answers(pki: Path, cast: Cast, transport: str) -> None:
    """As HTTP does it: several in turn on one connection, the end of which is the server's."""

    async def answer() -> None:
        with await target.accept() as sock:
            for length in (3, 50_000, 0):
                assert (await read(sock, 18)).startswith(b"GET / HTTP/1.1")
                await write(sock, b"HTTP/1.1 200 OK\r\ncontent-length: %05d\r\n\r\n" % length + noise(length))

    with Target() as target:
        async with (
            company(pki, cast, transport, target=target.port) as (trio, *_),
            background(answer()) as (answering,),
        ):
            with await trio.connect(target.port) as app:
                for length in (3, 50_000, 0):
                    await write(app, b"GET / HTTP/1.1\r\n\r\n")
                    head = b"HTTP/1.1 200 OK\r\ncontent-length: %05d\r\n\r\n" % length
                    assert await read(app, len(head)) == head
                    assert await read(app, length) == noise(length)
                assert await read_to_end(app) == b""
                await answering
            await trio.released()


async def talk(sock: socket.socket, own: bytes) -> str:
    """Send one's own bytes and an end, and read the other's to its end; return their hash."""

    async def say() -> None:
        await write(sock, own)
        end(sock)

    async with asyncio.TaskGroup() as group:
        group.create_task(say())
        heard = group.create_task(read_to_end(sock, 20))
    return sha256(heard.result()).hexdigest()


async def test_20_connections_at_once(pki: Path, cast: Cast, transport: str) -> None:
    """Each with a MiB of its own in both directions at the same time."""

    async def receive(sock: socket.socket) -> None:
        with sock:
            (seed,) = await read(sock, 1)
            heard[seed] = await talk(sock, noise(MEBIBYTE, 100 + seed))

    async def call(trio: Trio, seed: int) -> None:
        with await trio.connect(target.port) as app:
            await write(app, bytes([seed]))
            expected = sha256(noise(MEBIBYTE, 100 + seed)).hexdigest()
            assert await talk(app, noise(MEBIBYTE, seed)) == expected

    heard: dict[int, str] = {}
    with Target() as target:
        async with company(pki, cast, transport, target=target.port) as (trio, *_):
            async with asyncio.TaskGroup() as group:
                for seed in range(20):
                    group.create_task(call(trio, seed))
                for _ in range(20):
                    group.create_task(receive(await target.accept()))
            await trio.released()
    assert heard == {seed: sha256(noise(MEBIBYTE, seed)).hexdigest() for seed in range(20)}


async def test_more_than_the_floor_before_the_answer(pki: Path, cast: Cast, transport: str) -> None:
    """The answer may allow more than the floor at once, and a sender that has used that up goes on."""

    async def send() -> None:
        await write(app, noise(MEBIBYTE))
        end(app)

    with Target() as target:
        async with company(pki, cast, transport, target=target.port) as (trio, *_):
            with await trio.connect(target.port) as app:
                async with background(send()):
                    with await target.accept() as far:
                        assert await read_to_end(far) == noise(MEBIBYTE)


@pytest.mark.parametrize("first", ["app", "target"])
async def test_half_close(pki: Path, cast: Cast, transport: str, log: Recorder, first: str) -> None:
    """Whoever ends first can still read for as long as the other likes."""
    with Target() as target:
        async with company(pki, cast, transport, target=target.port) as (trio, *_):
            with await open_pair(trio, target) as pair:
                early, late = pair if first == "app" else reversed(pair)
                await write(early, b"request")
                end(early)
                assert await read_to_end(late) == b"request"
                await write(late, noise(3 * FLOOR))
                assert await read(early, 3 * FLOOR) == noise(3 * FLOOR)
                end(late)
                assert await read_to_end(early) == b""
            await trio.released()
    assert len(log.of("connection_closed", "client", cause="ok")) == 1


@pytest.mark.parametrize("first", ["app", "target"])
async def test_reset_arrives_as_reset(
    pki: Path, cast: Cast, transport: str, log: Recorder, first: str
) -> None:
    with Target() as target:
        async with company(pki, cast, transport, target=target.port) as (trio, *_):
            with await open_pair(trio, target) as pair:
                one, other = pair if first == "app" else reversed(pair)
                await write(one, b"bytes before it")
                assert await read(other, 15) == b"bytes before it"
                reset(one)
                assert await ending(other) == "reset"
            await trio.released()
    assert len(log.of("connection_closed", "client", cause="reset_by_peer")) == 1


async def test_refused(pki: Path, cast: Cast, transport: str, log: Recorder) -> None:
    async with company(pki, cast, transport, target=NOWHERE) as (trio, *_):
        with await trio.connect(NOWHERE) as app:
            assert await ending(app, 2.0) == "reset"
        await trio.released()
    assert len(log.of("connection_refused", "client", cause="refused")) == 1


async def test_no_route(pki: Path, cast: Cast, transport: str, log: Recorder) -> None:
    async with company(pki, cast, transport) as (trio, *_):
        with await trio.connect(80, host="100.64.9.1") as app:
            assert await ending(app, 2.0) == "reset"
        await trio.released()
    assert len(log.of("connection_refused", "client", cause="no_route")) == 1


async def test_200_short_connections(pki: Path, cast: Cast, transport: str, log: Recorder) -> None:
    async def call(trio: Trio, seed: int) -> None:
        with await trio.connect(target.port) as app:
            await write(app, noise(1 + 37 * seed, seed))
            end(app)
            assert await read_to_end(app) == noise(1 + 37 * seed, seed)

    async with (
        echo_target() as target,
        company(pki, cast, transport, target=target.port) as (trio, *_),
    ):
        for wave in range(10):
            async with asyncio.TaskGroup() as group:
                for number in range(20):
                    group.create_task(call(trio, 20 * wave + number))
        await trio.released()
    assert len(log.of("connection_closed", "client", cause="ok")) == 200


@pytest.mark.parametrize("reader", ["app", "target"])
async def test_reader_that_stalls_stops_its_sender_only(
    pki: Path, cast: Cast, transport: str, reader: str
) -> None:
    """Nobody holds more than windows allow; afterwards every byte is there."""

    async def send(sock: socket.socket) -> None:
        data = noise(MUCH)
        for start in range(0, MUCH, PIECE):
            await write(sock, data[start : start + PIECE])
            sent.append(PIECE)
        end(sock)

    async def stands_still() -> int:
        while True:
            before = len(sent)
            await asyncio.sleep(0.3)
            if before and len(sent) == before:
                return sum(sent)

    sent: list[int] = []
    with Target() as target:
        async with company(pki, cast, transport, target=target.port) as (trio, *_):
            with await open_pair(trio, target) as pair, await open_pair(trio, target) as other:
                slow, fast = pair if reader == "app" else reversed(pair)
                async with background(send(fast)):
                    async with asyncio.timeout(10):
                        assert await stands_still() < MUCH
                    await write(other.app, b"not stopped")
                    assert await read(other.target, 11) == b"not stopped"
                    assert await read_to_end(slow, 20) == noise(MUCH)
