"""The transports under test, and a link over one of them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NamedTuple

from tests.loopback.peers import Material
from tests.loopback.running import background, until
from tests.loopback.trio import HOST, free_port
from tests.unit.transport.streams import MemoryNetwork, Scribe
from tunneler.addresses import HostPort, Role
from tunneler.pki.identity import identity_of_certificate
from tunneler.sockets.reactor import Reactor
from tunneler.transport.grpcio.dialer import GrpcDialer
from tunneler.transport.grpcio.listener import GrpcListener
from tunneler.transport.native.dialer import NativeDialer
from tunneler.transport.native.listener import NativeListener
from tunneler.transport.seam import (
    NO_CALLS,
    Attach,
    BatchStream,
    Dialer,
    Listener,
    Listening,
    Released,
    Security,
    UnaryHandler,
)

MEBIBYTE = 1024 * 1024
PATIENCE = 10.0


class Transport(NamedTuple):
    """A dialler and a listener that find each other at an address."""

    dialer: Dialer
    listener: Listener
    address: HostPort


Make = Callable[[Path], Transport]


def over_grpcio(pki: Path) -> Transport:
    return grpcio_with(pki, "client", "server")


def grpcio_with(pki: Path, dialling: str, listening: str, authority: Path | None = None) -> Transport:
    def security(holder: str) -> Security:
        return Security(Material(pki, holder, authority), identity_of_certificate)

    return grpcio_secured(security(dialling), security(listening))


def plaintext_grpcio(pki: Path) -> Transport:
    security = Security(None, identity_of_certificate)
    return grpcio_secured(security, security)


def grpcio_secured(dialling: Security, listening: Security) -> Transport:
    return Transport(
        GrpcDialer(Role.CLIENT, dialling, 3.0),
        GrpcListener(listening, lambda *_, **__: None),
        HostPort(HOST, free_port()),
    )


def over_native(pki: Path) -> Transport:
    return native_with(pki, "client", "server")


def native_with(pki: Path, dialling: str, listening: str, authority: Path | None = None) -> Transport:
    def security(holder: str) -> Security:
        return Security(Material(pki, holder, authority), identity_of_certificate)

    return native_secured(security(dialling), security(listening))


def plaintext_native(pki: Path) -> Transport:
    security = Security(None, identity_of_certificate)
    return native_secured(security, security)


def native_secured(dialling: Security, listening: Security) -> Transport:
    shared = SharedReactor()
    return Transport(
        ReactingDialer(shared, NativeDialer(Role.CLIENT, dialling, shared.reactor, 3.0)),
        ReactingListener(
            shared, NativeListener(listening, shared.reactor, lambda: 100, lambda *_, **__: None)
        ),
        HostPort(HOST, free_port()),
    )


class SharedReactor:
    """A reactor that is open while anybody uses it, and then holds nothing."""

    def __init__(self) -> None:
        self.reactor = Reactor()
        self._users = 0

    def __enter__(self) -> None:
        if not self._users:
            self.reactor.open()
        self._users += 1

    def __exit__(self, *_: object) -> None:
        self._users -= 1
        if not self._users:
            held = len(self.reactor)
            self.reactor.close()
            assert not held


class ReactingDialer:
    """Like a role: has the reactor open while it dials."""

    def __init__(self, shared: SharedReactor, dialer: Dialer) -> None:
        self._shared = shared
        self._dialer = dialer
        self.handshake_timeout = dialer.handshake_timeout

    async def run_link(self, server: HostPort, attach: Attach) -> None:
        with self._shared:
            await self._dialer.run_link(server, attach)


class ReactingListener:
    """Like a role: has the reactor open while it listens."""

    def __init__(self, shared: SharedReactor, listener: Listener) -> None:
        self._shared = shared
        self._listener = listener

    @asynccontextmanager
    async def serve(
        self, listening: Listening, attach: Attach, unary: Mapping[str, UnaryHandler] = NO_CALLS
    ) -> AsyncIterator[None]:
        with self._shared:
            async with self._listener.serve(listening, attach, unary):
                yield

    async def take_over(self, released: Released) -> None:
        await self._listener.take_over(released)


def in_memory(pki: Path) -> Transport:
    network = MemoryNetwork()
    return Transport(network, network, HostPort(HOST, 1))


TRANSPORTS: dict[str, Make] = {
    "grpcio": over_grpcio,
    "grpcio, plaintext": plaintext_grpcio,
    "native": over_native,
    "native, plaintext": plaintext_native,
    "in memory": in_memory,
}


class Link:
    """Both ends of one link, once it is made."""

    def __init__(self) -> None:
        self.near: Scribe
        self.far: Scribe
        self.dialling: asyncio.Task[None]


@asynccontextmanager
async def linked(transport: Transport) -> AsyncIterator[Link]:
    link = Link()
    accepted: list[Scribe] = []
    dialled: list[Scribe] = []

    def attach_far(stream: BatchStream) -> Scribe:
        accepted.append(Scribe(stream))
        accepted[-1].send(b"greeting")
        return accepted[-1]

    def attach_near(stream: BatchStream) -> Scribe:
        dialled.append(Scribe(stream))
        return dialled[-1]

    async with (
        transport.listener.serve(transport.address, attach_far),
        background(transport.dialer.run_link(transport.address, attach_near)) as (task,),
    ):
        await until(lambda: dialled and accepted and dialled[0].batches == [b"greeting"])
        await until(lambda: accepted[0].taken == 1)
        dialled[0].batches.clear()
        link.near, link.far, link.dialling = dialled[0], accepted[0], task
        yield link
    assert len(accepted) == len(dialled) == 1
    assert (link.near.closed, link.far.closed) == (1, 1)


def sides(link: Link, sender: str) -> tuple[Scribe, Scribe]:
    return (link.near, link.far) if sender == "dialler" else (link.far, link.near)


def never_attached(stream: BatchStream) -> Scribe:
    raise AssertionError("attached, although no link was made")
