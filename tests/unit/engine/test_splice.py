"""What the link brings, and the dialled target: bytes, ends and resets on their way to a socket."""

from __future__ import annotations

import asyncio
import socket
from ipaddress import IPv4Address

import pytest

from tests.loopback.running import until
from tests.unit.engine.splicing import (
    ANYWHERE,
    Bench,
    bench,
    name,
    pattern,
    read,
    send_reset,
)
from tunneler.addresses import Endpoint, Role
from tunneler.errors import Code
from tunneler.protocol.frames import (
    Ack,
    Data,
    Fin,
    Open,
    OpenResult,
    Reset,
)
from tunneler.protocol.window import CEILING, FLOOR
from tunneler.sockets.calls import Failure
from tunneler.wire.codec import encode


async def test_what_the_socket_does_not_take_waits() -> None:
    with bench() as made:
        app = await made.open()
        data = pattern(FLOOR)[:FLOOR]
        made.say(*(Data(name(), at, data[at : at + 4000]) for at in range(0, FLOOR, 4000)))
        splice = made.end.splices[name()]
        await until(lambda: splice._unsent)
        assert await read(app, FLOOR) == data
        assert not splice._unsent
        await until(lambda: any(isinstance(frame, Ack) for frame in made.heard))
        assert splice.connection.receiving.handed_over == FLOOR


async def test_small_pieces_that_wait_are_joined() -> None:
    """A window of single bytes costs about a window, not an object for each byte."""
    with bench() as made:
        app = await made.open()
        splice = made.end.splices[name()]
        filler = pattern(FLOOR // 2)[: FLOOR // 2]
        made.say(Data(name(), 0, filler))
        await until(lambda: splice._unsent)
        single = pattern(FLOOR // 2, 5)[: FLOOR // 2]
        pieces = (Data(name(), len(filler) + at, single[at : at + 1]) for at in range(len(single)))
        made.far.send(encode(pieces))
        await until(lambda: splice.connection.receiving.sequence.received == FLOOR)
        assert splice._unsent
        assert len(splice._unsent) < 200
        assert await read(app, FLOOR) == filler + single


async def test_fin_comes_after_what_waits() -> None:
    with bench() as made:
        app = await made.open()
        data = pattern(FLOOR)[:FLOOR]
        made.say(Data(name(), 0, data), Fin(name(), FLOOR))
        await until(lambda: made.end.splices[name()]._unsent)
        assert await read(app, FLOOR) == data
        async with asyncio.timeout(5):
            assert await asyncio.get_running_loop().sock_recv(app, 1) == b""
        await until(lambda: covered(made))
        app.send(b"the other direction lives")
        await until(lambda: made.heard_of() == b"the other direction lives")


def covered(made: Bench) -> bool:
    return any(isinstance(frame, Ack) and frame.offset == FLOOR + 1 for frame in made.heard)


async def test_reset_throws_away_what_waits() -> None:
    with bench() as made:
        app = await made.open()
        made.say(Data(name(), 0, b"x" * FLOOR), Reset(name(), Code.RESET_BY_PEER))
        await until(lambda: made.owner.ended)
        with pytest.raises(ConnectionResetError):
            await read(app, FLOOR)
        assert made.owner.ended == [(Code.RESET_BY_PEER, None)]


async def test_socket_that_is_gone_when_data_comes() -> None:
    """Bytes wait, more are readable, and then a reset: all in one turn of the reactor."""
    with bench() as made:
        app = await made.open()
        made.say(Data(name(), 0, b"x" * FLOOR))
        await until(lambda: made.end.splices[name()]._unsent)
        app.send(b"last words")
        send_reset(app)
        await until(lambda: made.owner.ended)
        ((code, detail),) = made.owner.ended
        assert code is Code.RESET_BY_PEER
        assert isinstance(detail, Failure)
        await until(lambda: Reset(name(), Code.RESET_BY_PEER) in made.heard)
        made.say(Data(name(), FLOOR - 1, b"late"))  # crosses the reset: a normal race
        await asyncio.sleep(0.01)
        assert len(made.owner.ended) == 1


# A target that is dialled.


async def request_of(made: Bench, target: tuple[str, int]) -> socket.socket:
    made.say(Open(name(), ANYWHERE, ANYWHERE, CEILING))
    await until(lambda: made.owner.requests)
    sock = socket.socket()
    sock.setblocking(False)
    sock.connect_ex(target)
    made.end.dial(made.owner.requests[0], sock, Endpoint(IPv4Address(target[0]), target[1]))
    return sock


async def test_early_bytes_and_end_wait_for_the_target() -> None:
    with bench(Role.PROXY) as made, socket.create_server(("127.0.0.1", 0)) as target:
        target.setblocking(False)
        await request_of(made, target.getsockname())
        made.end.frame_received(Data(name(), 0, b"early"), 0.0)
        made.end.frame_received(Fin(name(), 5), 0.0)
        accepted, _ = await asyncio.get_running_loop().sock_accept(target)
        with accepted:
            assert await read(accepted, 5) == b"early"
            assert await asyncio.get_running_loop().sock_recv(accepted, 1) == b""
        await until(lambda: any(isinstance(frame, Fin) for frame in made.heard))
        kinds = [type(frame) for frame in made.heard if isinstance(frame, OpenResult | Fin)]
        assert kinds == [OpenResult, Fin]


async def test_target_that_refuses() -> None:
    with bench(Role.PROXY) as made:
        await request_of(made, ("127.0.0.1", 1))
        made.end.frame_received(Data(name(), 0, b"early"), 0.0)
        await until(lambda: OpenResult(name(), Code.REFUSED) in made.heard)
        assert [code for code, _ in made.owner.ended] == [Code.REFUSED]


async def test_reset_while_the_target_is_dialled() -> None:
    with bench(Role.PROXY) as made, socket.create_server(("127.0.0.1", 0)) as target:
        await request_of(made, target.getsockname())
        made.end.frame_received(Reset(name(), Code.IDLE), 0.0)
        await asyncio.sleep(0.02)
        assert made.owner.ended == [(Code.IDLE, None)]
        assert not any(isinstance(frame, OpenResult) for frame in made.heard)


# The link's end.


async def test_link_loss_resets_every_socket() -> None:
    with bench() as made:
        apps = [await made.open(number) for number in range(3)]
        made.near.end(None)
        for app in apps:
            with pytest.raises(ConnectionResetError):
                await read(app, 1)
        assert [code for code, _ in made.owner.ended] == [Code.LINK_LOST] * 3
