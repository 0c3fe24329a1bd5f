"""A client, a server and a proxy on 127.0.0.1, with mutual TLS, and without a packet filter.

An application of a test connects to the client's capture port; where it was "really" going
is looked up by its source address, as the kernel's connection tracking would.
"""

from __future__ import annotations

import asyncio
import random
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing, nullcontext
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any, Generic, TypeVar
from unittest.mock import patch

from tests.loopback.held import held_by_dialler, held_by_server
from tests.loopback.running import eventually, until
from tunneler.addresses import Endpoint, HostPort
from tunneler.config.model import CaptureConfig, ClientConfig, ProxyConfig, ServerConfig
from tunneler.engine.lifecycle import Lifecycle
from tunneler.errors import CaptureError
from tunneler.roles.client import Client
from tunneler.roles.dialing import DialingRole
from tunneler.roles.proxy import Proxy
from tunneler.roles.server import Server

HOST = "127.0.0.1"
VIRTUAL = "100.64.1.1"
"""Where applications find 127.0.0.1."""
ROUTES = ({"virtual": "100.64.1.0/24", "real": "127.0.0.0/24"},)
TICK = 0.05

TIMEOUTS: dict[str, Any] = {
    "heartbeat": 0.5,
    "silence": 10,
    "handshake": 3,
    "dial": 1,
    "open": 3,
    "idle": 0,
    "drain": 2,
    "backoff_start": 0.02,
    "backoff_cap": 0.1,
}

Kind = TypeVar("Kind", bound=Server | Client | Proxy)


def free_port() -> int:
    """A port below those that the kernel gives to outgoing connections."""
    for port in random.sample(range(10_000, 30_000), 100):
        try:
            for family, host in ((socket.AF_INET, HOST), (socket.AF_INET6, "::1")):
                with closing(socket.socket(family)) as sock:
                    sock.bind((host, port))
        except OSError:
            continue
        return port
    raise AssertionError("no free port")


class Running(Generic[Kind]):
    """A role at work, and the means to end it."""

    def __init__(self, role: Kind, group: asyncio.TaskGroup, life: Lifecycle | None = None) -> None:
        self.role: Kind = role
        life = life or Lifecycle()
        self.stop = life.stop
        self.task = group.create_task(role.serve(life))

    async def finish(self) -> None:
        """Stop as SIGTERM does; return when that is done."""
        self.stop.set()
        await self.ended()

    async def kill(self) -> None:
        """End as a second signal does."""
        self.task.cancel()
        await self.ended()

    async def ended(self) -> None:
        await asyncio.wait((self.task,))
        if not self.task.cancelled():
            self.task.result()


class Trio:
    """The roles of one test. Each can be stopped, and started again, alone."""

    def __init__(self, pki: Path | None, group: asyncio.TaskGroup, timeouts: dict[str, Any]) -> None:
        self._pki = pki
        self._group = group
        self._timeouts = {**TIMEOUTS, **timeouts}
        self._destinations: dict[Endpoint, Endpoint] = {}
        self.server_port = free_port()
        self.capture_port = free_port()
        self.servers: list[Running[Server]] = []
        self.clients: list[Running[Client]] = []
        self.proxies: list[Running[Proxy]] = []

    # Starting.

    def tls(self, role: str) -> dict[str, Any]:
        if self._pki is None:
            return {"insecure": True}
        return {
            "cert_file": self._pki / role / "cert.pem",
            "key_file": self._pki / role / "key.pem",
            "ca_file": self._pki / "ca" / "cert.pem",
        }

    def _common(self, role: str, options: dict[str, Any]) -> dict[str, Any]:
        timeouts = {**self._timeouts, **options.pop("timeouts", {})}
        return {"tls": self.tls(role), "timeouts": timeouts, **options}

    def server_config(self, port: int | None = None, **options: Any) -> ServerConfig:
        address = HostPort(HOST, port or self.server_port)
        return ServerConfig(listen_addr=address, **self._common("server", options))

    def client_config(self, **options: Any) -> ClientConfig:
        options = {"server_addr": f"{HOST}:{self.server_port}", "client_id": "client-1", **options}
        options.setdefault("listen_port", self.capture_port)
        return ClientConfig(capture=CaptureConfig(enabled=False), **self._common("client", options))

    def proxy_config(self, **options: Any) -> ProxyConfig:
        options = {"server_addr": f"{HOST}:{self.server_port}", "proxy_id": "proxy-1", **options}
        options.setdefault("routes", ROUTES)
        return ProxyConfig(**self._common("proxy", options))

    def start_server(self, port: int | None = None, **options: Any) -> Running[Server]:
        self.servers.append(Running(Server(self.server_config(port, **options)), self._group))
        return self.servers[-1]

    def start_client(self, **options: Any) -> Running[Client]:
        self.clients.append(Running(Client(self.client_config(**options)), self._group))
        return self.clients[-1]

    def start_proxy(self, **options: Any) -> Running[Proxy]:
        self.proxies.append(Running(Proxy(self.proxy_config(**options)), self._group))
        return self.proxies[-1]

    # The roles, where there is one of each.

    @property
    def server(self) -> Server:
        return self.servers[-1].role

    @property
    def client(self) -> Client:
        return self.clients[-1].role

    @property
    def proxy(self) -> Proxy:
        return self.proxies[-1].role

    def everybody(self) -> list[Running[Client] | Running[Proxy] | Running[Server]]:
        """In an order that lets connections finish."""
        return [*self.clients, *self.proxies, *self.servers]

    async def ready(self, links: int = 1) -> None:
        """Wait until a connection could be carried by so many servers."""
        await until(lambda: self.routed() >= links and usable(self.client) >= links)

    def routed(self) -> int:
        """Servers that know a proxy for the virtual prefix."""
        return sum(bool(members(running.role)) for running in self.servers if not running.task.done())

    # Applications.

    async def connect(self, port: int, host: str = VIRTUAL, capture_port: int = 0) -> socket.socket:
        """An application's connection, captured on its way to ``host``."""
        sock = socket.socket()
        try:
            self.redirect(sock, port, host)
            # Does not block: the kernel answers. The loop's own would hide a reset that follows at once.
            sock.connect((HOST, capture_port or self.capture_port))
            sock.setblocking(False)
        except BaseException:
            sock.close()
            raise
        return sock

    def redirect(self, sock: socket.socket, port: int, host: str = VIRTUAL) -> None:
        """Have a connection that ``sock`` makes later look captured on its way to ``host``."""
        sock.bind((HOST, 0))
        self._destinations[Endpoint.of(*sock.getsockname())] = Endpoint(IPv4Address(host), port)

    def original_destination(self, sock: socket.socket) -> Endpoint:
        host, port = sock.getpeername()[:2]
        source = Endpoint.of(host.removeprefix("::ffff:"), port)
        if source not in self._destinations:
            raise CaptureError("nobody redirected this connection")
        return self._destinations.pop(source)

    # The end.

    def connections(self) -> tuple[int, int, int]:
        """Table entries: of the clients, the servers, the proxies."""
        return (
            sum(running.role.connection_count for running in self.clients),
            sum(len(running.role.relay.connections) for running in self.servers),
            sum(running.role.connection_count for running in self.proxies),
        )

    def held(self) -> list[str]:
        """What the roles hold for connections; nothing while there is none."""
        found: list[str] = []
        for client in self.clients:
            found += held_by_dialler("client", client.role)
        for proxy in self.proxies:
            found += held_by_dialler("proxy", proxy.role)
        for server in self.servers:
            found += held_by_server(server.role)
        return found

    async def released(self, seconds: float = 5.0) -> None:
        """Wait until no connection is left anywhere."""
        assert await eventually(lambda: not self.held(), seconds), self.held()


def part_of(trio: Trio, part: str) -> Running[Client] | Running[Server] | Running[Proxy]:
    """The latest of a kind."""
    if part == "client":
        return trio.clients[-1]
    return trio.servers[-1] if part == "server" else trio.proxies[-1]


def members(server: Server) -> Any:
    return server.relay.routes.members(IPv4Address(VIRTUAL))


def usable(role: DialingRole) -> int:
    return sum(end.usable for end in role.ends)


@asynccontextmanager
async def stage(pki: Path | None, **timeouts: Any) -> AsyncIterator[Trio]:
    """Nobody at work yet; whoever is at the end is stopped, and must have released everything."""
    async with asyncio.TaskGroup() as group:
        trio = Trio(pki, group, timeouts)
        with (
            patch("tunneler.engine.process.TICK_SECONDS", TICK),
            patch("tunneler.roles.client.original_destination", trio.original_destination),
            # Standard error is one for the whole process; a process of ours holds one server.
            patch("tunneler.transport.grpcio.listener.core_messages", nullcontext),
        ):
            try:
                yield trio
            finally:
                for running in trio.everybody():
                    await running.finish()
    # Roles that have ended hold nothing, whatever was going on: no socket, no link either.
    assert trio.held() == []
    for role in [*(client.role for client in trio.clients), *(proxy.role for proxy in trio.proxies)]:
        assert list(role.ends) == []
        assert len(role.reactor) == 0
    for server in trio.servers:
        assert server.role.links == set()
        assert server.role.relay.links == ()


@asynccontextmanager
async def running_trio(pki: Path | None, **timeouts: Any) -> AsyncIterator[Trio]:
    """One of each, linked."""
    async with stage(pki, **timeouts) as trio:
        trio.start_server()
        trio.start_proxy()
        trio.start_client()
        await trio.ready()
        yield trio
