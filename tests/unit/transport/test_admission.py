"""Who may be at the other end of a link, on transports with certificates."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from pathlib import Path

import grpc
import pytest

from tests.loopback.applications import Target
from tests.loopback.peers import Material
from tests.loopback.running import until
from tests.loopback.trio import HOST
from tests.unit.transport.harness import (
    PATIENCE,
    Transport,
    grpcio_with,
    linked,
    native_with,
    never_attached,
    plaintext_grpcio,
)
from tests.unit.transport.streams import Scribe
from tunneler.addresses import HostPort, Identity, Role
from tunneler.errors import TransportError
from tunneler.pki.identity import identity_of_certificate
from tunneler.transport.grpcio.dialer import GrpcDialer
from tunneler.transport.seam import METHODS, BatchStream, Security

SECURED: dict[str, Callable[..., Transport]] = {"grpcio": grpcio_with, "native": native_with}


@pytest.fixture(params=SECURED)
def make(request: pytest.FixtureRequest) -> Callable[..., Transport]:
    return SECURED[request.param]


async def test_each_sees_who_the_other_is(pki: Path, make: Callable[..., Transport]) -> None:
    async with linked(make(pki, "client", "server")) as link:
        assert link.far.stream.peer.identity == Identity(Role.CLIENT, "client")
        # grpc.aio does not show its callers the certificate, only that the name was right.
        names = (Identity(Role.SERVER, HOST), Identity(Role.SERVER, "server"))
        assert link.near.stream.peer.identity in names
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


async def test_client_without_a_certificate(pki: Path) -> None:
    """It is refused in the handshake; the listener's own dialler cannot even be told to try."""
    ours = grpcio_with(pki, "client", "server")
    credentials = grpc.ssl_channel_credentials((pki / "ca" / "cert.pem").read_bytes())
    async with (
        ours.listener.serve(ours.address, never_attached),
        grpc.aio.secure_channel(str(ours.address), credentials) as channel,
    ):
        call = channel.stream_stream(METHODS[Role.CLIENT])()  # type: ignore[call-arg]
        with pytest.raises(grpc.aio.AioRpcError) as refusal:
            async with asyncio.timeout(PATIENCE):
                await call.wait_for_connection()
        assert refusal.value.code() is grpc.StatusCode.UNAVAILABLE


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
