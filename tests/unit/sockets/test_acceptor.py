from __future__ import annotations

import asyncio
import errno
import fcntl
import os
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest

from tests.loopback.running import until
from tunneler.errors import TransportError
from tunneler.sockets import acceptor as module
from tunneler.sockets.acceptor import ACCEPTS_PER_TURN, Acceptor, listen
from tunneler.sockets.reactor import READ, Reactor


def unexpected(event: str, **fields: object) -> None:
    raise AssertionError((event, fields))


class Listening:
    """An acceptor, and what it accepted."""

    def __init__(self, host: str = "127.0.0.1") -> None:
        self.sock = listen(host, 0)
        self.address = self.sock.getsockname()
        self.accepted: list[socket.socket] = []
        self.reactor = Reactor()
        self.reactor.open()
        self.acceptor = Acceptor(self.sock, self.reactor, self._take, unexpected)

    def _take(self, sock: socket.socket, peer: tuple[str, int]) -> None:
        assert sock.getpeername()[:2] == peer
        self.accepted.append(sock)

    def close(self) -> None:
        self.acceptor.close()
        self.reactor.close()
        for sock in self.accepted:
            sock.close()


@contextmanager
def listening(host: str = "127.0.0.1") -> Iterator[Listening]:
    made = Listening(host)
    try:
        yield made
    finally:
        made.close()


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
async def test_accepts_what_comes(host: str) -> None:
    with listening(host) as made, socket.create_connection(made.address[:2]) as peer:
        await until(lambda: made.accepted)
        assert made.accepted[0].getpeername() == peer.getsockname()


async def test_more_than_one_turn_takes() -> None:
    with listening() as made, ExitStack() as peers:
        for _ in range(ACCEPTS_PER_TURN * 2 + 5):
            peers.enter_context(socket.create_connection(made.address))
        await until(lambda: len(made.accepted) == ACCEPTS_PER_TURN * 2 + 5)


async def test_closing_closes_the_socket() -> None:
    with listening() as made:
        address = made.address
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(address)
    assert made.sock.fileno() == -1


async def test_a_socket_that_others_keep_is_watched_no_longer() -> None:
    """systemd keeps those that it passed: what arrives there later is for the next service."""
    calls: list[int] = []
    with listen("127.0.0.1", 0) as kept, Reactor() as reactor:
        number = fcntl.fcntl(kept, fcntl.F_DUPFD_CLOEXEC, 500)  # that nothing else gets by chance
        Acceptor(socket.socket(fileno=number), reactor, lambda *_: None, unexpected).close()
        near, far = socket.socketpair()
        with near, far, socket.socket(fileno=os.dup2(near.fileno(), number)):
            reactor.register(number, READ, calls.append)
            with socket.create_connection(kept.getsockname()):
                await asyncio.sleep(0.05)
                assert calls == []
            reactor.unregister(number)


async def test_both_families_have_the_port() -> None:
    with listen("127.0.0.1", 0) as four, listen("::1", four.getsockname()[1]) as six:
        assert six.getsockname()[1] == four.getsockname()[1]


async def test_port_in_use() -> None:
    with listen("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(TransportError, match=rf"cannot listen on 127\.0\.0\.1:{port}: "):
            listen("127.0.0.1", port)


class Failing:
    """A listening socket whose accept fails so many times, and then finds nothing."""

    def __init__(self, sock: socket.socket, number: int, times: int) -> None:
        self._sock = sock
        self._failures = [OSError(number, "failed")] * times
        self.calls = 0

    def fileno(self) -> int:
        return self._sock.fileno()

    def close(self) -> None:
        self._sock.close()

    def accept(self) -> tuple[socket.socket, object]:
        self.calls += 1
        if self._failures:
            raise self._failures.pop()
        return self._sock.accept()


@pytest.mark.parametrize("number", sorted(module.EXHAUSTED))
async def test_pauses_when_the_kernel_has_no_more(number: int) -> None:
    """The connection stays in the queue; only a tick looks again."""
    sock = listen("127.0.0.1", 0)
    failing = Failing(sock, number, times=2)
    accepted: list[socket.socket] = []
    reports: list[dict[str, Any]] = []

    def report(event: str, **fields: object) -> None:
        reports.append({"event": event, **fields})

    with Reactor() as reactor:
        acceptor = Acceptor(failing, reactor, lambda sock, _: accepted.append(sock), report)  # type: ignore[arg-type]
        with socket.create_connection(sock.getsockname()):
            await until(lambda: failing.calls == 1)
            await asyncio.sleep(0.05)
            assert failing.calls == 1
            acceptor.tick()
            await until(lambda: failing.calls == 2)
            await asyncio.sleep(0.05)
            assert accepted == []
            acceptor.tick()
            await until(lambda: accepted)
            acceptor.tick()  # not paused: nothing to do
        accepted[0].close()
        acceptor.close()
    assert {(report["event"], report["error"]) for report in reports} == {("accept_paused", "failed")}


async def test_a_connection_that_is_gone_again_is_passed_over() -> None:
    sock = listen("127.0.0.1", 0)
    failing = Failing(sock, errno.ECONNABORTED, times=3)
    accepted: list[socket.socket] = []
    with Reactor() as reactor:
        acceptor = Acceptor(failing, reactor, lambda sock, _: accepted.append(sock), unexpected)  # type: ignore[arg-type]
        with socket.create_connection(sock.getsockname()):
            await until(lambda: accepted)
        accepted[0].close()
        acceptor.close()


async def test_close_while_paused() -> None:
    sock = listen("127.0.0.1", 0)
    failing = Failing(sock, errno.EMFILE, times=1)
    with Reactor() as reactor:
        acceptor = Acceptor(failing, reactor, lambda *_: None, lambda _, **__: None)  # type: ignore[arg-type]
        with socket.create_connection(sock.getsockname()):
            await until(lambda: failing.calls == 1)
            acceptor.close()
        assert len(reactor) == 0
