"""The admin port, as monitoring and as strangers find it."""

from __future__ import annotations

import asyncio
import json
import logging
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.loopback.running import eventually
from tunneler.observability import admin
from tunneler.observability.admin import MAX_LINE, MAX_VISITORS, admin_port

STATUS = {"role": "proxy", "state": "ready", "links": [{"peer": "server/server", "connection": b"\x01"}]}

REQUEST = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
LAST_REQUEST = b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"


class Answer(NamedTuple):
    status: int
    headers: dict[str, str]
    body: str


class Port:
    """An admin port, and what it has to tell."""

    def __init__(self, sock: socket.socket) -> None:
        self.address = sock.getsockname()
        self.status: dict[str, Any] = dict(STATUS)

    async def visit(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if isinstance(self.address, str):
            return await asyncio.open_unix_connection(self.address)
        return await asyncio.open_connection(*self.address[:2])

    async def say(self, words: bytes) -> bytes:
        """Everything that is answered, up to the end."""
        reader, writer = await self.visit()
        writer.write(words)
        try:
            return await reader.read()
        finally:
            writer.close()
            await writer.wait_closed()

    async def ask(self, path: str, method: str = "GET") -> Answer:
        request = f"{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
        head, _, body = (await self.say(request.encode())).decode().partition("\r\n\r\n")
        first, *lines = head.split("\r\n")
        headers = dict(line.split(": ", 1) for line in lines)
        return Answer(int(first.split()[1]), headers, body)


@asynccontextmanager
async def opened(sock: socket.socket | None = None) -> AsyncIterator[Port]:
    sock = sock or socket.create_server(("127.0.0.1", 0))
    port = Port(sock)
    async with admin_port([sock], lambda: port.status):
        yield port


async def test_alive() -> None:
    async with opened() as port:
        port.status["state"] = "draining"
        assert (await port.ask("/healthz"))[::2] == (200, "alive\n")


@pytest.mark.parametrize(("state", "status"), [("ready", 200), ("waiting", 503), ("draining", 503)])
async def test_ready(state: str, status: int) -> None:
    async with opened() as port:
        port.status["state"] = state
        assert (await port.ask("/readyz?from=monitoring"))[::2] == (status, f"{state}\n")


async def test_the_status_is_of_the_moment() -> None:
    async with opened() as port:
        answer = await port.ask("/status")
        assert answer.headers["Content-Type"] == "application/json; charset=utf-8"
        assert answer.headers["Cache-Control"] == "no-store"
        assert json.loads(answer.body) == {**STATUS, "links": [{"peer": "server/server", "connection": "01"}]}
        port.status["state"] = "waiting"
        assert json.loads((await port.ask("/status")).body)["state"] == "waiting"


async def test_head_is_the_same_without_the_body() -> None:
    async with opened() as port:
        answer = await port.ask("/status", "HEAD")
        assert (answer.status, answer.body) == (200, "")
        assert int(answer.headers["Content-Length"]) > 0


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "CONNECT", "TRACE"])
async def test_nothing_can_be_changed(method: str) -> None:
    async with opened() as port:
        answer = await port.ask("/status", method)
        assert (answer.status, answer.headers["Allow"]) == (405, "GET, HEAD")


async def test_no_other_page() -> None:
    async with opened() as port:
        answer = await port.ask("/metrics")
        assert (answer.status, answer.body) == (404, "no such page; there are /healthz, /readyz, /status\n")


async def test_a_unix_socket(tmp_path: Path) -> None:
    sock = socket.socket(socket.AF_UNIX)
    sock.bind(str(tmp_path / "admin"))
    sock.listen()
    async with opened(sock) as port:
        assert (await port.ask("/healthz")).status == 200


async def test_several_requests_on_one_connection() -> None:
    async with opened() as port:
        assert (await port.say(REQUEST + LAST_REQUEST)).count(b"HTTP/1.1 200 OK\r\n") == 2


@pytest.mark.parametrize(
    "words",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc" + bytes(100),
        b"GET /" + b"x" * 2 * MAX_LINE + b" HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + b"x: " + b"y" * 2 * MAX_LINE + b"\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + b"x: y\r\n" * 1000 + b"\r\n",
        b"GET / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\nhello",
    ],
    ids=["tls", "long_path", "long_header", "many_headers", "smuggling"],
)
async def test_what_is_not_a_request_is_refused_and_not_logged(
    words: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    async with opened() as port:
        assert (await port.say(words)).startswith(b"HTTP/1.0 400 ")
        assert (await port.ask("/healthz")).status == 200
    assert [record.message for record in caplog.records if record.levelno > logging.DEBUG] == []


async def test_a_body_is_not_waited_for() -> None:
    async with opened() as port, asyncio.timeout(5):
        words = b"POST /status HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\nhello"
        assert (await port.say(words)).startswith(b"HTTP/1.1 405 ")


async def test_a_fault_of_our_own_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    async with opened() as port:
        del port.status["state"]
        assert (await port.ask("/readyz")).status == 500
    assert [record.levelname for record in caplog.records if record.levelno > logging.DEBUG] == ["ERROR"]


@pytest.mark.parametrize("words", [b"", b"GET /healthz HT", REQUEST])
async def test_who_says_nothing_more_is_not_waited_for(words: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(admin, "PATIENCE_SECONDS", 0.1)
    async with opened() as port, asyncio.timeout(5):
        await port.say(words)


async def test_visitors_are_bounded() -> None:
    async with opened() as port, AsyncExitStack() as stack:
        visits = [await port.visit() for _ in range(MAX_VISITORS)]
        for reader, writer in visits:
            stack.callback(writer.close)
            writer.write(REQUEST)
            await reader.readuntil(b"alive\n")
        assert await port.say(LAST_REQUEST) == b""
        visits[0][1].close()
        async with asyncio.timeout(5):
            while not await port.say(LAST_REQUEST):
                pass  # the one who left is not gone yet


async def test_the_end_of_the_port_is_the_end_of_its_visitors() -> None:
    sock = socket.create_server(("127.0.0.1", 0))
    async with opened(sock) as port:
        silent, waiting = await port.visit(), await port.visit()
        waiting[1].write(REQUEST)
        await waiting[0].readuntil(b"alive\n")
    async with asyncio.timeout(5):
        for reader, writer in (silent, waiting):
            assert await reader.read() == b""
            writer.close()
    assert await eventually(lambda: sock.fileno() == -1)
    with pytest.raises(ConnectionRefusedError):
        await port.visit()
