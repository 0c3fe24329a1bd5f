"""Bytes, ends and resets of one connection, and of many, through the three roles."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path

import pytest

from tests.loopback.applications import (
    Target,
    echo_target,
    end,
    ending,
    noise,
    open_pair,
    read,
    read_to_end,
    reset,
    write,
)
from tests.loopback.recorder import Recorder
from tests.loopback.running import background, descriptors, eventually, other_tasks
from tests.loopback.trio import HOST, Trio, running_trio


@pytest.mark.parametrize("secured", [True, False], ids=["mutual TLS", "insecure loopback"])
async def test_echo(pki: Path, log: Recorder, secured: bool) -> None:
    async with echo_target() as target, running_trio(pki if secured else None) as trio:
        with await trio.connect(target.port) as app:
            await write(app, b"hello")
            assert await read(app, 5) == b"hello"
            end(app)
            assert await read_to_end(app) == b""
        await trio.released()
    for part, peer in (("client", "server/server" if secured else "server/insecure"), ("server", None)):
        (closed,) = log.of("connection_closed", part, bytes_up=5, bytes_down=5, cause="ok")
        assert peer is None or str(closed["peer"]) == peer
    (closed,) = log.of("connection_closed", "proxy", bytes_up=5, bytes_down=5, cause="ok")
    assert str(closed["target"]) == f"{HOST}:{target.port}"
    assert bool(log.of("plaintext")) is not secured


@pytest.mark.parametrize("direction", ["up", "down"])
async def test_large_transfer(pki: Path, direction: str) -> None:
    size = 48 * 1024 * 1024
    with Target() as target:
        async with running_trio(pki) as trio:
            with await open_pair(trio, target) as pair:
                writer, reader = pair if direction == "up" else reversed(pair)

                async def send() -> None:
                    await write(writer, noise(size))
                    end(writer)

                async with background(send()):
                    assert await read_to_end(reader) == noise(size)


async def test_transfers_both_ways_at_once(pki: Path) -> None:
    size = 16 * 1024 * 1024
    with Target() as target:
        async with running_trio(pki) as trio:
            with await open_pair(trio, target) as (app, far):

                async def send(sock: socket.socket, seed: int) -> None:
                    await write(sock, noise(size, seed))
                    end(sock)

                async with asyncio.TaskGroup() as group:
                    group.create_task(send(app, 1))
                    group.create_task(send(far, 2))
                    up = group.create_task(read_to_end(far))
                    down = group.create_task(read_to_end(app))
                assert up.result() == noise(size, 1)
                assert down.result() == noise(size, 2)


async def exchange(trio: Trio, port: int, seed: int) -> None:
    with await trio.connect(port) as app:
        data = noise(1 + seed * 613 % 40_000, seed)
        await write(app, data)
        end(app)
        assert await read_to_end(app, 25) == data


async def test_many_connections_at_once(pki: Path) -> None:
    async with echo_target() as target, running_trio(pki) as trio:
        async with asyncio.TaskGroup() as group:
            for seed in range(300):
                group.create_task(exchange(trio, target.port, seed))
        await trio.released()


@pytest.mark.timeout(60)
async def test_nothing_is_left_of_2000_connections(pki: Path) -> None:
    """Tasks, file descriptors and table entries are what they were before."""
    async with echo_target() as target, running_trio(pki) as trio:
        await exchange(trio, target.port, 0)
        await trio.released()
        before = (descriptors(), len(other_tasks()), watched(trio))
        for wave in range(20):
            async with asyncio.TaskGroup() as group:
                for seed in range(100):
                    group.create_task(one_of_many(trio, target.port, 100 * wave + seed))
        await trio.released()

        def after() -> object:
            return (descriptors(), len(other_tasks()), watched(trio))

        assert await eventually(lambda: after() == before), (before, after())


async def one_of_many(trio: Trio, port: int, seed: int) -> None:
    """Most end in good order; some with a reset, some abruptly, some are refused."""
    with await trio.connect(port if seed % 5 else 1) as app:
        if seed % 5 == 0:
            assert await ending(app) == "reset"
            return
        await write(app, noise(200, seed))
        if seed % 5 == 1:
            reset(app)
        elif seed % 5 != 2:
            end(app)
            assert await read_to_end(app) == noise(200, seed)


def watched(trio: Trio) -> tuple[int, int]:
    return len(trio.client.reactor), len(trio.proxy.reactor)
