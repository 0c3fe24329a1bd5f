"""What slow readers cost: bounded memory, and nobody else's time."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.loopback.applications import (
    Target,
    echo_target,
    noise,
    open_pair,
    stalled,
    write,
)
from tests.loopback.running import background
from tests.loopback.test_carrying import exchange
from tests.loopback.trio import Trio, running_trio
from tunneler.engine.splice import Splice
from tunneler.protocol.frames import MAX_BATCH, MAX_PAYLOAD
from tunneler.protocol.window import FLOOR


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
                    assert peak <= trio.server.config.limits.memory_budget
                    # A reader that never reads gets what its kernel buffers took, and the window over that.
                    splices = all_splices(trio)
                    unsent = max(sum(map(len, splice._unsent or ())) for splice in splices)
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
