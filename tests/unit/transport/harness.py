"""The transports under test, and a link over one of them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NamedTuple

from tests.loopback.peers import Material
from tests.loopback.running import background, until
from tests.loopback.trio import HOST, free_port
from tests.unit.transport.streams import MemoryNetwork, Scribe
from tunneler.addresses import HostPort, Role
from tunneler.pki.identity import identity_of_certificate
from tunneler.transport.grpcio.dialer import GrpcDialer
from tunneler.transport.grpcio.listener import GrpcListener
from tunneler.transport.seam import BatchStream, Dialer, Listener, Security

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

    return Transport(
        GrpcDialer(Role.CLIENT, security(dialling), 3.0),
        GrpcListener(security(listening), lambda *_, **__: None),
        HostPort(HOST, free_port()),
    )


def plaintext_grpcio(pki: Path) -> Transport:
    security = Security(None, identity_of_certificate)
    return Transport(
        GrpcDialer(Role.CLIENT, security, 3.0),
        GrpcListener(security, lambda *_, **__: None),
        HostPort(HOST, free_port()),
    )


def in_memory(pki: Path) -> Transport:
    network = MemoryNetwork()
    return Transport(network, network, HostPort(HOST, 1))


TRANSPORTS: dict[str, Make] = {
    "grpcio": over_grpcio,
    "grpcio, plaintext": plaintext_grpcio,
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
        await until(lambda: accepted[0].rooms == 1)
        dialled[0].batches.clear()
        link.near, link.far, link.dialling = dialled[0], accepted[0], task
        yield link
    assert len(accepted) == len(dialled) == 1
    assert (link.near.closed, link.far.closed) == (1, 1)


def sides(link: Link, sender: str) -> tuple[Scribe, Scribe]:
    return (link.near, link.far) if sender == "dialler" else (link.far, link.near)


def never_attached(stream: BatchStream) -> Scribe:
    raise AssertionError("attached, although no link was made")
