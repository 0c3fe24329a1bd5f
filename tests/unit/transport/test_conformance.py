"""What every transport does, whatever carries it: the contract of ``tunneler/transport/seam.py``.

A transport joins by one more entry in ``TRANSPORTS``.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.loopback.applications import Target
from tests.loopback.peers import Material
from tests.loopback.running import background, until
from tests.loopback.trio import HOST, free_port
from tests.unit.transport.streams import MemoryNetwork, Scribe
from tunneler.addresses import HostPort, Identity, Role
from tunneler.errors import TransportError
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


@pytest.fixture(params=TRANSPORTS)
def transport(request: pytest.FixtureRequest, pki: Path) -> Transport:
    return TRANSPORTS[request.param](pki)


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

    async with transport.listener.serve(transport.address, attach_far):
        async with background(transport.dialer.run_link(transport.address, attach_near)) as (task,):
            await until(lambda: dialled and accepted and dialled[0].batches == [b"greeting"])
            await until(lambda: accepted[0].rooms == 1)
            dialled[0].batches.clear()
            link.near, link.far, link.dialling = dialled[0], accepted[0], task
            yield link
    assert len(accepted) == len(dialled) == 1
    assert (link.near.closed, link.far.closed) == (1, 1)


def sides(link: Link, sender: str) -> tuple[Scribe, Scribe]:
    return (link.near, link.far) if sender == "dialler" else (link.far, link.near)


SENDERS = pytest.mark.parametrize("sender", ["dialler", "listener"])


@SENDERS
async def test_batches_arrive_whole_and_in_order(transport: Transport, sender: str) -> None:
    sizes = [1, 2, 100, 65_535, 65_536, MEBIBYTE, 3 * MEBIBYTE, 1, 17]
    batches = [bytes([number + 1]) * size for number, size in enumerate(sizes)]
    async with linked(transport) as link:
        one, other = sides(link, sender)
        rooms = one.rooms
        one.send(*batches)
        await until(lambda: len(other.batches) == len(batches))
        assert other.batches == batches
        await until(lambda: one.rooms == rooms + len(batches))


@SENDERS
async def test_many_small_batches(transport: Transport, sender: str) -> None:
    batches = [number.to_bytes(2, "big") for number in range(300)]
    async with linked(transport) as link:
        one, other = sides(link, sender)
        one.send(*batches)
        await until(lambda: len(other.batches) == len(batches))
        assert other.batches == batches


async def test_both_ways_at_once(transport: Transport) -> None:
    async with linked(transport) as link:
        link.near.send(*[b"up" * 50_000] * 20)
        link.far.send(*[b"down" * 50_000] * 20)
        await until(lambda: len(link.near.batches) == len(link.far.batches) == 20)
        assert set(link.far.batches) == {b"up" * 50_000}
        assert set(link.near.batches) == {b"down" * 50_000}


@SENDERS
async def test_one_batch_at_a_time(transport: Transport, sender: str) -> None:
    """Congested from send to room_made; a second batch meanwhile is a fault of the caller."""
    async with linked(transport) as link:
        one, _ = sides(link, sender)
        assert not one.stream.congested
        rooms = one.rooms
        one.stream.send(b"first")
        assert one.stream.congested
        assert one.rooms == rooms  # not from inside send
        with pytest.raises(RuntimeError):
            one.stream.send(b"second")
        await until(lambda: one.rooms == rooms + 1)
        assert not one.stream.congested


@SENDERS
async def test_close_delivers_what_was_handed_over(transport: Transport, sender: str) -> None:
    async with linked(transport) as link:
        one, other = sides(link, sender)
        rooms = one.rooms
        one.stream.send(b"x" * MEBIBYTE)
        one.stream.close(b"farewell")
        one.stream.close(b"ignored")
        with pytest.raises(RuntimeError):
            one.stream.send(b"too late")
        await until(lambda: one.closed and other.closed)
        assert other.batches == [b"x" * MEBIBYTE, b"farewell"]
        assert other.error is None
        assert one.error is None
        assert one.rooms == rooms
        async with asyncio.timeout(PATIENCE):
            await link.dialling


@SENDERS
async def test_last_batch_without_one_before(transport: Transport, sender: str) -> None:
    async with linked(transport) as link:
        one, other = sides(link, sender)
        one.stream.close(b"farewell")
        await until(lambda: one.closed and other.closed)
        assert other.batches == [b"farewell"]


async def test_close_from_within_attach(transport: Transport) -> None:
    """The listener's owner refuses the link at once, and says why."""
    heard: list[Scribe] = []

    def refuse(stream: BatchStream) -> Scribe:
        scribe = Scribe(stream)
        scribe.stream.close(b"no room")
        return scribe

    def attach(stream: BatchStream) -> Scribe:
        heard.append(Scribe(stream))
        return heard[-1]

    async with transport.listener.serve(transport.address, refuse):
        async with asyncio.timeout(PATIENCE):
            await transport.dialer.run_link(transport.address, attach)
    assert heard[0].batches == [b"no room"]
    assert heard[0].closed == 1


@SENDERS
async def test_close_from_within_a_callback(transport: Transport, sender: str) -> None:
    async with linked(transport) as link:
        one, other = sides(link, sender)
        one.when_received = lambda batch: one.stream.close(b"because of " + batch)
        other.send(b"that")
        await until(lambda: one.closed and other.closed)
        assert other.batches == [b"because of that"]


async def test_abrupt_loss(transport: Transport) -> None:
    """The dialling task is cancelled: nobody said goodbye, and both ends are told so."""
    async with linked(transport) as link:
        link.near.send(b"x" * MEBIBYTE, b"never sent")
        link.dialling.cancel()
        await until(lambda: link.near.closed and link.far.closed)
        assert link.far.error is not None
        assert isinstance(link.far.error, TransportError)


async def test_listener_closes_with_links_open(transport: Transport) -> None:
    link: Link
    async with linked(transport) as link:
        pass
    assert link.near.closed == link.far.closed == 1


async def test_four_links_at_once(transport: Transport) -> None:
    accepted: list[Scribe] = []
    dialled: list[Scribe] = []

    def attach_to(scribes: list[Scribe]) -> Callable[[BatchStream], Scribe]:
        def attach(stream: BatchStream) -> Scribe:
            scribes.append(Scribe(stream))
            scribes[-1].send(b"hello")
            return scribes[-1]

        return attach

    async with transport.listener.serve(transport.address, attach_to(accepted)):
        links = [transport.dialer.run_link(transport.address, attach_to(dialled)) for _ in range(4)]
        async with background(*links):
            await until(lambda: len(accepted) == len(dialled) == 4)
            for number, scribe in enumerate(dialled):
                scribe.send(*[bytes([number])] * 50)
            await until(lambda: all(len(scribe.batches) == 51 for scribe in accepted))
            assert sorted(scribe.batches[-1] for scribe in accepted) == [b"\0", b"\1", b"\2", b"\3"]
            assert all(len(set(scribe.batches)) == 2 for scribe in accepted)


async def test_nobody_listens(transport: Transport) -> None:
    async with asyncio.timeout(PATIENCE):
        with pytest.raises(TransportError, match=str(transport.address)):
            await transport.dialer.run_link(transport.address, never_attached)


def never_attached(stream: BatchStream) -> Scribe:
    raise AssertionError("attached, although no link was made")


async def test_address_in_use(transport: Transport) -> None:
    async with transport.listener.serve(transport.address, never_attached):
        with pytest.raises(TransportError, match="cannot listen"):
            async with transport.listener.serve(transport.address, never_attached):
                pass
    async with transport.listener.serve(transport.address, never_attached):
        pass  # free again


@pytest.mark.parametrize("turns", [0, 1, 2, 3, 4, 5, 6, 8, 13, 40, 100, 300])
async def test_cancelled_at_any_await(transport: Transport, turns: int) -> None:
    """Nothing is left of a link whose dialling task is cancelled after so many turns of the loop."""
    accepted: list[Scribe] = []
    dialled: list[Scribe] = []

    def attach(stream: BatchStream) -> Scribe:
        accepted.append(Scribe(stream))
        accepted[-1].send(*[b"y" * MEBIBYTE] * 5)
        return accepted[-1]

    def dial(stream: BatchStream) -> Scribe:
        dialled.append(Scribe(stream))
        dialled[-1].send(*[b"x" * MEBIBYTE] * 5)
        return dialled[-1]

    async with transport.listener.serve(transport.address, attach):
        async with background(transport.dialer.run_link(transport.address, dial)) as (task,):
            for _ in range(turns):
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.wait((task,))
            assert task.cancelled()
    assert [scribe.closed for scribe in accepted] == [1] * len(accepted)
    assert [scribe.closed for scribe in dialled] == [1] * len(dialled)


# Who may be at the other end; of transports with certificates.


SECURED: dict[str, Callable[..., Transport]] = {"grpcio": grpcio_with}


@pytest.fixture(params=SECURED)
def make(request: pytest.FixtureRequest) -> Callable[..., Transport]:
    return SECURED[request.param]


async def test_each_sees_who_the_other_is(pki: Path, make: Callable[..., Transport]) -> None:
    async with linked(make(pki, "client", "server")) as link:
        assert link.far.stream.peer.identity == Identity(Role.CLIENT, "client")
        assert link.near.stream.peer.identity == Identity(Role.SERVER, HOST)
        assert HOST in link.far.stream.peer.address


async def refused(transport: Transport) -> str:
    """Dial, be refused, and return what the operator is told."""
    async with transport.listener.serve(transport.address, never_attached):
        with pytest.raises(TransportError) as refusal:
            async with asyncio.timeout(PATIENCE):
                await transport.dialer.run_link(transport.address, never_attached)
    assert "\n" not in str(refusal.value)
    return str(refusal.value)


async def test_client_of_another_authority(pki: Path, foreign: Path, make: Callable[..., Transport]) -> None:
    """Its certificate is refused; it trusts ours."""
    ours = make(pki, "client", "server")
    theirs = make(foreign, "client", "server", pki)
    await refused(Transport(theirs.dialer, ours.listener, ours.address))


async def test_server_of_another_authority(pki: Path, foreign: Path, make: Callable[..., Transport]) -> None:
    ours = make(pki, "client", "server")
    theirs = make(foreign, "client", "server")
    assert "tls.ca_file" in await refused(Transport(ours.dialer, theirs.listener, ours.address))


async def test_server_for_another_name(pki: Path, make: Callable[..., Transport]) -> None:
    ours = make(pki, "client", "server")
    elsewhere = HostPort("127.0.0.2", ours.address.port)
    assert "name or address" in await refused(Transport(ours.dialer, ours.listener, elsewhere))


async def test_role_that_may_not_call(pki: Path, make: Callable[..., Transport]) -> None:
    """A proxy's certificate, where a client calls; a link may seem to be made before it is refused."""
    transport = make(pki, "proxy", "server")
    dialled: list[Scribe] = []

    def attach(stream: BatchStream) -> Scribe:
        dialled.append(Scribe(stream))
        return dialled[-1]

    async with transport.listener.serve(transport.address, never_attached):
        try:
            async with asyncio.timeout(PATIENCE):
                await transport.dialer.run_link(transport.address, attach)
            (scribe,) = dialled
            assert scribe.batches == []
            told = str(scribe.error)
        except TransportError as error:
            told = str(error)
    assert "PERMISSION_DENIED" in told


async def test_no_certificate_for_a_server(pki: Path, make: Callable[..., Transport]) -> None:
    """A client's certificate does not make a server."""
    await refused(make(pki, "client", "client"))


async def test_plaintext_to_a_secured_listener(pki: Path, make: Callable[..., Transport]) -> None:
    ours = make(pki, "client", "server")
    await refused(Transport(plaintext_grpcio(pki).dialer, ours.listener, ours.address))


@pytest.mark.parametrize("greeting", [b"", b"GET / HTTP/1.1\r\n\r\n", bytes(range(256)) * 20])
async def test_listener_survives_strangers(
    pki: Path, make: Callable[..., Transport], greeting: bytes
) -> None:
    ours = make(pki, "client", "server")
    async with linked(ours) as link:
        with socket.create_connection(ours.address) as stranger:
            stranger.sendall(greeting)
        link.near.send(b"still here")
        await until(lambda: link.far.batches == [b"still here"])


async def test_listener_that_says_nothing(pki: Path) -> None:
    with Target() as mute:
        dialer = GrpcDialer(
            Role.CLIENT, Security(Material(pki, "client"), identity_of_certificate), handshake_timeout=0.3
        )
        start = asyncio.get_running_loop().time()
        with pytest.raises(TransportError, match=r"no answer within 0.3 s"):
            await dialer.run_link(HostPort(HOST, mute.port), never_attached)
        assert asyncio.get_running_loop().time() - start < 2
