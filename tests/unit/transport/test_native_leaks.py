"""Thousands of links made and lost: what is left of them is nothing."""

from __future__ import annotations

import asyncio
import ctypes
import gc
import os
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.loopback.peers import Material
from tests.loopback.running import background, descriptors, eventually, other_tasks, until
from tests.loopback.trio import HOST, free_port
from tests.unit.transport.streams import Scribe
from tunneler.addresses import HostPort, Role
from tunneler.pki.identity import identity_of_certificate
from tunneler.sockets.reactor import Reactor
from tunneler.transport.native.dialer import NativeDialer
from tunneler.transport.native.listener import NativeListener
from tunneler.transport.seam import BatchStream, Security

LINKS = int(os.environ.get("TUNNELER_TEST_LINKS", "900"))
"""By hand: 10000."""
WARM = LINKS // 3
"""After so many, everything that is opened once and kept is there."""
AT_ONCE = 8
GROWTH = 2 * 1024 * 1024
SECONDS = 60.0 + LINKS / 5


class Held(NamedTuple):
    descriptors: int
    reactor: int
    guests: int
    strangers: int
    tasks: int


class Place:
    """A dialler and a listener in one process, on one reactor."""

    def __init__(self, pki: Path, reactor: Reactor) -> None:
        self._pki = pki
        self._reactor = reactor
        self.address = HostPort(HOST, free_port())
        self.dialer = NativeDialer(Role.CLIENT, self._security("client"), reactor, 10.0)
        self.listener = NativeListener(self._security("server"), reactor, lambda: 1000, lambda *_, **__: None)
        self.far: list[Scribe] = []
        self.made = 0

    def _security(self, holder: str) -> Security:
        return Security(Material(self._pki, holder), identity_of_certificate)

    def attach_far(self, stream: BatchStream) -> Scribe:
        """A listener's end that greets, and leaves when it is asked to."""
        scribe = Scribe(stream)
        scribe.when_received = lambda batch: stream.close(b"goodbye") if batch == b"leave" else None
        scribe.send(b"x" * 20_000)
        return scribe

    async def link(self, number: int) -> None:
        """Make a link, and lose it: ended by the listener, by the dialler, or cut off."""
        near: list[Scribe] = []

        def attach(stream: BatchStream) -> Scribe:
            near.append(Scribe(stream))
            return near[-1]

        async with background(self.dialer.run_link(self.address, attach)) as (task,):
            await until(lambda: near and near[0].batches)
            if number % 3 == 0:
                near[0].send(b"leave")
            elif number % 3 == 1:
                near[0].stream.close(b"goodbye")
            else:
                near[0].send(b"y" * 20_000)
                task.cancel()
            await asyncio.wait((task,))
        assert near[0].closed == 1
        assert (near[0].error is None) == (number % 3 != 2)
        self.made += 1

    async def links(self, numbers: range) -> None:
        left = iter(numbers)

        async def lane() -> None:
            for number in left:
                await self.link(number)

        async with asyncio.TaskGroup() as group:
            for _ in range(AT_ONCE):
                group.create_task(lane())

    def held(self) -> Held:
        return Held(
            descriptors().total(),
            len(self._reactor),
            len(self.listener._guests),
            len(self.listener._strangers),
            len(other_tasks()),
        )


def resident() -> int:
    """Bytes of this process in memory, without what the allocator only keeps: proc_pid_statm(5)."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.slow
@pytest.mark.timeout(SECONDS)
async def test_nothing_is_left_of_links(pki: Path) -> None:
    with Reactor() as reactor:
        place = Place(pki, reactor)
        async with place.listener.serve(place.address, place.attach_far):
            idle = place.held()
            await place.links(range(WARM))
            assert await eventually(lambda: place.held() == idle), (idle, place.held())
            memory, objects = resident(), len(gc.get_objects())
            await place.links(range(WARM, LINKS))
            assert await eventually(lambda: place.held() == idle), (idle, place.held())
            grown, more = resident() - memory, len(gc.get_objects()) - objects
        print(f"{place.made} links: {grown / 1024:+.0f} KiB, {more:+} objects")
    assert place.made == LINKS
    assert more < 500
    assert grown < GROWTH
