"""The example proxy over its life: it drains, comes back, proves that it lives, and notices lies."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from ipaddress import IPv4Address
from pathlib import Path
from signal import SIGKILL

import pytest

from tests.interop.casting import CASTS, company, their_proxy
from tests.interop.node import Node
from tests.loopback.applications import Target, echo_target, end, ending, open_pair, read, read_to_end, write
from tests.loopback.peers import RawServerLink, raw_server
from tests.loopback.recorder import Recorder
from tests.loopback.running import until
from tests.loopback.test_links import echoes
from tests.loopback.trio import HOST, VIRTUAL, free_port, stage
from tunneler.addresses import ConnectionId, Endpoint
from tunneler.errors import Code
from tunneler.protocol.frames import (
    Ack,
    Bye,
    ConnectionFrame,
    Data,
    Fin,
    Frame,
    Heartbeat,
    Hello,
    Open,
    OpenResult,
    Reset,
    Routes,
)
from tunneler.protocol.window import FLOOR

SOURCE = Endpoint(IPv4Address("192.0.2.1"), 1)
NAME = ConnectionId(b"0123456789abcdef")


async def test_sigterm_drains(pki: Path, transport: str, log: Recorder) -> None:
    """What is open finishes, nothing new comes in, and the server hears why the link ends."""
    with Target() as target:
        async with company(pki, CASTS["their proxy"], transport) as (trio, _, proxy):
            assert proxy is not None
            with await open_pair(trio, target) as pair:
                proxy.process.terminate()
                await proxy.said("draining")
                with await trio.connect(target.port) as late:
                    assert await ending(late) == "reset"
                await write(pair.app, b"unhurried")
                end(pair.app)
                assert await read_to_end(pair.target) == b"unhurried"
                assert proxy.process.returncode is None
                await write(pair.target, b"reply")
                end(pair.target)
                assert await read_to_end(pair.app) == b"reply"
            assert await proxy.ended() == 0
            assert proxy.lines[-1] == "link ended: drained"
            await until(lambda: log.of("link_down", "server", cause="draining"))


async def test_drain_has_a_deadline(pki: Path, transport: str, log: Recorder) -> None:
    async with stage(pki) as trio:
        trio.start_server(transport=transport)
        trio.start_client(transport=transport)
        async with their_proxy(pki, f"{HOST}:{trio.server_port}", "--drain", "0.2") as proxy:
            await trio.ready()
            with Target() as target, await open_pair(trio, target) as pair:
                await proxy.stop()
                assert await ending(pair.app) == "reset"
                assert await ending(pair.target) == "reset"
            await trio.released()
    assert log.of("connection_closed", "client", cause="draining")


async def test_comes_back_after_its_server_did(pki: Path, transport: str) -> None:
    async with (
        echo_target() as target,
        company(pki, CASTS["their proxy"], transport) as (trio, _, proxy),
    ):
        assert proxy is not None
        with Target() as other, await open_pair(trio, other) as pair:
            await write(pair.app, b"?")
            assert await read(pair.target, 1) == b"?"  # the proxy knows that its dial succeeded
            await trio.servers[-1].kill()
            assert await ending(pair.target) == "reset"
        trio.start_server(transport=transport)
        await trio.ready()
        assert await echoes(trio, target.port)
        await proxy.said("registered", times=2)


async def test_its_death_resets_what_was_open(pki: Path, transport: str) -> None:
    async with stage(pki) as trio:
        trio.start_server(transport=transport)
        trio.start_client(transport=transport)
        async with their_proxy(pki, f"{HOST}:{trio.server_port}", status=-SIGKILL) as proxy:
            await trio.ready()
            with Target() as target, await open_pair(trio, target) as pair:
                proxy.process.kill()
                assert await ending(pair.app) == "reset"
            await trio.released()


# A server that says what the test says.


@asynccontextmanager
async def lied_to(pki: Path) -> AsyncIterator[tuple[RawServerLink, Node]]:
    port = free_port()
    async with raw_server(pki, port) as server, their_proxy(pki, f"{HOST}:{port}") as proxy:
        await until(
            lambda: server.links and any(isinstance(frame, Routes) for frame in server.links[0].frames)
        )
        yield server.links[0], proxy


def first(link: RawServerLink, kind: type[Frame]) -> Frame | None:
    return next((frame for frame in link.frames if isinstance(frame, kind)), None)


@pytest.mark.parametrize(
    ("frames", "code"),
    [
        ([Data(NAME, 1, b"x")], Code.PROTOCOL),
        ([Data(NAME, 0, b"x"), Data(NAME, 2, b"x")], Code.PROTOCOL),
        ([Data(NAME, 1 << 30, b"x")], Code.FLOW_CONTROL),
        ([Fin(NAME, 1)], Code.PROTOCOL),
        ([Fin(NAME, 0), Data(NAME, 0, b"x")], Code.PROTOCOL),
        ([Fin(NAME, 0), Fin(NAME, 1)], Code.PROTOCOL),
        ([Ack(NAME, 1, FLOOR)], Code.PROTOCOL),
        ([Open(NAME, SOURCE, Endpoint(IPv4Address(VIRTUAL), 1), FLOOR)], Code.PROTOCOL),
    ],
)  # fmt: skip
async def test_fault_costs_the_connection(pki: Path, frames: list[ConnectionFrame], code: Code) -> None:
    with Target() as target:
        async with lied_to(pki) as (link, _):
            destination = Endpoint(IPv4Address(VIRTUAL), target.port)
            link.send(Open(NAME, SOURCE, destination, FLOOR))
            with await target.accept() as far:
                await until(lambda: first(link, OpenResult))
                await until(lambda: not link.stream.congested)
                link.send(*frames)
                await until(lambda: first(link, Reset))
                assert first(link, Reset) == Reset(NAME, code)
                assert await ending(far) == ("fin" if Fin(NAME, 0) in frames else "reset")
            assert not link.closed


async def test_repeats_are_dropped(pki: Path) -> None:
    with Target() as target:
        async with lied_to(pki) as (link, _):
            destination = Endpoint(IPv4Address(VIRTUAL), target.port)
            link.send(
                Open(NAME, SOURCE, destination, FLOOR),
                *(Data(NAME, 0, b"ab"), Data(NAME, 0, b"ab"), Data(NAME, 1, b"bc"), Data(NAME, 1, b"b")),
            )
            with await target.accept() as far:
                await until(lambda: first(link, OpenResult))
                await until(lambda: not link.stream.congested)
                link.send(Fin(NAME, 3), Fin(NAME, 3))
                assert await read_to_end(far) == b"abc"
                await until(lambda: first(link, Ack))
                ack = first(link, Ack)
                assert isinstance(ack, Ack)
                assert ack.offset == 4
            await until(lambda: first(link, Fin))
            link.send(Ack(NAME, 1, FLOOR))  # so that nothing is left that a drain waits for
            assert first(link, Reset) is None


async def test_outside_its_networks(pki: Path) -> None:
    async with lied_to(pki) as (link, _):
        destination = Endpoint(IPv4Address("198.51.100.1"), 80)
        link.send(Open(NAME, SOURCE, destination, FLOOR))
        await until(lambda: first(link, OpenResult))
        assert first(link, OpenResult) == OpenResult(NAME, Code.DENIED)


async def test_unknown_connection(pki: Path) -> None:
    async with lied_to(pki) as (link, _):
        link.send(Ack(NAME, 0, FLOOR), Reset(NAME, Code.IDLE), Data(NAME, 0, b"late"))
        await until(lambda: first(link, Reset))
        assert first(link, Reset) == Reset(NAME, Code.UNKNOWN_CONNECTION)
        assert not link.closed


@pytest.mark.parametrize(
    "frame",
    [Hello(1, "again"), Routes("group", ()), OpenResult(NAME, Code.OK, FLOOR)],
    ids=lambda frame: type(frame).__name__,
)
async def test_fault_costs_the_link(pki: Path, frame: Frame) -> None:
    async with lied_to(pki) as (link, _):
        link.send(frame)
        await until(lambda: first(link, Bye))
        assert first(link, Bye) == Bye(Code.PROTOCOL)
        await until(lambda: link.closed)


async def test_silence_is_broken_by_heartbeats(pki: Path) -> None:
    async with lied_to(pki) as (link, _):
        await until(lambda: Heartbeat() in link.frames, seconds=7)
