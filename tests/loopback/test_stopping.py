"""How roles end: drained, at a deadline, or cancelled at the worst moments; and what accepting survives."""

from __future__ import annotations

import asyncio
import resource
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from tests.loopback.applications import (
    SilentTarget,
    Target,
    echo_target,
    end,
    ending,
    open_pair,
    read,
    read_to_end,
    write,
)
from tests.loopback.peers import raw_link
from tests.loopback.recorder import Recorder
from tests.loopback.running import background, until
from tests.loopback.test_links import echoes, flood
from tests.loopback.trio import Running, part_of, running_trio, stage, usable
from tunneler.addresses import Role
from tunneler.protocol.frames import Drain
from tunneler.roles.client import Client
from tunneler.roles.proxy import Proxy
from tunneler.roles.server import Server

PARTS = ("client", "server", "proxy")


# Drain.


@pytest.mark.parametrize("part", PARTS)
async def test_drain_waits_for_open_connections(pki: Path, log: Recorder, part: str) -> None:
    """They finish in good order, nothing new comes in, and then the role ends at once."""
    with Target() as target:
        async with running_trio(pki, drain=10) as trio:
            with await open_pair(trio, target) as pair:
                running = part_of(trio, part)
                running.stop.set()
                await until(lambda: log.of("draining", part))
                if part == "client":
                    with pytest.raises(ConnectionRefusedError):
                        await trio.connect(target.port)
                else:
                    with await trio.connect(target.port) as late:
                        assert await ending(late) == "reset"
                await write(pair.app, b"unhurried")
                end(pair.app)
                assert await read_to_end(pair.target) == b"unhurried"
                assert not running.task.done()
                await write(pair.target, b"reply")
                end(pair.target)
                assert await read_to_end(pair.app) == b"reply"
            async with asyncio.timeout(4):
                await running.ended()
    for each in PARTS:
        assert len(log.of("connection_closed", each, cause="ok")) == 1
    assert not log.of("drain_deadline")


@pytest.mark.parametrize("part", PARTS)
async def test_drain_has_a_deadline(pki: Path, log: Recorder, part: str) -> None:
    with Target() as target:
        async with running_trio(pki, drain=0.2) as trio:
            with await open_pair(trio, target) as pair:
                await part_of(trio, part).finish()
                assert await ending(pair.app) == "reset"
                assert await ending(pair.target) == "reset"
            await trio.released()
    assert len(log.of("drain_deadline", part)) == 1
    assert log.of("connection_closed", cause="draining")


async def test_draining_proxy_leaves_new_connections_to_its_group(pki: Path) -> None:
    async with echo_target() as target, running_trio(pki, drain=10) as trio:
        with Target() as held, await open_pair(trio, held):
            trio.start_proxy(proxy_id="proxy-2", group="proxy-1")
            await until(lambda: len(trio.server.relay.links) == 3)
            await until(lambda: usable(trio.proxies[1].role))
            trio.proxies[0].stop.set()
            await until(lambda: any(link.draining for link in trio.server.relay.links))
            for _ in range(5):
                assert await echoes(trio, target.port)


async def test_link_that_comes_up_during_a_drain_is_told(pki: Path) -> None:
    """A proxy whose link is lost while it drains is not given anything new over the next one."""
    with Target() as target:
        async with running_trio(pki, drain=30) as trio:
            with await open_pair(trio, target):
                trio.proxies[0].stop.set()
                await until(lambda: any(link.draining for link in trio.server.relay.links))
                trio.proxy._drained = asyncio.Event()  # so that it drains on although nothing is open
                await trio.servers[0].kill()
                trio.start_server()
                await until(
                    lambda: (
                        [link.draining for link in trio.server.relay.links if link.role is Role.PROXY]
                        == [True]
                    )
                )
                await trio.proxies[0].kill()


async def test_draining_server_tells_whoever_comes(pki: Path) -> None:
    with Target() as target:
        async with running_trio(pki, drain=5) as trio:
            with await open_pair(trio, target):
                trio.servers[0].stop.set()
                await until(lambda: trio.server.relay.draining)
                async with raw_link(pki, trio.server_port) as late:
                    await late.until(Drain)


# Cancellation. What is left is looked for when the stage is cleared, and after the test.


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("turns", [1, 2, 5, 20])
async def test_cancelled_while_starting(pki: Path, part: str, turns: int) -> None:
    async with stage(pki) as trio:
        if part != "server":
            trio.start_server()
            await asyncio.sleep(0.05)
        running: Running[Client] | Running[Server] | Running[Proxy]
        if part == "client":
            running = trio.start_client()
        elif part == "proxy":
            running = trio.start_proxy()
        else:
            running = trio.start_server()
        for _ in range(turns):
            await asyncio.sleep(0)
        await running.kill()


@pytest.mark.parametrize("milliseconds", [0, 1, 3, 6, 10, 20, 40])
async def test_cancelled_while_a_link_is_dialled(pki: Path, milliseconds: int) -> None:
    async with stage(pki) as trio:
        trio.start_server()
        await asyncio.sleep(0.02)
        client = trio.start_client()
        await asyncio.sleep(milliseconds / 1000)
        await client.kill()
        await until(lambda: not trio.server.links)


async def test_cancelled_while_a_silent_server_is_dialled(pki: Path) -> None:
    with SilentTarget() as silent, Target() as mute:
        for port in (silent.port, mute.port, 1):
            async with stage(pki) as trio:
                client = trio.start_client(server_addr=f"127.0.0.1:{port}")
                await asyncio.sleep(0.1)
                await client.kill()


@pytest.mark.parametrize("part", PARTS)
async def test_cancelled_in_the_middle_of_transfers(pki: Path, part: str) -> None:
    with Target() as target:
        async with running_trio(pki) as trio:
            pairs = [await open_pair(trio, target) for _ in range(4)]
            floods = [flood(pair.app) for pair in pairs[:3]] + [flood(pairs[3].target)]
            drinks = [drink(pair.target) for pair in pairs[1:3]] + [drink(pairs[3].app)]
            async with background(*floods, *drinks) as tasks:
                await asyncio.sleep(0.1)
                await part_of(trio, part).kill()
                assert await ending(pairs[0].target) == "reset"
                async with asyncio.timeout(5):
                    await asyncio.gather(*tasks)
            for pair in pairs:
                pair.__exit__()
            await trio.released()


async def drink(sock: socket.socket) -> None:
    with suppress(ConnectionError):
        await read_to_end(sock)


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("turns", [0, 1, 10])
async def test_cancelled_while_draining(pki: Path, part: str, turns: int) -> None:
    """The second signal: it does not wait for what is open."""
    with Target() as target:
        async with running_trio(pki, drain=20) as trio:
            with await open_pair(trio, target) as pair:
                running = part_of(trio, part)
                running.stop.set()
                for _ in range(turns):
                    await asyncio.sleep(0)
                async with asyncio.timeout(3):
                    await running.kill()
                assert await ending(pair.app) == "reset"
                assert await ending(pair.target) == "reset"


async def test_cancelled_while_a_target_is_dialled(pki: Path) -> None:
    with SilentTarget() as silent:
        async with running_trio(pki, dial=20, open=20) as trio:
            with await trio.connect(silent.port) as app:
                await until(lambda: trio.connections() == (1, 1, 1))
                await trio.proxies[0].kill()
                assert await ending(app) == "reset"


# Running out of file descriptors.


@contextmanager
def no_more_descriptors() -> Iterator[None]:
    """Let this process open no more files."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with socket.socket() as probe:
        limit = probe.fileno()  # the lowest that is free (open(2))
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


async def test_accepting_resumes_after_descriptors_ran_out(pki: Path, log: Recorder) -> None:
    async with echo_target() as target, running_trio(pki) as trio:
        app = await trio.connect(target.port)
        waiting = socket.socket()
        with app, waiting:
            await write(app, b"x")
            assert await read(app, 1) == b"x"  # the target has its descriptor, too
            trio.redirect(waiting, target.port)
            with no_more_descriptors():
                waiting.connect(("127.0.0.1", trio.capture_port))
                await until(lambda: log.of("accept_paused"))
            waiting.setblocking(False)
            await write(waiting, b"patience")
            assert await read(waiting, 8) == b"patience"
        assert len(log.of("accept_paused")) < 20  # a tick each, not a turn of the loop each
