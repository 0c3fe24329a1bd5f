from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Iterator

import pytest

from tests.loopback.running import until
from tunneler.sockets.reactor import FAILURE, READ, WRITE, Reactor


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Two ends of a TCP connection."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        near = socket.create_connection(listener.getsockname())
        far, _ = listener.accept()
    with near, far:
        yield near, far


def send_reset(sock: socket.socket) -> None:
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


class Calls(list[int]):
    """The events a socket was called with."""

    def ready(self, events: int) -> None:
        self.append(events)


async def turns(count: int = 5) -> None:
    for _ in range(count):
        await asyncio.sleep(0.005)


async def test_calls_when_readable(pair: tuple[socket.socket, socket.socket]) -> None:
    near, far = pair
    calls = Calls()
    with Reactor() as reactor:
        reactor.register(near.fileno(), READ, calls.ready)
        await turns()
        assert calls == []
        far.send(b"x")
        await until(lambda: calls)
        assert calls[0] == READ
        reactor.unregister(near.fileno())


async def test_mask_0_still_tells_of_failure(pair: tuple[socket.socket, socket.socket]) -> None:
    near, far = pair
    calls = Calls()
    with Reactor() as reactor:
        reactor.register(near.fileno(), 0, calls.ready)
        far.send(b"unread")
        await turns()
        assert calls == []
        send_reset(far)
        await until(lambda: calls)
        assert calls[0] & FAILURE
        reactor.unregister(near.fileno())


async def test_modify(pair: tuple[socket.socket, socket.socket]) -> None:
    near, far = pair
    calls = Calls()
    with Reactor() as reactor:
        far.send(b"x")
        reactor.register(near.fileno(), WRITE, calls.ready)
        await until(lambda: calls)
        reactor.modify(near.fileno(), READ)
        calls.clear()
        await until(lambda: calls)
        assert set(calls) == {READ}
        reactor.modify(near.fileno(), 0)
        calls.clear()
        await turns()
        assert calls == []
        reactor.unregister(near.fileno())


async def test_a_callback_may_unregister_any_socket(pair: tuple[socket.socket, socket.socket]) -> None:
    """Also one whose events are in the same turn: it is not called any more."""
    near, far = pair
    called: list[str] = []
    with Reactor() as reactor:

        def ready_as(name: str) -> None:
            called.append(name)
            for sock in pair:
                reactor.unregister(sock.fileno())

        reactor.register(near.fileno(), READ, lambda _: ready_as("near"))
        reactor.register(far.fileno(), READ, lambda _: ready_as("far"))
        near.send(b"x")
        far.send(b"x")
        await until(lambda: called)
        await turns()
        assert len(called) == 1
        assert len(reactor) == 0


async def test_many_ready_sockets_are_all_served() -> None:
    """More than one turn takes; none is forgotten."""
    pairs = [socket.socketpair() for _ in range(400)]
    served: set[int] = set()
    with Reactor() as reactor:
        for number, (near, far) in enumerate(pairs):

            def ready(events: int, number: int = number, near: socket.socket = near) -> None:
                near.recv(1)
                served.add(number)

            reactor.register(near.fileno(), READ, ready)
            far.send(b"x")
        await until(lambda: len(served) == 400)
        for near, far in pairs:
            reactor.unregister(near.fileno())
            near.close()
            far.close()


async def test_closing_ends_the_calls(pair: tuple[socket.socket, socket.socket]) -> None:
    near, far = pair
    calls = Calls()
    reactor = Reactor()
    reactor.open()
    reactor.register(near.fileno(), READ, calls.ready)
    reactor.close()
    far.send(b"x")
    await turns()
    assert calls == []


async def test_a_new_socket_does_not_get_the_events_of_the_one_whose_number_it_has() -> None:
    """Two sockets are ready in one turn; serving the first closes the other, and opens a new one."""
    with socket.create_server(("127.0.0.1", 0)) as listener, Reactor() as reactor:
        near = [socket.create_connection(listener.getsockname()) for _ in range(2)]
        far = [listener.accept()[0] for _ in range(2)]
        served: list[str] = []
        replaced: list[socket.socket] = []

        def serve(index: int) -> None:
            served.append("old")
            other = near[1 - index]
            number = other.fileno()
            reactor.forget(number)
            other.close()
            replaced.append(socket.socket(type=socket.SOCK_DGRAM))  # never ready for this mask
            assert replaced[0].fileno() == number
            reactor.register(number, 0, lambda _: served.append("new"))
            reactor.unregister(near[index].fileno())

        for index, sock in enumerate(near):
            far[index].send(b"x")
            reactor.register(sock.fileno(), READ, lambda _, index=index: serve(index))  # type: ignore[misc]
        await until(lambda: served)
        assert served == ["old"]
        reactor.unregister(replaced[0].fileno())
        for sock in (*near, *far, *replaced):
            sock.close()
