"""Links that come and go: loss, restart, replacement, silence, several servers, idle connections."""

from __future__ import annotations

import asyncio
import socket
from contextlib import ExitStack, suppress
from pathlib import Path
from unittest.mock import patch

import pytest

from tests.loopback.applications import (
    Target,
    echo_target,
    ending,
    open_pair,
    read,
    write,
)
from tests.loopback.peers import raw_link, raw_server
from tests.loopback.recorder import Recorder
from tests.loopback.running import background, eventually, until
from tests.loopback.trio import HOST, Trio, free_port, part_of, running_trio, stage, usable
from tunneler.addresses import Role
from tunneler.engine.lifecycle import Lifecycle
from tunneler.errors import Code, TransportError
from tunneler.protocol.frames import Bye, Heartbeat
from tunneler.roles.client import Client
from tunneler.roles.server import Server


async def echoes(trio: Trio, port: int, capture_port: int = 0) -> bool:
    with await trio.connect(port, capture_port=capture_port) as app:
        try:
            await write(app, b"?")
            return await read(app, 1) == b"?"
        except ConnectionError:
            return False


# Loss.


@pytest.mark.parametrize("victim", ["client", "proxy", "server"])
async def test_link_loss_resets_what_was_open(pki: Path, victim: str) -> None:
    """Both applications see a reset, and nobody keeps anything."""
    with Target() as target:
        async with running_trio(pki) as trio:
            pairs = [await open_pair(trio, target) for _ in range(5)]
            running = part_of(trio, victim)
            async with background(*(flood(pair.app) for pair in pairs[:2])) as writing:
                await running.kill()
                for pair in pairs:
                    assert await ending(pair.target, 5) == "reset"
                async with asyncio.timeout(5):
                    await asyncio.gather(*writing)
                for pair in pairs[2:]:
                    assert await ending(pair.app, 5) == "reset"
            for pair in pairs:
                pair.__exit__()
            await trio.released()


async def flood(sock: socket.socket) -> None:
    """Write until a reset."""
    with suppress(ConnectionError):
        while True:
            await write(sock, b"x" * 1_000_000)


async def test_server_restart(pki: Path, log: Recorder) -> None:
    async with echo_target() as target, running_trio(pki) as trio:
        assert await echoes(trio, target.port)
        for ending_by in ("finish", "kill"):
            await getattr(trio.servers[-1], ending_by)()
            await until(lambda: not usable(trio.client) and not usable(trio.proxy))
            assert not await echoes(trio, target.port)
            await until(lambda: log.of("link_failed"))
            trio.start_server()
            await trio.ready()
            assert await echoes(trio, target.port)
        await trio.released()
    assert len(log.of("connection_refused", "client", cause="link_lost")) == 2


@pytest.mark.parametrize("part", ["client", "proxy"])
async def test_restart_of_the_others(pki: Path, part: str) -> None:
    async with echo_target() as target, running_trio(pki) as trio:
        for ending_by in ("finish", "kill"):
            await getattr(part_of(trio, part), ending_by)()
            await until(lambda: len(trio.server.relay.links) == 1)
            trio.start_client() if part == "client" else trio.start_proxy()
            await trio.ready()
            assert await echoes(trio, target.port)


async def test_pauses_between_attempts(pki: Path, log: Recorder) -> None:
    """Full jitter: the draw decides, below a bound that doubles up to the cap."""
    with patch("tunneler.engine.backoff.Backoff.__init__.__defaults__", (lambda: 0.5,)):
        async with stage(pki, backoff_start=0.01, backoff_cap=0.05) as trio:
            trio.start_client()
            assert await eventually(lambda: len(log.of("link_retry")) >= 5)
            pauses = [entry["seconds"] for entry in log.of("link_retry")[:5]]
            assert pauses == [0.005, 0.01, 0.02, 0.025, 0.025]


async def test_newer_link_replaces_the_older(pki: Path, log: Recorder) -> None:
    """A second client with the same name takes over; the first does not fight for its place."""
    async with echo_target() as target, running_trio(pki, backoff_cap=0.3) as trio:
        first = trio.clients[0]
        with Target() as held, await open_pair(trio, held) as pair:
            trio.start_client(listen_port=free_port())
            await until(lambda: usable(trio.client) and not usable(first.role))
            assert await ending(pair.app) == "reset"
            assert await ending(pair.target) == "reset"
        assert log.of("link_down", "client", cause="replaced")
        await until(lambda: log.of("link_retry"))
        assert log.of("link_retry")[-1]["seconds"] >= 0.15
        await first.finish()
        await trio.ready()
        port = trio.clients[-1].role.config.listen_port
        assert await echoes(trio, target.port, capture_port=port)


async def test_link_of_another_name_is_not_replaced(pki: Path) -> None:
    async with echo_target() as target, running_trio(pki) as trio:
        port = free_port()
        trio.start_client(listen_port=port, client_id="client-2")
        await trio.ready()
        assert await echoes(trio, target.port)
        assert await echoes(trio, target.port, capture_port=port)


# Silence.


async def test_server_finds_a_silent_peer(pki: Path, log: Recorder) -> None:
    """A proxy that stops loses its routes; heartbeats alone keep a link for as long as they come."""
    async with stage(pki, heartbeat=0.1, silence=0.6) as trio:
        trio.start_server()
        async with raw_link(pki, trio.server_port, Role.PROXY) as quiet:
            async with raw_link(pki, trio.server_port) as alive:
                start = asyncio.get_running_loop().time()
                while len(trio.server.relay.links) == 2:
                    await alive.send(Heartbeat())
                    await asyncio.sleep(0.05)
                assert 0.3 < asyncio.get_running_loop().time() - start < 3
                (left,) = trio.server.relay.links
                assert left.party.identity.role is Role.CLIENT
                await alive.until(Heartbeat)
            assert await quiet.ended() is Code.SILENT
    assert len(log.of("link_down", "server", cause="silent")) == 1


async def test_server_wants_hello(pki: Path, log: Recorder) -> None:
    async with stage(pki, handshake=0.3) as trio:
        trio.start_server()
        async with raw_link(pki, trio.server_port, hello=False) as mute:
            await until(lambda: trio.server.links)
            assert trio.server.relay.links == ()
            assert await mute.ended() is Code.SILENT
        assert trio.server.links == set()


async def test_client_finds_a_silent_server(pki: Path, log: Recorder) -> None:
    """And dials it again; what was open is reset."""
    async with (
        stage(pki, heartbeat=0.1, silence=0.5, backoff_cap=0.05) as trio,
        raw_server(pki, trio.server_port) as server,
    ):
        trio.start_client()
        await until(lambda: usable(trio.client))
        with await trio.connect(80) as app:
            assert await ending(app, 5) == "reset"
        await until(lambda: len(server.links) >= 2)
        assert server.links[0].closed
        assert Bye(Code.SILENT) in server.links[0].frames
        assert Heartbeat() in server.links[0].frames
        await trio.clients[0].finish()


async def test_server_that_never_greets(pki: Path, log: Recorder) -> None:
    with Target() as listener:  # TCP, and not a byte of TLS
        async with stage(pki, handshake=0.3) as trio:
            trio.start_client(server_addr=f"{HOST}:{listener.port}")
            with await listener.accept():
                assert await eventually(lambda: log.of("link_failed"))
            assert "no answer within 0.3 s" in str(log.of("link_failed")[0]["error"])


# Several servers.


async def test_client_spreads_over_two_servers_and_fails_over(pki: Path) -> None:
    async with echo_target() as target, stage(pki) as trio:
        ports = [free_port(), free_port()]
        for port in ports:
            trio.start_server(port)
        servers = [f"{HOST}:{port}" for port in ports]
        trio.start_proxy(server_addr=servers)
        trio.start_client(server_addr=servers)
        await trio.ready(links=2)
        with ExitStack() as apps:
            for _ in range(64):
                apps.enter_context(await trio.connect(target.port))
            await until(lambda: trio.connections() == (64, 64, 64))
            counts = [len(running.role.relay.connections) for running in trio.servers]
            assert min(counts) >= 8  # fewer: once in some 10^10 runs
        await trio.released()

        await trio.servers[0].kill()
        await until(lambda: usable(trio.client) == 1)
        for _ in range(8):
            assert await echoes(trio, target.port)
        trio.start_server(ports[0])
        await trio.ready(links=2)
        await trio.released()


# Idleness.


async def test_idle_connection_is_reset(pki: Path, log: Recorder) -> None:
    with Target() as target:
        async with running_trio(pki, idle=0.5) as trio:
            idle = await open_pair(trio, target)
            busy = await open_pair(trio, target)
            with idle, busy:
                async with background(trickle(busy.target)):
                    assert await ending(idle.app, 5) == "reset"
                    assert await ending(idle.target, 5) == "reset"
                    assert len(await read(busy.app, 20)) == 20
    assert log.of("connection_closed", cause="idle")
    assert not log.of("connection_closed", "server", cause="idle", bytes_down=20)


async def trickle(sock: socket.socket) -> None:
    while True:
        await write(sock, b".")
        await asyncio.sleep(0.05)


async def test_idle_timeout_spares_what_keepalive_watches(pki: Path) -> None:
    with Target() as target:
        async with running_trio(pki, idle=0.3, idle_spares_keepalive=True) as trio:
            with await open_pair(trio, target) as pair:
                await asyncio.sleep(0.9)
                await write(pair.app, b"still here")
                assert await read(pair.target, 10) == b"still here"


# Fewer links than connections want.


async def test_limit_of_links(pki: Path) -> None:
    """The one link too many is told so, and no other is touched."""
    async with stage(pki) as trio:
        trio.start_server(limits={"max_links": 1})
        async with raw_link(pki, trio.server_port) as first:
            async with raw_link(pki, trio.server_port, Role.PROXY, hello=False) as second:
                assert await second.ended() is Code.LIMITED
            await first.send(Heartbeat())
            assert len(trio.server.links) == 1


async def test_address_in_use(pki: Path) -> None:
    with Target() as taken:
        async with stage(pki) as trio:
            server = Server(trio.server_config(taken.port))
            with pytest.raises(TransportError, match=f"cannot listen on {HOST}:{taken.port}"):
                await server.serve(Lifecycle())
            client = Client(trio.client_config(listen_port=taken.port))
            with pytest.raises(TransportError, match=f"cannot listen on {HOST}:{taken.port}"):
                await client.serve(Lifecycle())
