"""Peers with valid certificates and bad intentions: each costs itself its link, and nobody else anything.

While they are at it, an honest transfer goes on through the same server.
"""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from ipaddress import IPv4Address
from pathlib import Path

import grpc
import pytest

from tests.loopback.applications import Pair, Target, open_pair, read, write
from tests.loopback.peers import HELLO, RawLink, raw_link
from tests.loopback.recorder import Recorder
from tests.loopback.running import background, eventually, until
from tests.loopback.trio import VIRTUAL, Trio, running_trio
from tunneler.addresses import ConnectionId, Endpoint, Role, Route, parse_network
from tunneler.errors import Code
from tunneler.protocol.frames import (
    MAX_BATCH_ACCEPTED,
    Ack,
    Data,
    Drain,
    Fin,
    Hello,
    Open,
    OpenResult,
    Reset,
    Routes,
    RoutesResult,
)
from tunneler.protocol.window import FLOOR
from tunneler.wire.codec import encode

NAME = ConnectionId(b"0123456789abcdef")
SOURCE = Endpoint(IPv4Address("192.0.2.1"), 1234)


def open_of(port: int, name: ConnectionId = NAME) -> Open:
    return Open(name, SOURCE, Endpoint(IPv4Address(VIRTUAL), port), limit=FLOOR)


@asynccontextmanager
async def honest_transfer(trio: Trio, target: Target) -> AsyncIterator[Pair]:
    """Bytes that flow both ways for as long as the block runs, and are checked."""
    with await open_pair(trio, target) as pair:

        async def flow() -> None:
            rounds = 0
            while True:
                data = bytes([rounds % 251]) * 20_000
                await write(pair.app, data)
                assert await read(pair.target, len(data)) == data
                await write(pair.target, data)
                assert await read(pair.app, len(data)) == data
                rounds += 1
                moved.append(rounds)

        moved: list[int] = []
        async with background(flow()):
            yield pair
            reached = len(moved)
            await until(lambda: len(moved) >= reached + 3)


def foreign_connection(trio: Trio) -> ConnectionId:
    """The id of the honest connection, which nobody outside it should know."""
    (name,) = trio.server.relay.connections
    return name


Attack = Callable[[RawLink, Trio], Awaitable[None]]


def sends(*batches: bytes) -> Attack:
    async def attack(link: RawLink, trio: Trio) -> None:
        for batch in batches:
            await link.send_bytes(batch)

    return attack


async def foreign_data(link: RawLink, trio: Trio) -> None:
    await link.send(Data(foreign_connection(trio), 0, b"injected"))


async def foreign_reset(link: RawLink, trio: Trio) -> None:
    await link.send(Reset(foreign_connection(trio), Code.RESET_BY_PEER))


async def foreign_ack(link: RawLink, trio: Trio) -> None:
    await link.send(Ack(foreign_connection(trio), 0, FLOOR))


async def foreign_open(link: RawLink, trio: Trio) -> None:
    await link.send(open_of(80, foreign_connection(trio)))


CLIENT_ATTACKS: dict[str, tuple[Attack, Code]] = {
    "random bytes": (sends(random.Random(1).randbytes(500)), Code.PROTOCOL),
    "frame of unknown kind": (sends(b"\x0a\x14\x0a\x10" + NAME + b"\x10\x63"), Code.PROTOCOL),
    "cut short": (sends(encode([Data(NAME, 0, b"x" * 100)])[:-10]), Code.PROTOCOL),
    "a second Hello": (sends(encode([HELLO])), Code.PROTOCOL),
    "OpenResult": (sends(encode([OpenResult(NAME, Code.OK, FLOOR)])), Code.PROTOCOL),
    "Routes": (
        sends(encode([Routes("g", (Route(parse_network("100.64.1.0/24"), parse_network("127.0.0.0/24")),))])),
        Code.PROTOCOL,
    ),
    "RoutesResult": (sends(encode([RoutesResult(())])), Code.PROTOCOL),
    "open of others' id": (foreign_open, Code.CONFLICT),
}


@pytest.mark.parametrize("name", CLIENT_ATTACKS)
async def test_client_that_breaks_the_protocol(pki: Path, log: Recorder, name: str) -> None:
    attack, code = CLIENT_ATTACKS[name]
    with Target() as target:
        async with running_trio(pki) as trio, honest_transfer(trio, target):
            async with raw_link(pki, trio.server_port) as link:
                await attack(link, trio)
                assert await link.ended() is code
            await until(lambda: len(trio.server.links) == 2)
    (down,) = [entry for entry in log.of("link_down", "server") if entry["peer"].instance == "raw"]
    assert down["cause"] == code.name.lower()
    assert down["reason"]


@pytest.mark.parametrize("attack", [foreign_data, foreign_reset, foreign_ack])
async def test_frames_for_a_connection_of_others_change_nothing(pki: Path, attack: Attack) -> None:
    """They may be late, so the link stays; it learns no more than that there is nothing for it."""
    with Target() as target:
        async with (
            running_trio(pki) as trio,
            honest_transfer(trio, target),
            raw_link(pki, trio.server_port) as link,
        ):
            name = foreign_connection(trio)
            await attack(link, trio)
            await link.send(Data(name, 0, b"?"))
            assert await link.until(Reset) == Reset(name, Code.UNKNOWN_CONNECTION)
            assert trio.connections() == (1, 1, 1)


async def test_oversize_batch(pki: Path, log: Recorder) -> None:
    """gRPC itself refuses it, before it is read."""
    with Target() as target:
        async with running_trio(pki) as trio, honest_transfer(trio, target):
            async with raw_link(pki, trio.server_port) as link:
                await link.send_bytes(b"\0" * (MAX_BATCH_ACCEPTED + 1))
                await link.ended()
            await until(lambda: len(trio.server.links) == 2)


async def test_frame_before_hello(pki: Path) -> None:
    with Target() as target:
        async with (
            running_trio(pki) as trio,
            honest_transfer(trio, target),
            raw_link(pki, trio.server_port, hello=False) as link,
        ):
            await link.send(open_of(target.port))
            assert await link.ended() is Code.PROTOCOL


async def test_another_version(pki: Path) -> None:
    with Target() as target:
        async with (
            running_trio(pki) as trio,
            honest_transfer(trio, target),
            raw_link(pki, trio.server_port, hello=False) as link,
        ):
            await link.send(Hello(99, "future"))
            assert await link.ended() is Code.VERSION


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        (Data(NAME, 5, b"a gap"), Code.PROTOCOL),
        (Data(NAME, 0, b"x" * (FLOOR + 1)), Code.FLOW_CONTROL),
        (Fin(NAME, 7), Code.PROTOCOL),
        (Ack(NAME, 1000, FLOOR), Code.PROTOCOL),
    ],
    ids=["gap", "beyond the window", "FIN in the wrong place", "ACK of nothing"],
)
async def test_fault_on_one_connection_ends_that_one(
    pki: Path, log: Recorder, fault: Data | Fin | Ack, code: Code
) -> None:
    """The link stays, and carries the next connection; the target sees a reset."""
    with Target() as target, Target() as victim:
        async with running_trio(pki) as trio, honest_transfer(trio, target):
            async with raw_link(pki, trio.server_port) as link:
                for _ in range(2):
                    await link.send(open_of(victim.port))
                    with await victim.accept() as far:
                        assert (await link.until(OpenResult)).code is Code.OK  # type: ignore[union-attr]
                        await link.send(fault)
                        reset = await link.until(Reset)
                        assert reset == Reset(NAME, code)
                        with pytest.raises(ConnectionResetError):
                            await read(far, 1)
            assert await eventually(lambda: len(trio.server.relay.connections) == 1)
    closed = log.of("connection_closed", "server", cause=code.name.lower())
    assert len(closed) == 2
    assert all(entry["detail"] for entry in closed)


@pytest.mark.parametrize(
    "batch",
    [
        encode([Open(NAME, SOURCE, SOURCE, FLOOR)]),
        random.Random(2).randbytes(300),
        encode([Routes("g", tuple(Route(parse_network(f"10.{n}.0.0/16"), parse_network(f"10.{n}.0.0/16"))
                                  for n in range(250)) * 2)]),
    ],
    ids=["Open", "random bytes", "too many routes"],
)  # fmt: skip
async def test_proxy_that_breaks_the_protocol(pki: Path, batch: bytes) -> None:
    with Target() as target:
        async with running_trio(pki) as trio, honest_transfer(trio, target):
            async with raw_link(pki, trio.server_port, Role.PROXY) as link:
                await link.send_bytes(batch)
                assert await link.ended() in (Code.PROTOCOL, Code.LIMITED)
            await until(lambda: len(trio.server.links) == 2)


async def test_proxy_cannot_take_a_prefix_that_another_group_has(pki: Path, log: Recorder) -> None:
    with Target() as target:
        async with (
            running_trio(pki) as trio,
            honest_transfer(trio, target),
            raw_link(pki, trio.server_port, Role.PROXY) as link,
        ):
            stolen = Route(parse_network("100.64.1.0/24"), parse_network("10.0.0.0/24"))
            await link.send(Routes("thieves", (stolen,)))
            result = await link.until(RoutesResult)
            assert result == RoutesResult((stolen,))
    assert len(log.of("route_conflict", "server")) == 1


async def test_client_certificate_may_not_be_a_proxy(pki: Path, log: Recorder) -> None:
    with Target() as target:
        async with running_trio(pki) as trio, honest_transfer(trio, target):
            with pytest.raises(grpc.aio.AioRpcError) as refusal:
                async with raw_link(
                    pki, trio.server_port, Role.CLIENT, hello=False, method=Role.PROXY
                ) as link:
                    await link.until(Hello)
            assert refusal.value.code() is grpc.StatusCode.PERMISSION_DENIED
            assert len(trio.server.links) == 2
    assert log.of("peer_denied")


async def test_flood_of_questions_without_reading_the_answers(pki: Path, log: Recorder) -> None:
    """Data of an unknown connection is answered; who reads no answer is cut off when too many wait."""
    with Target() as target:
        async with (
            running_trio(pki) as trio,
            honest_transfer(trio, target),
            raw_link(pki, trio.server_port) as link,
        ):
            batch = encode(Data(NAME, 0, b"?") for _ in range(15_000))

            async def flood() -> None:
                while True:
                    await link.send_bytes(batch)

            async with background(swallow(flood())):
                await until(lambda: len(trio.server.links) == 2, 20)
    assert log.of("link_down", "server", cause="limited")


async def swallow(body: Awaitable[None]) -> None:
    with suppress(grpc.RpcError):
        await body


async def test_flood_of_open_and_reset(pki: Path) -> None:
    """Connections that end before they begin leave nothing with anybody."""
    with Target() as target, Target(backlog=4096) as victim:
        async with running_trio(pki) as trio, honest_transfer(trio, target):
            async with raw_link(pki, trio.server_port) as link:
                for number in range(500):
                    name = ConnectionId(number.to_bytes(16, "big"))
                    await link.send(
                        open_of(victim.port, name), Data(name, 0, b"x" * 1000), Reset(name, Code.IDLE)
                    )
                await link.send(Drain())
                await until(lambda: any(each.draining for each in trio.server.relay.links))
            assert await eventually(lambda: trio.connections() == (1, 1, 1))
