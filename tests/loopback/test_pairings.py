"""Both transports in every role: what a connection is promised holds whoever speaks to whom."""

from __future__ import annotations

import asyncio
import itertools
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.loopback.applications import (
    Target,
    echo_target,
    end,
    ending,
    noise,
    open_pair,
    read_to_end,
    reset,
    write,
)
from tests.loopback.peers import Material
from tests.loopback.recorder import Recorder
from tests.loopback.running import until
from tests.loopback.test_carrying import exchange
from tests.loopback.test_health import channel, check
from tests.loopback.test_links import echoes
from tests.loopback.trio import HOST, Trio, part_of, stage, usable
from tunneler.addresses import HostPort, Role
from tunneler.errors import TransportError
from tunneler.pki.identity import identity_of_certificate
from tunneler.sockets.reactor import Reactor
from tunneler.transport.grpcio.dialer import GrpcDialer
from tunneler.transport.native.dialer import NativeDialer
from tunneler.transport.seam import BatchStream, Security
from tunneler.wire.health import ServingStatus, response

MEBIBYTE = 1024 * 1024
TRANSPORTS = ("native", "grpcio")
PARTS = ("client", "server", "proxy")


class Cast(NamedTuple):
    """Which transport each role uses."""

    client: str
    server: str
    proxy: str

    @asynccontextmanager
    async def linked(self, pki: Path, **timeouts: float) -> AsyncIterator[Trio]:
        async with stage(pki, **timeouts) as trio:
            trio.start_server(transport=self.server)
            trio.start_proxy(transport=self.proxy)
            trio.start_client(transport=self.client)
            await trio.ready()
            yield trio


CASTS = [Cast(*transports) for transports in itertools.product(TRANSPORTS, repeat=3)]


@pytest.fixture(params=CASTS, ids=[" - ".join(each) for each in CASTS])
def cast(request: pytest.FixtureRequest) -> Cast:
    assert isinstance(request.param, Cast)
    return request.param


# Connections.


async def say(sock: socket.socket, data: bytes) -> None:
    await write(sock, data)
    end(sock)


async def digest(sock: socket.socket) -> bytes:
    return sha256(await read_to_end(sock, 20)).digest()


@pytest.mark.parametrize("size", [1, 70_000, 16 * MEBIBYTE])
async def test_both_ways_at_once(pki: Path, cast: Cast, size: int) -> None:
    with Target() as target:
        async with cast.linked(pki) as trio:
            with await open_pair(trio, target) as (app, far):
                async with asyncio.TaskGroup() as group:
                    group.create_task(say(app, noise(size, 1)))
                    group.create_task(say(far, noise(size, 2)))
                    up = group.create_task(digest(far))
                    down = group.create_task(digest(app))
            assert up.result() == sha256(noise(size, 1)).digest()
            assert down.result() == sha256(noise(size, 2)).digest()
            await trio.released()


@pytest.mark.parametrize("first", ["app", "target"])
async def test_half_close(pki: Path, cast: Cast, first: str) -> None:
    with Target() as target:
        async with cast.linked(pki) as trio:
            with await open_pair(trio, target) as pair:
                early, late = pair if first == "app" else reversed(pair)
                await say(early, b"request")
                assert await read_to_end(late) == b"request"
                async with asyncio.TaskGroup() as group:
                    group.create_task(say(late, noise(MEBIBYTE)))
                    answer = group.create_task(read_to_end(early))
                assert answer.result() == noise(MEBIBYTE)
            await trio.released()


@pytest.mark.parametrize("first", ["app", "target"])
async def test_reset(pki: Path, cast: Cast, first: str) -> None:
    with Target() as target:
        async with cast.linked(pki) as trio:
            with await open_pair(trio, target) as pair:
                one, other = pair if first == "app" else reversed(pair)
                reset(one)
                assert await ending(other) == "reset"
            await trio.released()


async def test_refusal(pki: Path, log: Recorder, cast: Cast) -> None:
    async with cast.linked(pki) as trio:
        with await trio.connect(1) as app:
            assert await ending(app, 2) == "reset"
        with await trio.connect(1, host="100.64.77.1") as app:
            assert await ending(app, 2) == "reset"
        await trio.released()
    causes = [event["cause"] for event in log.of("connection_refused", "client")]
    assert causes == ["refused", "no_route"]


async def test_50_at_once(pki: Path, cast: Cast) -> None:
    async with echo_target() as target, cast.linked(pki) as trio:
        async with asyncio.TaskGroup() as group:
            for seed in range(50):
                group.create_task(exchange(trio, target.port, seed))
        await trio.released()


# Links.


@pytest.mark.parametrize("part", PARTS)
async def test_drain(pki: Path, log: Recorder, cast: Cast, part: str) -> None:
    """What is open ends in good order; whoever is at the other end of a link is told why it ends."""
    others = [each for each in PARTS if each != part]
    with Target() as target:
        async with cast.linked(pki, drain=10) as trio:
            with await open_pair(trio, target) as pair:
                running = part_of(trio, part)
                running.stop.set()
                await until(lambda: log.of("draining", part))
                await say(pair.app, b"unhurried")
                assert await read_to_end(pair.target) == b"unhurried"
                assert not running.task.done()
                await say(pair.target, b"reply")
                assert await read_to_end(pair.app) == b"reply"
            async with asyncio.timeout(4):
                await running.ended()
            told = others if part == "server" else ["server"]
            await until(lambda: all(log.of("link_down", each, cause="draining") for each in told))
    assert log.of("connection_closed", part, cause="ok")


async def test_server_restart(pki: Path, cast: Cast) -> None:
    """Links come back, to a server with the other transport, too: what is on the wire is one protocol."""
    async with echo_target() as target, cast.linked(pki) as trio:
        (other,) = {*TRANSPORTS} - {cast.server}
        for stop, transport in (("finish", other), ("kill", cast.server)):
            await getattr(trio.servers[-1], stop)()
            await until(lambda: not usable(trio.client) and not usable(trio.proxy))
            trio.start_server(transport=transport)
            await trio.ready()
            assert await echoes(trio, target.port)
        await trio.released()


async def test_health(pki: Path, cast: Cast) -> None:
    async with cast.linked(pki) as trio, channel(pki, trio.server_port) as opened:
        assert await check(opened) == response(ServingStatus.SERVING)


# Admission, between two.


class Deaf:
    """See :class:`tunneler.transport.seam.BatchReceiver`; is told nothing but the end."""

    error: Exception | None = None

    def __init__(self, stream: BatchStream) -> None:
        self.stream = stream

    def batch_received(self, batch: bytes) -> None:
        raise AssertionError("heard something of a server that does not let us in")

    def room_made(self) -> None:
        pass

    def stream_closed(self, error: Exception | None) -> None:
        self.error = error


async def dialled(pki: Path, transport: str, role: Role, holder: str, port: int) -> str:
    """Dial as a role, with the certificate of another; return what the operator is told."""
    security = Security(Material(pki, holder), identity_of_certificate)
    attached: list[Deaf] = []

    def attach(stream: BatchStream) -> Deaf:
        attached.append(Deaf(stream))
        return attached[-1]

    with Reactor() as reactor:
        dialer = (
            NativeDialer(role, security, reactor, 3.0)
            if transport == "native"
            else GrpcDialer(role, security, 3.0)
        )
        try:
            await dialer.run_link(HostPort(HOST, port), attach)
        except TransportError as error:
            return str(error)
    return str(attached[0].error)


@pytest.mark.parametrize("listening", TRANSPORTS)
@pytest.mark.parametrize("dialling", TRANSPORTS)
@pytest.mark.parametrize(("role", "holder"), [(Role.CLIENT, "proxy"), (Role.PROXY, "client")])
async def test_certificate_of_another_role(
    pki: Path, log: Recorder, dialling: str, listening: str, role: Role, holder: str
) -> None:
    async with stage(pki) as trio:
        trio.start_server(transport=listening)
        await until(lambda: log.of("listening"))
        assert "PERMISSION_DENIED" in await dialled(pki, dialling, role, holder, trio.server_port)
        assert trio.server.links == set()
    (denied,) = log.of("peer_denied", "server")
    assert f"spiffe://tunneler/{holder}" in str(denied["reason"])
