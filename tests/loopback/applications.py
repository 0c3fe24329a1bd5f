"""The two ends of a tunnelled connection, as plain sockets: an application's and a target's."""

from __future__ import annotations

import asyncio
import random
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from types import TracebackType
from typing import NamedTuple

from tests.loopback.trio import HOST, VIRTUAL, Trio

READ_BYTES = 262_144
PATIENCE = 10.0
"""Seconds for anything that must come."""

NOISE = random.Random(7).randbytes(1 << 20)


class Target:
    """A listening socket on 127.0.0.1."""

    def __init__(self, backlog: int = 4096) -> None:
        self.sock = socket.create_server((HOST, 0), backlog=backlog)
        self.sock.setblocking(False)
        self.port: int = self.sock.getsockname()[1]

    async def accept(self) -> socket.socket:
        async with asyncio.timeout(PATIENCE):
            sock, _ = await asyncio.get_running_loop().sock_accept(self.sock)
        return sock

    async def echo(self) -> None:
        """Send everybody back what he sends, until cancelled."""
        async with asyncio.TaskGroup() as group:
            while True:
                sock, _ = await asyncio.get_running_loop().sock_accept(self.sock)
                group.create_task(_echo(sock))

    def __enter__(self) -> Target:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.sock.close()


async def _echo(sock: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    with sock, suppress(ConnectionError):
        while data := await loop.sock_recv(sock, READ_BYTES):
            await loop.sock_sendall(sock, data)
        end(sock)


@asynccontextmanager
async def echo_target() -> AsyncIterator[Target]:
    with Target() as target:
        async with asyncio.TaskGroup() as group:
            echo = group.create_task(target.echo())
            try:
                yield target
            finally:
                echo.cancel()


class Pair(NamedTuple):
    """The application's socket and the target's, with a tunnel between."""

    app: socket.socket
    target: socket.socket

    def __enter__(self) -> Pair:
        return self

    def __exit__(self, *_: object) -> None:
        self.app.close()
        self.target.close()


async def open_pair(trio: Trio, target: Target, host: str = VIRTUAL) -> Pair:
    app = await trio.connect(target.port, host)
    try:
        return Pair(app, await target.accept())
    except BaseException:
        app.close()
        raise


async def write(sock: socket.socket, data: bytes) -> None:
    await asyncio.get_running_loop().sock_sendall(sock, data)


async def read(sock: socket.socket, length: int) -> bytes:
    """Exactly so many bytes."""
    loop = asyncio.get_running_loop()
    parts: list[bytes] = []
    async with asyncio.timeout(PATIENCE):
        while length:
            data = await loop.sock_recv(sock, min(length, READ_BYTES))
            assert data, f"the stream ended {length} bytes early"
            parts.append(data)
            length -= len(data)
    return b"".join(parts)


async def read_to_end(sock: socket.socket, seconds: float = PATIENCE) -> bytes:
    """All bytes until a FIN.

    Raises:
        ConnectionResetError: until a reset.
    """
    loop = asyncio.get_running_loop()
    parts: list[bytes] = []
    async with asyncio.timeout(seconds):
        while data := await loop.sock_recv(sock, READ_BYTES):
            parts.append(data)
    return b"".join(parts)


async def ending(sock: socket.socket, seconds: float = PATIENCE) -> str:
    """How the stream ends: "fin" or "reset"."""
    try:
        await read_to_end(sock, seconds)
    except ConnectionResetError:
        return "reset"
    return "fin"


def end(sock: socket.socket) -> None:
    """Send FIN; nothing to do if the connection was reset before."""
    with suppress(OSError):  # ENOTCONN
        sock.shutdown(socket.SHUT_WR)


def reset(sock: socket.socket) -> None:
    """Send RST."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


def noise(length: int, seed: int = 0) -> bytes:
    """Bytes that do not repeat soon, the same for the same arguments."""
    start = seed * 7919 % len(NOISE)
    repeats = (start + length) // len(NOISE) + 1
    return (NOISE * repeats)[start : start + length]


class SilentTarget(Target):
    """Answers no SYN: its queue is full, and nobody accepts (tcp(7), tcp_abort_on_overflow)."""

    def __init__(self) -> None:
        super().__init__(backlog=0)
        self._fillers = [socket.socket() for _ in range(3)]
        for filler in self._fillers:
            filler.setblocking(False)
            filler.connect_ex((HOST, self.port))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for filler in self._fillers:
            filler.close()
        super().__exit__(kind, error, trace)


async def stalled(trio: Trio) -> None:
    """Wait until no byte has moved for a while."""

    def moved() -> int:
        return sum(
            entry.up.sequence.received + entry.down.sequence.received
            for entry in trio.server.relay.connections.values()
        )

    while True:
        before = moved()
        await asyncio.sleep(0.15)
        if before and moved() == before:
            return
