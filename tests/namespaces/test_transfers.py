"""Much, and many: whole gigabytes, hundreds of connections at once, thousands one after the other."""

from __future__ import annotations

import asyncio
import hashlib
import re
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from testbed import Host, Lab, wait_until
from testbed.suite import TARGET, Suite, Usage
from testbed.web import Web
from tests.namespaces.applications import TIMEOUT, listen, tcp_socket

MEBIBYTE = 1024 * 1024
GIBIBYTE = 1024 * MEBIBYTE
TRANSFER_DEADLINE = 100.0
ROLES = ("client", "server", "proxy")


@pytest.fixture(scope="module")
def suite(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Suite]:
    # Two lines a connection, not twenty: this is about the connections.
    with Suite(lab, tmp_path_factory.mktemp("suite"), log_level="info") as suite:
        suite.add_three_roles()
        suite.start()
        yield suite


@pytest.fixture(scope="module")
def gibibyte(web: Web) -> Iterator[tuple[Path, str]]:
    """A file of that size, without two equal blocks, that the web server has; and its SHA-256."""
    path = web.files / "gibibyte"
    block, digest = hashlib.shake_128(b"seed").digest(MEBIBYTE), hashlib.sha256()
    with path.open("wb") as file:
        for number in range(GIBIBYTE // MEBIBYTE):
            piece = number.to_bytes(8, "big") + block[8:]
            digest.update(piece)
            file.write(piece)
    yield path, digest.hexdigest()
    path.unlink()


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_a_gibibyte_down(suite: Suite, client: Host, gibibyte: tuple[Path, str]) -> None:
    script = f"set -o pipefail; curl -sS http://{TARGET}/gibibyte | sha256sum"
    done = client.run("bash", "-c", script, timeout=TRANSFER_DEADLINE)
    assert done.stdout.split()[0] == gibibyte[1]


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_a_gibibyte_up(
    suite: Suite, client: Host, target: Host, gibibyte: tuple[Path, str], tmp_path: Path
) -> None:
    script = "nc -n -v -l 9000 | sha256sum"
    server = target.spawn("bash", "-c", script, log=tmp_path / "nc.log")
    server.wait_for_line(lambda line: "Listening" in line, 10)
    script = f"exec nc -n -N {TARGET} 9000 <{gibibyte[0]}"
    client.run("bash", "-c", script, timeout=TRANSFER_DEADLINE)
    assert server.wait(TIMEOUT) == 0
    assert server.lines()[-1].split()[0] == gibibyte[1]


# ---------------------------------------------------------------------------- many


class Echo:
    """An echo server on the target, and conversations with it from the client."""

    def __init__(self, client: Host, target: Host) -> None:
        self._client = client
        self._listener = listen(target)
        self._listener.setblocking(False)
        self._port = self._listener.getsockname()[1]

    async def serve(self) -> asyncio.Server:
        return await asyncio.start_server(self._answer, sock=self._listener)

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while piece := await reader.read(1 << 16):
            writer.write(piece)
            await writer.drain()
        writer.close()
        await writer.wait_closed()

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        sock: socket.socket = tcp_socket(self._client)
        sock.setblocking(False)
        await asyncio.get_running_loop().sock_connect(sock, (TARGET, self._port))
        return await asyncio.open_connection(sock=sock)

    async def converse(self, text: bytes, everybody_is_here: asyncio.Barrier | None = None) -> None:
        """One connection: say something, hear it again, leave; an error if anything else happens."""
        async with asyncio.timeout(TIMEOUT * 2):
            reader, writer = await self.connect()
            writer.write(text[:10])
            assert await reader.readexactly(10) == text[:10]
            if everybody_is_here is not None:
                await everybody_is_here.wait()
            writer.write(text[10:])
            assert await reader.readexactly(len(text) - 10) == text[10:]
            writer.write_eof()
            assert await reader.read() == b""
            writer.close()
            await writer.wait_closed()


async def _at_once(echo: Echo, count: int) -> None:
    async with await echo.serve(), asyncio.TaskGroup() as tasks:
        everybody_is_here = asyncio.Barrier(count)
        for number in range(count):
            tasks.create_task(echo.converse(f"I am number {number:05}".encode() * 2000, everybody_is_here))


async def _one_after_the_other(echo: Echo, count: int, lanes: int) -> None:
    async def lane() -> None:
        for number in range(count // lanes):
            await echo.converse(f"I am number {number:05}".encode() * 50)

    async with await echo.serve(), asyncio.TaskGroup() as tasks:
        for _ in range(lanes):
            tasks.create_task(lane())


def test_500_connections_at_once(suite: Suite, client: Host, target: Host) -> None:
    asyncio.run(_at_once(Echo(client, target), 500))


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_after_2000_connections_everything_is_given_back(suite: Suite, client: Host, target: Host) -> None:
    """Descriptors and threads exactly; memory, which an allocator keeps, as it was after the first 2,000."""
    asyncio.run(_one_after_the_other(Echo(client, target), 2000, lanes=20))
    before = settled(suite)
    asyncio.run(_one_after_the_other(Echo(client, target), 2000, lanes=20))
    wait_until(lambda: counts(usages(suite)) == counts(before), TIMEOUT, f"back to {counts(before)}")
    after = usages(suite)
    for role in ROLES:
        growth = after[role].memory - before[role].memory
        print(f"{role}: {after[role]}, memory {growth / 1024:+.0f} KiB")
        assert growth < 4 * MEBIBYTE


def usages(suite: Suite) -> dict[str, Usage]:
    return {role: suite[role].usage() for role in ROLES}


def counts(usages: dict[str, Usage]) -> dict[str, tuple[int, int]]:
    return {role: (usage.descriptors, usage.threads) for role, usage in usages.items()}


def settled(suite: Suite) -> dict[str, Usage]:
    """Usages once all roles say that as many connections ended as began."""

    def quiet() -> bool:
        opened = len(suite.server.events("connection_opened"))
        return all(len(suite[role].events("connection_closed")) == opened for role in ROLES)

    wait_until(quiet, TIMEOUT, "the end of all connections")
    return usages(suite)


@pytest.mark.slow
def test_hundreds_of_short_connections_a_second(suite: Suite, web: Web, client: Host) -> None:
    (web.files / "index.html").write_text("short\n")
    report = client.run(
        *("wrk", "-t", "1", "-c", "32", "-d", "5s", "--timeout", "5s"),
        *("-H", "Connection: close", f"http://{TARGET}/"),
    ).stdout
    rate = float(re.findall(r"Requests/sec:\s+([\d.]+)", report)[0])
    print(f"{rate:.0f} connections a second")
    assert "Socket errors" not in report
    assert "Non-2xx" not in report
    assert rate > 100  # on a busy machine; docs/performance.md has the true figure
