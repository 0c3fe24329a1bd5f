"""A port whose server is imported for its first visitor."""

from __future__ import annotations

import asyncio
import py_compile
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

import pytest

from tunneler import observability
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


def remove(module: Path) -> None:
    module.unlink()


def fill(content: bytes) -> Callable[[Path], object]:
    return lambda module: module.write_bytes(content)


def make_unreadable(module: Path) -> None:
    module.unlink()
    module.symlink_to("/proc/self/mem")  # a regular file; reading its start is an I/O error


def cut_bytecode(module: Path) -> None:
    compiled = Path(py_compile.compile(str(module), doraise=True) or "")
    compiled.write_bytes(compiled.read_bytes()[:20])


ORIGINAL = Path(admin_door.__file__).with_name("admin.py")

DAMAGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "missing": (remove, "ModuleNotFoundError: "),
    "empty": (fill(b""), "ImportError: "),
    "cut": (fill(b"async def admin_port("), "SyntaxError: "),
    # Python 3.11 has one error for it, 3.12 the other.
    "zeros": (fill(bytes(64)), "(ValueError|SyntaxError): .* null bytes"),
    "versions": (fill(b"import asyncio\nasyncio.of_a_later_version"), "AttributeError: "),
    "unreadable": (make_unreadable, "OSError: "),
    "bytecode": (cut_bytecode, "EOFError: "),
}
"""Of a module, and what importing it raises then."""


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file that is imported for the first visitor: a copy, not imported so far."""
    name = "tunneler.observability.admin"
    import_module(name)
    monkeypatch.setattr(observability, "__path__", [str(tmp_path)])
    monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys, "path_importer_cache", {})  # a directory's listing may be as old as its mtime
    return Path(shutil.copy(ORIGINAL, tmp_path))


def mend(module: Path) -> None:
    module.unlink(missing_ok=True)
    shutil.rmtree(module.parent / "__pycache__", ignore_errors=True)
    shutil.copy(ORIGINAL, module)
    sys.path_importer_cache.clear()


async def visit(address: tuple[str, int]) -> bytes:
    reader, writer = await asyncio.open_connection(*address)
    writer.write(b"GET /readyz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    try:
        return await reader.read()
    except ConnectionResetError:
        return b""
    finally:
        writer.close()


@pytest.mark.parametrize("damage", DAMAGES)
async def test_a_damaged_installation_turns_visitors_away_until_it_is_mended(
    damage: str, module: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(admin_door, "PAUSE_SECONDS", 0)
    inflict, error = DAMAGES[damage]
    inflict(module)
    listening = socket.create_server(("127.0.0.1", 0))
    address = listening.getsockname()
    async with asyncio.timeout(10), AdminDoor([listening], lambda: {"state": "ready"}):
        for visitor in (1, 2):
            assert await visit(address) == b""
            assert [record.getMessage() for record in caplog.records] == ["admin_missing"] * visitor
        mend(module)
        answer = await visit(address)
    # An empty file is a module like any other: Python does not read it again in this process.
    assert answer[:15] == (b"" if damage == "empty" else b"HTTP/1.1 200 OK")
    assert re.match(error, caplog.records[0].__dict__["fields"]["detail"])


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
