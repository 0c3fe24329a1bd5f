"""When a role says that it works, and what it says of itself meanwhile."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.loopback.applications import READ_BYTES, echo_target, end, ending, read, write
from tests.loopback.manager import FakeManager
from tests.loopback.peers import raw_server
from tests.loopback.running import background, until
from tests.loopback.trio import HOST, Running, part_of, stage
from tunneler.capture.liveness import FILE_NAME, Liveness
from tunneler.engine.lifecycle import Lifecycle
from tunneler.protocol.frames import Routes, RoutesResult
from tunneler.roles.client import Client
from tunneler.roles.proxy import Proxy
from tunneler.roles.server import Server
from tunneler.sockets.acceptor import listen
from tunneler.systemd.notify import Notifier


@pytest.fixture
def manager(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeManager]:
    monkeypatch.setattr("tunneler.engine.lifecycle.STATUS_SECONDS", 0.02)
    with FakeManager(tmp_path / "notify") as manager:
        yield manager


@contextmanager
def service(manager: FakeManager) -> Iterator[Lifecycle]:
    """The life of a role that systemd started."""
    with Notifier(manager.address, None, print) as notifier:
        life = Lifecycle(notifier)
        with life.followed():
            yield life


def is_ready(manager: FakeManager) -> bool:
    return any(message.startswith("READY=1") for message in manager.said())


def status(manager: FakeManager) -> str:
    """The latest."""
    lines = [line for message in manager.said() for line in message.splitlines()]
    return next((line for line in reversed(lines) if line.startswith("STATUS=")), "")


async def test_a_server_is_ready_when_it_accepts(pki: Path, manager: FakeManager) -> None:
    async with stage(pki) as trio:
        with service(manager) as life:
            running = Running(Server(trio.server_config()), trio._group, life)
            trio.servers.append(running)
            await until(lambda: is_ready(manager))
            assert "READY=1\nSTATUS=0 links, 0 connections" in manager.messages
            trio.start_proxy()
            await until(lambda: status(manager) == "STATUS=1 link, 0 connections")
            await running.finish()


async def test_a_client_is_ready_when_it_has_a_link(pki: Path, manager: FakeManager) -> None:
    async with stage(pki) as trio, echo_target() as target:
        with service(manager) as life:
            running = Running(Client(trio.client_config()), trio._group, life)
            trio.clients.append(running)
            nobody = f"127.0.0.1:{trio.server_port}: Connection refused; is the server running there?"
            await until(lambda: status(manager) == f"STATUS=0 of 1 link up, 0 connections; {nobody}")
            assert not is_ready(manager)
            trio.start_server()
            await until(lambda: is_ready(manager))
            assert "READY=1\nSTATUS=1 of 1 link up, 0 connections" in manager.messages
            trio.start_proxy()
            await trio.ready()
            with await trio.connect(target.port):
                await until(lambda: status(manager) == "STATUS=1 of 1 link up, 1 connection")
            await running.finish()


async def test_a_proxy_is_ready_when_it_is_registered(pki: Path, manager: FakeManager) -> None:
    async with stage(pki) as trio:
        with service(manager) as life:
            async with raw_server(pki, trio.server_port) as server:
                running = Running(Proxy(trio.proxy_config()), trio._group, life)
                trio.proxies.append(running)
                await until(lambda: server.links and Routes in map(type, server.links[0].frames))
                await until(lambda: status(manager) == "STATUS=1 of 1 link up, 0 connections")
                assert not is_ready(manager)
                server.links[0].send(RoutesResult(()))
                await until(lambda: is_ready(manager))
                await running.finish()


async def test_a_lost_link_is_told(pki: Path, manager: FakeManager) -> None:
    async with stage(pki) as trio:
        trio.start_server()
        with service(manager) as life:
            running = Running(Proxy(trio.proxy_config()), trio._group, life)
            trio.proxies.append(running)
            await until(lambda: is_ready(manager))
            await trio.servers[0].finish()
            await until(
                lambda: status(manager).startswith("STATUS=0 of 1 link up, 0 connections; 127.0.0.1:")
            )
            await running.finish()


@pytest.mark.parametrize("part", ["client", "server", "proxy"])
async def test_a_drain_is_told(pki: Path, manager: FakeManager, part: str) -> None:
    async with stage(pki, drain=10) as trio, echo_target() as target:
        with service(manager) as life:
            lives = {part: life}
            trio.servers.append(Running(Server(trio.server_config()), trio._group, lives.get("server")))
            trio.proxies.append(Running(Proxy(trio.proxy_config()), trio._group, lives.get("proxy")))
            trio.clients.append(Running(Client(trio.client_config()), trio._group, lives.get("client")))
            await trio.ready()
            with await trio.connect(target.port) as app:
                await write(app, b"x")
                assert await read(app, 1) == b"x"
                life.request_stop()
                await until(lambda: status(manager) == "STATUS=draining, 1 connection left")
            await part_of(trio, part).ended()


# A client that a connection started.


async def pump(source: socket.socket, sink: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    while data := await loop.sock_recv(source, READ_BYTES):
        await loop.sock_sendall(sink, data)
    end(sink)


async def test_what_came_before_the_link_is_carried(pki: Path) -> None:
    """As systemd has it: the connection that starts the service is there before the service."""
    async with stage(pki) as trio, echo_target() as target:
        trio.start_server()
        trio.start_proxy()
        await until(trio.routed)
        with listen(HOST, 0) as gate, socket.socket() as beyond:
            trio.start_client(server_addr=f"{HOST}:{gate.getsockname()[1]}")
            link, _ = await asyncio.get_running_loop().sock_accept(gate)
            with link, await trio.connect(target.port) as app:
                await write(app, b"early")
                assert not trio.client.all_tried
                beyond.setblocking(False)
                await asyncio.get_running_loop().sock_connect(beyond, (HOST, trio.server_port))
                async with background(pump(link, beyond), pump(beyond, link)):
                    assert await read(app, 5) == b"early"
                    await trio.clients[0].finish()


async def test_nothing_waits_for_servers_that_do_not_answer(pki: Path) -> None:
    async with stage(pki) as trio, echo_target() as target:
        trio.start_client()
        await until(lambda: trio.client._acceptors)
        with await trio.connect(target.port) as app:
            assert await ending(app, 3) == "reset"


# Its sign of life for whoever keeps the rules: the word alone, for a process does not see its own lock.


def said(directory: Path) -> str | None:
    try:
        return (directory / FILE_NAME).read_text().strip()
    except FileNotFoundError:
        return None


async def test_whoever_keeps_the_rules_sees_what_the_client_could_carry(pki: Path, tmp_path: Path) -> None:
    async with stage(pki) as trio, echo_target() as target:
        running = Running(Client(trio.client_config(), liveness=Liveness(tmp_path)), trio._group)
        trio.clients.append(running)
        await until(lambda: said(tmp_path) == "down")
        trio.start_server()
        await until(lambda: said(tmp_path) == "up")
        trio.start_proxy()
        await trio.ready()
        with await trio.connect(target.port) as app:
            await write(app, b"x")
            assert await read(app, 1) == b"x"
            running.stop.set()
            await until(lambda: said(tmp_path) == "down")  # it takes nothing new
            assert not running.task.done()
        await running.ended()
    assert os.listdir(tmp_path) == []


async def test_a_client_that_is_cancelled_leaves_no_file(pki: Path, tmp_path: Path) -> None:
    async with stage(pki) as trio:
        trio.start_server()
        running = Running(Client(trio.client_config(), liveness=Liveness(tmp_path)), trio._group)
        trio.clients.append(running)
        await until(lambda: said(tmp_path) == "up")
        await running.kill()
    assert os.listdir(tmp_path) == []
