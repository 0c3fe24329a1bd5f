"""How connections end: half-closes and resets of either side, in every order."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.loopback.applications import (
    Pair,
    Target,
    end,
    ending,
    noise,
    open_pair,
    read,
    read_to_end,
    reset,
    stalled,
    write,
)
from tests.loopback.recorder import Recorder
from tests.loopback.running import background, eventually
from tests.loopback.trio import running_trio
from tunneler.protocol.window import FLOOR


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
