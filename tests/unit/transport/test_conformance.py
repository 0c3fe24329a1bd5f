"""What every transport does, whatever carries it: the contract of ``tunneler/transport/seam.py``.

A transport joins by one more entry in ``TRANSPORTS``.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.loopback.running import background, until
from tests.unit.transport.harness import (
    MEBIBYTE,
    PATIENCE,
    TRANSPORTS,
    Link,
    Transport,
    linked,
    never_attached,
    sides,
)
from tests.unit.transport.streams import Scribe
from tunneler.errors import TransportError
from tunneler.transport.seam import BatchStream


@pytest.fixture(params=TRANSPORTS)
def transport(request: pytest.FixtureRequest, pki: Path) -> Transport:
    return TRANSPORTS[request.param](pki)


SENDERS = pytest.mark.parametrize("sender", ["dialler", "listener"])


@SENDERS
async def test_batches_arrive_whole_and_in_order(transport: Transport, sender: str) -> None:
    sizes = [1, 2, 100, 65_535, 65_536, MEBIBYTE, 3 * MEBIBYTE, 1, 17]
    batches = [bytes([number + 1]) * size for number, size in enumerate(sizes)]
    async with linked(transport) as link:
        one, other = sides(link, sender)
        taken = one.taken
        one.send(*batches)
        await until(lambda: len(other.batches) == len(batches))
        assert other.batches == batches
        await until(lambda: one.taken == taken + len(batches))


@SENDERS
async def test_many_small_batches(transport: Transport, sender: str) -> None:
    batches = [number.to_bytes(2, "big") for number in range(300)]
    async with linked(transport) as link:
        one, other = sides(link, sender)
        one.send(*batches)
        await until(lambda: len(other.batches) == len(batches))
        assert other.batches == batches


async def test_both_ways_at_once(transport: Transport) -> None:
    async with linked(transport) as link:
        link.near.send(*[b"up" * 50_000] * 20)
        link.far.send(*[b"down" * 50_000] * 20)
        await until(lambda: len(link.near.batches) == len(link.far.batches) == 20)
        assert set(link.far.batches) == {b"up" * 50_000}
        assert set(link.near.batches) == {b"down" * 50_000}


@SENDERS
async def test_one_batch_at_a_time(transport: Transport, sender: str) -> None:
    """A stream that is congested takes nothing until room_made; to offer it more is a fault of the caller."""
    async with linked(transport) as link:
        one, other = sides(link, sender)
        rooms = one.rooms
        sent = 0
        while not one.stream.congested:
            one.stream.send(b"x" * MEBIBYTE)
            sent += 1
            assert sent <= 64
        assert one.rooms == rooms  # not from inside send
        with pytest.raises(RuntimeError):
            one.stream.send(b"second")
        await until(lambda: one.rooms == rooms + 1)
        assert [one.stream.congested] == [False]
        await until(lambda: other.batches == [b"x" * MEBIBYTE] * sent)


@SENDERS
async def test_close_delivers_what_was_handed_over(transport: Transport, sender: str) -> None:
    async with linked(transport) as link:
        one, other = sides(link, sender)
        rooms = one.rooms
        one.stream.send(b"x" * MEBIBYTE)
        one.stream.close(b"farewell")
        one.stream.close(b"ignored")
        with pytest.raises(RuntimeError):
            one.stream.send(b"too late")
        await until(lambda: one.closed and other.closed)
        assert other.batches == [b"x" * MEBIBYTE, b"farewell"]
        assert other.error is None
        assert one.error is None
        assert one.rooms == rooms
        async with asyncio.timeout(PATIENCE):
            await link.dialling


@SENDERS
async def test_last_batch_without_one_before(transport: Transport, sender: str) -> None:
    async with linked(transport) as link:
        one, other = sides(link, sender)
        one.stream.close(b"farewell")
        await until(lambda: one.closed and other.closed)
        assert other.batches == [b"farewell"]


async def test_close_from_within_attach(transport: Transport) -> None:
    """The listener's owner refuses the link at once, and says why."""
    heard: list[Scribe] = []

    def refuse(stream: BatchStream) -> Scribe:
        scribe = Scribe(stream)
        scribe.stream.close(b"no room")
        return scribe

    def attach(stream: BatchStream) -> Scribe:
        heard.append(Scribe(stream))
        return heard[-1]

    async with transport.listener.serve(transport.address, refuse):
        async with asyncio.timeout(PATIENCE):
            await transport.dialer.run_link(transport.address, attach)
    assert heard[0].batches == [b"no room"]
    assert heard[0].closed == 1


@SENDERS
async def test_close_from_within_a_callback(transport: Transport, sender: str) -> None:
    async with linked(transport) as link:
        one, other = sides(link, sender)
        one.when_received = lambda batch: one.stream.close(b"because of " + batch)
        other.send(b"that")
        await until(lambda: one.closed and other.closed)
        assert other.batches == [b"because of that"]


async def test_abrupt_loss(transport: Transport) -> None:
    """The dialling task is cancelled: nobody said goodbye, and both ends are told so."""
    async with linked(transport) as link:
        link.near.send(b"x" * MEBIBYTE, b"never sent")
        link.dialling.cancel()
        await until(lambda: link.near.closed and link.far.closed)
        assert link.far.error is not None
        assert isinstance(link.far.error, TransportError)


async def test_listener_closes_with_links_open(transport: Transport) -> None:
    link: Link
    async with linked(transport) as link:
        pass
    assert link.near.closed == link.far.closed == 1


async def test_four_links_at_once(transport: Transport) -> None:
    accepted: list[Scribe] = []
    dialled: list[Scribe] = []

    def attach_to(scribes: list[Scribe]) -> Callable[[BatchStream], Scribe]:
        def attach(stream: BatchStream) -> Scribe:
            scribes.append(Scribe(stream))
            scribes[-1].send(b"hello")
            return scribes[-1]

        return attach

    async with transport.listener.serve(transport.address, attach_to(accepted)):
        links = [transport.dialer.run_link(transport.address, attach_to(dialled)) for _ in range(4)]
        async with background(*links):
            await until(lambda: len(accepted) == len(dialled) == 4)
            for number, scribe in enumerate(dialled):
                scribe.send(*[bytes([number])] * 50)
            await until(lambda: all(len(scribe.batches) == 51 for scribe in accepted))
            assert sorted(scribe.batches[-1] for scribe in accepted) == [b"\0", b"\1", b"\2", b"\3"]
            assert all(len(set(scribe.batches)) == 2 for scribe in accepted)


async def test_nobody_listens(transport: Transport) -> None:
    async with asyncio.timeout(PATIENCE):
        with pytest.raises(TransportError, match=str(transport.address)):
            await transport.dialer.run_link(transport.address, never_attached)


async def test_address_in_use(transport: Transport) -> None:
    async with transport.listener.serve(transport.address, never_attached):
        with pytest.raises(TransportError, match="cannot listen"):
            async with transport.listener.serve(transport.address, never_attached):
                pass
    async with transport.listener.serve(transport.address, never_attached):
        pass  # free again


@pytest.mark.parametrize("turns", [0, 1, 2, 3, 4, 5, 6, 8, 13, 40, 100, 300])
async def test_cancelled_at_any_await(transport: Transport, turns: int) -> None:
    """Nothing is left of a link whose dialling task is cancelled after so many turns of the loop."""
    accepted: list[Scribe] = []
    dialled: list[Scribe] = []

    def attach(stream: BatchStream) -> Scribe:
        accepted.append(Scribe(stream))
        accepted[-1].send(*[b"y" * MEBIBYTE] * 5)
        return accepted[-1]

    def dial(stream: BatchStream) -> Scribe:
        dialled.append(Scribe(stream))
        dialled[-1].send(*[b"x" * MEBIBYTE] * 5)
        return dialled[-1]

    async with (
        transport.listener.serve(transport.address, attach),
        background(transport.dialer.run_link(transport.address, dial)) as (task,),
    ):
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait((task,))
        assert task.cancelled()
    assert [scribe.closed for scribe in accepted] == [1] * len(accepted)
    assert [scribe.closed for scribe in dialled] == [1] * len(dialled)


@pytest.mark.parametrize("repeat", range(10))
async def test_cancelled_under_load(transport: Transport, repeat: int) -> None:
    """With a write in flight the cancellation must still arrive: a keeper would dial again, for ever."""
    async with linked(transport) as link:
        link.near.send(*[b"x" * 3 * MEBIBYTE] * 20)
        link.far.send(*[b"y" * 3 * MEBIBYTE] * 20)
        for _ in range(1 + repeat * 5):
            await asyncio.sleep(0)
        link.dialling.cancel()
        await asyncio.wait((link.dialling,))
        assert link.dialling.cancelled()
