"""Roles whose listening sockets were passed to them."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path

import pytest

from tests.loopback.applications import echo_target
from tests.loopback.recorder import Recorder
from tests.loopback.running import until
from tests.loopback.trio import HOST, Running, stage
from tunneler.engine.lifecycle import Lifecycle
from tunneler.errors import ConfigError
from tunneler.roles.client import Client
from tunneler.roles.server import Server
from tunneler.sockets.acceptor import listen


async def test_a_client_takes_what_arrives_at_a_passed_socket(pki: Path) -> None:
    async with stage(pki) as trio, echo_target() as target:
        passed = listen(HOST, trio.capture_port)
        trio.start_server()
        trio.start_proxy()
        trio.clients.append(Running(Client(trio.client_config(), [passed]), trio._group))
        await trio.ready()
        with await trio.connect(target.port) as application:
            loop = asyncio.get_running_loop()
            await loop.sock_sendall(application, b"through")
            assert await loop.sock_recv(application, 100) == b"through"


async def test_a_passed_socket_at_another_port(pki: Path) -> None:
    async with stage(pki) as trio:
        with (
            listen(HOST, 0) as passed,
            pytest.raises(ConfigError, match="expected the port of"),
        ):
            Client(trio.client_config(), [passed])


async def test_a_server_takes_links_at_passed_sockets() -> None:
    async with stage(None) as trio, echo_target() as target:
        passed = [listen(host, trio.server_port) for host in (HOST, "::1")]
        server = Server(trio.server_config(transport="native"), passed)
        trio.servers.append(Running(server, trio._group))
        trio.start_proxy()
        trio.start_client(server_addr=f"[::1]:{trio.server_port}")
        await trio.ready()
        with await trio.connect(target.port) as application:
            loop = asyncio.get_running_loop()
            await loop.sock_sendall(application, b"through")
            assert await loop.sock_recv(application, 100) == b"through"
        for running in trio.everybody():
            await running.finish()
        assert [sock.fileno() for sock in passed] == [-1, -1]


async def test_a_socket_of_both_families_shows_addresses_as_they_are(pki: Path, log: Recorder) -> None:
    async with stage(pki) as trio, echo_target() as target:
        passed = socket.create_server(("", trio.capture_port), family=socket.AF_INET6, dualstack_ipv6=True)
        passed.setblocking(False)
        trio.start_server()
        trio.start_proxy()
        trio.clients.append(Running(Client(trio.client_config(), [passed]), trio._group))
        await trio.ready()
        with await trio.connect(target.port) as application:
            source = "{}:{}".format(*application.getsockname())
            await until(lambda: log.of("connection_opened", "server"))
            (opened,) = log.of("connection_opened", "server")
            assert str(opened["source"]) == source


async def test_servers_of_one_configuration_are_told_apart_by_their_sockets() -> None:
    async with stage(None) as trio:
        with listen(HOST, 0) as first, listen(HOST, 0) as second:
            ports = [sock.getsockname()[1] for sock in (first, second)]
            servers = [Server(trio.server_config(), [sock]) for sock in (first, second)]
            assert [server.addresses[0].port for server in servers] == ports


async def test_plaintext_stays_on_this_machine() -> None:
    async with stage(None) as trio:
        with listen("0.0.0.0", 0) as passed, pytest.raises(ConfigError, match="plaintext is for loopback"):
            Server(trio.server_config(), [passed])


async def test_the_stock_transport_listens_beside_a_passed_socket(pki: Path) -> None:
    """Whatever this machine has in net.ipv4.tcp_migrate_req: links are made again until they are up."""
    async with stage(pki) as trio, echo_target() as target:
        passed = socket.create_server(
            ("", trio.server_port), family=socket.AF_INET6, dualstack_ipv6=True, reuse_port=True
        )
        with passed.dup():  # systemd's
            server = Server(trio.server_config(transport="grpcio"), [passed])
            trio.servers.append(Running(server, trio._group))
            trio.start_proxy()
            trio.start_client()
            await trio.ready()
            with await trio.connect(target.port) as application:
                loop = asyncio.get_running_loop()
                await loop.sock_sendall(application, b"through")
                assert await loop.sock_recv(application, 100) == b"through"


async def test_the_stock_transport_needs_a_socket_of_both_families(pki: Path) -> None:
    async with stage(pki) as trio:
        with listen(HOST, 0) as passed:
            server = Server(trio.server_config(transport="grpcio"), [passed])
            with pytest.raises(ConfigError, match="BindIPv6Only=both"):
                await server.serve(Lifecycle())
