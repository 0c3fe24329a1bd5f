"""Connections that do not open: the application sees a reset, soon, and the log says why."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path

from tests.loopback.applications import (
    SilentTarget,
    Target,
    end,
    ending,
    open_pair,
    read_to_end,
    reset,
    write,
)
from tests.loopback.recorder import Recorder
from tests.loopback.running import until
from tests.loopback.trio import HOST, running_trio


async def test_refused(pki: Path, log: Recorder) -> None:
    async with running_trio(pki) as trio:
        with await trio.connect(1) as app:
            assert await ending(app, 1.0) == "reset"
        await trio.released()
    for part in ("client", "server", "proxy"):
        assert len(log.of("connection_refused", part, cause="refused")) == 1


async def test_no_route(pki: Path, log: Recorder) -> None:
    async with running_trio(pki) as trio:
        with await trio.connect(80, host="100.64.9.1") as app:
            assert await ending(app, 1.0) == "reset"
    assert len(log.of("connection_refused", "client", cause="no_route")) == 1
    assert len(log.of("connection_refused", "server", cause="no_route", proxy=None)) == 1


async def test_silent_target(pki: Path, log: Recorder) -> None:
    with SilentTarget() as target:
        async with running_trio(pki, dial=0.3) as trio:
            with await trio.connect(target.port) as app:
                await write(app, b"patience")
                await asyncio.sleep(0.15)
                assert trio.connections() == (1, 1, 1)
                assert await ending(app, 2.0) == "reset"
            await trio.released()
    for part in ("client", "server", "proxy"):
        assert len(log.of("connection_refused", part, cause="timeout")) == 1


async def test_application_gives_up_while_the_target_is_dialled(pki: Path) -> None:
    with SilentTarget() as target:
        async with running_trio(pki, dial=20, open=20) as trio:
            with await trio.connect(target.port) as app:
                await until(lambda: trio.connections() == (1, 1, 1))
                reset(app)
            await trio.released()


async def test_end_of_stream_before_the_target_answers(pki: Path) -> None:
    """FIN waits for the open; the request before it does not."""
    with Target() as target:
        async with running_trio(pki) as trio:
            with await trio.connect(target.port) as app:
                await write(app, b"early")
                end(app)
                with await target.accept() as far:
                    assert await read_to_end(far) == b"early"
                    await write(far, b"answer")
                    end(far)
                    assert await read_to_end(app) == b"answer"


async def test_stranger_at_the_capture_port(pki: Path, log: Recorder) -> None:
    """Whom no rule redirected, nobody is dialled for."""
    async with running_trio(pki) as trio:
        stranger = socket.create_connection((HOST, trio.capture_port))
        stranger.setblocking(False)
        with stranger:
            assert await ending(stranger) == "reset"
        with await trio.connect(80, host="198.51.100.1") as app:
            assert await ending(app) == "reset"
        assert trio.connections() == (0, 0, 0)
    assert len(log.of("capture_refused", "client")) == 2


async def test_limit_of_connections(pki: Path, log: Recorder) -> None:
    with Target() as target:
        async with running_trio(pki) as trio:
            await trio.clients[0].finish()
            trio.start_client(limits={"max_connections": 1})
            await trio.ready()
            with await open_pair(trio, target), await trio.connect(target.port) as app:
                assert await ending(app) == "reset"
            await trio.released()
            with await open_pair(trio, target):
                pass
    assert len(log.of("connection_refused", "client", cause="limited")) == 1
