"""What the roles tell of themselves."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path
from typing import Any

import pytest

from tests.loopback.applications import echo_target, end, read, write
from tests.loopback.recorder import Recorder
from tests.loopback.running import background, until
from tests.loopback.trio import HOST, Trio, running_trio, stage
from tunneler import __version__
from tunneler.roles.setup import admin_of
from tunneler.sockets.acceptor import listen


async def test_each_role_says_what_it_carries(pki: Path) -> None:
    async with echo_target() as target, running_trio(pki) as trio:
        with await trio.connect(target.port) as app:
            await write(app, b"x")
            assert await read(app, 1) == b"x"
            server, client, proxy = reports(trio)
            end(app)
        await trio.released()
    for role, report in (("server", server), ("client", client), ("proxy", proxy)):
        expected = {"role": role, "version": __version__, "state": "ready", "connections": 1}
        assert report.items() >= expected.items()
    listening = f"{HOST}:{trio.server_port}"
    link = {"server": listening, "state": "up", "connections": 1, "failure": None}
    assert client["links"] == proxy["links"] == [link]
    assert (server["instance"], server["listening"]) == (f"server{trio.server_port}", [listening])
    peers = {(link["peer"], link["state"], link["connections"]) for link in links(server)}
    assert peers == {("client/client#client-1", "up", 1), ("proxy/proxy#proxy-1", "up", 1)}
    (route,) = proxy["routes"]
    assert server["routes"] == [
        {**route, "group": "proxy-1", "proxy": "proxy/proxy#proxy-1", "in_force": True}
    ]
    assert client["captured"] == ["100.64.0.0/10"]


def reports(trio: Trio) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    return trio.server.report(), trio.client.report(), trio.proxy.report()


def links(report: Any) -> list[dict[str, Any]]:
    return list(report["links"])


async def test_the_state_is_that_of_the_moment(pki: Path) -> None:
    async with stage(pki) as trio:
        trio.start_client()
        trio.start_proxy()
        dialling = (trio.client, trio.proxy)
        await until(lambda: all(links(role.report())[0]["failure"] for role in dialling))
        for role in dialling:
            assert role.report()["state"] == "starting"
            assert links(role.report())[0]["state"] == "down"
        server = trio.start_server()
        assert trio.server.report()["state"] == "starting"
        await trio.ready()
        await until(lambda: all(role.report()["state"] == "ready" for role in (*dialling, trio.server)))
        await server.kill()
        await until(lambda: all(role.report()["state"] == "waiting" for role in dialling))


async def test_while_connections_finish(pki: Path) -> None:
    async with echo_target() as target, running_trio(pki) as trio:
        with await trio.connect(target.port) as app:
            await write(app, b"x")
            assert await read(app, 1) == b"x"
            async with background(trio.servers[0].finish()):
                await until(lambda: trio.server.report()["state"] == "draining")
                await until(lambda: links(trio.client.report())[0]["state"] == "draining")
                assert trio.client.report()["state"] == "waiting"
                end(app)
        async with background(trio.proxies[0].finish()):
            await until(lambda: trio.proxy.report()["state"] == "draining")


async def answer(address: tuple[str, int]) -> bytes:
    reader, writer = await asyncio.open_connection(*address)
    writer.write(b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    try:
        return await reader.read()
    finally:
        writer.close()


async def test_the_port_is_where_systemd_or_the_configuration_says(log: Recorder) -> None:
    async with stage(None) as trio:
        with listen(HOST, 0) as free:
            configured = HOST, free.getsockname()[1]
        config = trio.server_config(admin={"listen": "{}:{}".format(*configured)})
        async with admin_of(config, ())(dict):
            assert b" 200 OK\r\n" in await answer(configured)
        passed = listen(HOST, 0)
        async with admin_of(config, [passed])(dict):
            assert b" 200 OK\r\n" in await answer(passed.getsockname())
            with pytest.raises(ConnectionRefusedError):
                await answer(configured)
        async with admin_of(trio.server_config(), ())(dict):
            with pytest.raises(ConnectionRefusedError):
                await answer(configured)
    assert log.of("admin_listening")[0] == {"address": "{}:{}".format(*configured)}
    assert log.of("admin_exposed") == []


async def test_a_port_for_everybody_is_a_warning(tmp_path: Path, log: Recorder) -> None:
    async with stage(None) as trio:
        everywhere = listen("0.0.0.0", 0)
        here = socket.socket(socket.AF_UNIX)
        here.bind(str(tmp_path / "admin"))
        here.listen()
        async with admin_of(trio.server_config(), [here, everywhere])(dict):
            pass
    (exposed,) = log.of("admin_exposed")
    assert exposed["address"] == "0.0.0.0:{}".format(log.of("admin_listening")[0]["address"].split(":")[-1])
