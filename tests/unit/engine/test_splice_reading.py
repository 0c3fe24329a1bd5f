"""What a socket gives: as far as there is room, and then how it ends."""

from __future__ import annotations

import asyncio
import select
import socket

import pytest

from tests.loopback.running import until
from tests.unit.engine.splicing import (
    Bench,
    bench,
    name,
    pattern,
    read,
    send_reset,
)
from tunneler.engine.splice import Splice
from tunneler.errors import Code
from tunneler.protocol.frames import (
    MAX_BATCH,
    MAX_PAYLOAD,
    Ack,
    Data,
    Fin,
    Reset,
)
from tunneler.protocol.window import CEILING, FLOOR


async def test_reads_as_far_as_the_window() -> None:
    with bench() as made:
        app = await made.open(limit=FLOOR)
        data = pattern(2 * FLOOR)[: 2 * FLOOR]
        async with asyncio.TaskGroup() as group:
            group.create_task(asyncio.get_running_loop().sock_sendall(app, data))
            await until(lambda: len(made.heard_of()) == FLOOR)
            await asyncio.sleep(0.02)
            assert len(made.heard_of()) == FLOOR
            made.say(Ack(name(), FLOOR, FLOOR + 1000))
            await until(lambda: len(made.heard_of()) == FLOOR + 1000)
            made.say(Ack(name(), FLOOR, CEILING))
            await until(lambda: made.heard_of() == data)


async def test_reads_as_far_as_the_link_has_room() -> None:
    """While the link is congested a batch gathers, and the sockets wait in turn."""
    with bench() as made:
        apps = [await made.open(number) for number in range(8)]
        data = pattern(MAX_PAYLOAD * 3)[: MAX_PAYLOAD * 3]
        made.hold()
        loop = asyncio.get_running_loop()
        async with asyncio.TaskGroup() as group:
            for app in apps:
                group.create_task(loop.sock_sendall(app, data))
            await until(lambda: not made.end.has_room)
            await asyncio.sleep(0.05)
            assert MAX_BATCH <= made.end._outbox.size <= MAX_BATCH + MAX_PAYLOAD + 1000
            assert len(made.end._waiting) >= 1
            made.release()
            await until(lambda: all(made.heard_of(number) == data for number in range(8)))
        assert not made.end._waiting


async def test_reset_while_waiting_for_room() -> None:
    """Who waits for room and is reset waits no longer, and is not asked to go on."""
    with bench() as made:
        app = await made.open()
        made.hold()
        made.end._outbox.put(Data(name(99), 0, b"in flight"))
        await asyncio.sleep(0)
        for at in range(MAX_BATCH // MAX_PAYLOAD):
            made.end._outbox.put(Data(name(99), 9 + at * MAX_PAYLOAD, b"x" * MAX_PAYLOAD))
        app.send(b"more")
        await until(lambda: made.end._waiting)
        made.say(Reset(name(), Code.IDLE))
        await until(lambda: made.owner.ended)
        assert made.end._waiting == {}
        made.release()
        await until(lambda: not made.end._outbox)


async def test_end_of_stream() -> None:
    with bench() as made:
        app = await made.open()
        app.send(b"all of it")
        app.shutdown(socket.SHUT_WR)
        await until(lambda: Fin(name(), 9) in made.heard)
        assert made.heard_of() == b"all of it"
        made.say(Ack(name(), 10, CEILING), Data(name(), 0, b"answer"), Fin(name(), 6))
        assert await read(app, 6) == b"answer"
        await until(lambda: made.owner.ended == [(Code.OK, None)])


async def ended_by_both(made: Bench, app: socket.socket) -> None:
    """The peer has ended its direction, and the application has been told."""
    made.say(Fin(name(), 0))
    async with asyncio.timeout(5):
        assert await asyncio.get_running_loop().sock_recv(app, 1) == b""


async def test_end_of_stream_without_room_in_the_window() -> None:
    """EPOLLHUP, nothing to read, and no room: it is an end in good order all the same."""
    with bench() as made:
        app = await made.open(limit=FLOOR)
        await ended_by_both(made, app)
        await asyncio.get_running_loop().sock_sendall(app, b"x" * FLOOR)
        await until(lambda: len(made.heard_of()) == FLOOR)
        app.shutdown(socket.SHUT_WR)
        await until(lambda: Fin(name(), FLOOR) in made.heard)
        made.say(Ack(name(), FLOOR + 1, FLOOR))
        await until(lambda: made.owner.ended == [(Code.OK, None)])


async def test_end_of_stream_without_room_on_the_link() -> None:
    with bench() as made:
        app = await made.open()
        await ended_by_both(made, app)
        made.hold()
        other = name(99)
        made.end._outbox.put(Data(other, 0, b"first"))
        await asyncio.sleep(0)
        for at in range(MAX_BATCH // MAX_PAYLOAD):
            made.end._outbox.put(Data(other, 5 + at * MAX_PAYLOAD, b"x" * MAX_PAYLOAD))
        assert not made.end.has_room
        app.shutdown(socket.SHUT_WR)
        await asyncio.sleep(0.05)
        made.release()
        await until(lambda: Fin(name(), 0) in made.heard)
        assert made.owner.ended == []


async def test_room_comes_between_the_end_and_the_news_of_it() -> None:
    """In one turn a link brings room, and then comes what was found before: EPOLLHUP, and nothing to read."""
    with bench() as made:
        app = await made.open(limit=FLOOR)
        await ended_by_both(made, app)
        await asyncio.get_running_loop().sock_sendall(app, b"x" * (FLOOR + 1000))
        await until(lambda: len(made.heard_of()) == FLOOR)
        splice = made.end.splices[name()]
        assert splice._mask == 0
        app.shutdown(socket.SHUT_WR)
        splice.connection.sending.raise_limit(CEILING)
        splice.resume()
        splice._ready(select.EPOLLHUP)
        await until(lambda: Fin(name(), FLOOR + 1000) in made.heard)
        assert len(made.heard_of()) == FLOOR + 1000


async def test_reset_of_the_socket() -> None:
    with bench() as made:
        app = await made.open()
        app.send(b"before")
        await until(lambda: made.heard_of() == b"before")
        send_reset(app)
        await until(lambda: Reset(name(), Code.RESET_BY_PEER) in made.heard)


@pytest.mark.parametrize("unread", [0, 1000])
async def test_reset_behind_bytes_that_wait_for_room(unread: int) -> None:
    """What came before the reset is still carried, once there is room; without any, the reset is at once."""
    with bench() as made:
        app = await made.open(limit=FLOOR)
        await asyncio.get_running_loop().sock_sendall(app, b"x" * FLOOR)
        await until(lambda: len(made.heard_of()) == FLOOR)
        app.send(b"y" * unread)
        await asyncio.sleep(0.01)
        send_reset(app)
        await asyncio.sleep(0.05)
        if unread:
            assert made.owner.ended == []
            made.say(Ack(name(), FLOOR, CEILING))
        await until(lambda: Reset(name(), Code.RESET_BY_PEER) in made.heard)
        assert len(made.heard_of()) == FLOOR + unread


@pytest.mark.parametrize("state", ["both ended", "reset with bytes unread", "no room"])
async def test_no_state_spins(state: str) -> None:
    """A socket of which nothing can come does not keep the loop busy."""
    with bench() as made:
        calls = 0
        turn = Splice._ready

        def counted(splice: Splice, events: int) -> None:
            nonlocal calls
            calls += 1
            turn(splice, events)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Splice, "_ready", counted)
            app = await made.open(limit=FLOOR)
            if state == "both ended":
                await ended_by_both(made, app)
                app.shutdown(socket.SHUT_WR)  # FIN goes out, and its ACK does not come
            else:
                await asyncio.get_running_loop().sock_sendall(app, b"x" * (FLOOR + 100))
                await until(lambda: len(made.heard_of()) == FLOOR)
                if state == "reset with bytes unread":
                    send_reset(app)
            await asyncio.sleep(0.05)
            calls = 0
            await asyncio.sleep(0.1)
            assert calls <= 2
            patch.undo()
