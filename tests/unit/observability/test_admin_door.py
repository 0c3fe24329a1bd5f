"""A port whose server is imported for its first visitor."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from tunneler.observability import admin_door
from tunneler.observability.admin_door import AdminDoor

LAZY = """
import asyncio, socket, sys
from tunneler.observability.admin_door import AdminDoor

async def ask(address):
    reader, writer = await asyncio.open_connection(*address)
    writer.write(b"GET /readyz HTTP/1.1\\r\\nHost: x\\r\\nConnection: close\\r\\n\\r\\n")
    answer = await reader.read()
    writer.close()
    return answer.splitlines()[0].decode()

async def main():
    turns = 0
    async def turn():
        nonlocal turns
        while True:
            await asyncio.sleep(0.001)
            turns += 1
    with socket.create_server(("127.0.0.1", 0)) as sock:
        async with AdminDoor([sock], lambda: {"state": "ready"}), asyncio.TaskGroup() as group:
            turning = group.create_task(turn())
            await asyncio.sleep(0.05)
            print("aiohttp" in sys.modules)
            turns = 0
            print(await ask(sock.getsockname()), "aiohttp" in sys.modules, turns > 10)
            print(await ask(sock.getsockname()))
            turning.cancel()

asyncio.run(main())
"""


def test_nothing_is_imported_for_nobody_and_all_goes_on_meanwhile() -> None:
    ended = subprocess.run(
        [sys.executable, "-c", LAZY], capture_output=True, text=True, timeout=30, check=False
    )
    assert (ended.stdout.splitlines(), ended.stderr) == (
        ["False", "HTTP/1.1 200 OK True True", "HTTP/1.1 200 OK"],
        "",
    )


async def test_a_damaged_installation_turns_visitors_away_until_it_is_mended(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(admin_door, "PAUSE_SECONDS", 0)
    monkeypatch.setitem(sys.modules, "tunneler.observability.admin", None)  # as if it was not there
    listening = socket.create_server(("127.0.0.1", 0))
    address = listening.getsockname()
    async with asyncio.timeout(10), AdminDoor([listening], lambda: {"state": "ready"}):
        for visitor in (1, 2):
            reader, writer = await asyncio.open_connection(*address)
            with suppress(ConnectionResetError):
                assert await reader.read() == b""
            writer.close()
            assert [record.getMessage() for record in caplog.records] == ["admin_missing"] * visitor
        monkeypatch.delitem(sys.modules, "tunneler.observability.admin")
        reader, writer = await asyncio.open_connection(*address)
        writer.write(b"GET /readyz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        assert (await reader.read()).startswith(b"HTTP/1.1 200 OK\r\n")
        writer.close()


@pytest.mark.parametrize("turns", [0, 3])
async def test_the_sockets_are_closed_though_nobody_came(turns: int, tmp_path: Path) -> None:
    sockets = [socket.create_server(("127.0.0.1", 0)), socket.socket(socket.AF_UNIX)]
    sockets[1].bind(str(tmp_path / "admin"))
    sockets[1].listen()
    async with AdminDoor(sockets, dict):
        for _ in range(turns):
            await asyncio.sleep(0)
    assert [sock.fileno() for sock in sockets] == [-1, -1]


async def test_an_error_of_the_block_comes_out_as_it_is() -> None:
    async def fail() -> None:
        async with AdminDoor([socket.create_server(("127.0.0.1", 0))], dict):
            await asyncio.sleep(0)
            raise LookupError

    with pytest.raises(LookupError):
        await fail()


async def test_cancelled() -> None:
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05), AdminDoor([socket.create_server(("127.0.0.1", 0))], dict):
            await asyncio.sleep(10)
