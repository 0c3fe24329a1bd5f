"""What a server says of its health: grpc.health.v1, called with messages of plain bytes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import grpc
import pytest

from tests.loopback.applications import Target
from tests.loopback.running import until
from tests.loopback.trio import HOST, stage
from tunneler.addresses import Identity
from tunneler.errors import PkiError
from tunneler.pki.identity import identity_of_certificate
from tunneler.wire.health import CHECK, ServingStatus, response

ASKING = {b"": "the server", b"\x0a\x12tunneler.v1.Tunnel": "its service"}
PATIENCE = 10.0


@pytest.fixture(params=["native", "grpcio"])
def transport(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@asynccontextmanager
async def channel(pki: Path | None, port: int, holder: str = "client") -> AsyncIterator[grpc.aio.Channel]:
    options = (("grpc.use_local_subchannel_pool", 1),)
    if pki is None:
        opened = grpc.aio.insecure_channel(f"{HOST}:{port}", options=options)
    else:
        credentials = grpc.ssl_channel_credentials(
            (pki / "ca" / "cert.pem").read_bytes(),
            (pki / holder / "key.pem").read_bytes(),
            (pki / holder / "cert.pem").read_bytes(),
        )
        opened = grpc.aio.secure_channel(f"{HOST}:{port}", credentials, options=options)
    async with opened:
        yield opened


async def check(
    opened: grpc.aio.Channel, request: bytes = b"", method: str = CHECK, *, wait: bool = True
) -> bytes:
    async with asyncio.timeout(PATIENCE):
        call = opened.unary_unary(method)(request, wait_for_ready=wait)  # type: ignore[call-arg]
        answer = await call
    assert isinstance(answer, bytes)
    return answer


async def refusal(opened: grpc.aio.Channel, request: bytes, method: str = CHECK) -> grpc.StatusCode:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await check(opened, request, method, wait=False)
    return caught.value.code()


@pytest.mark.parametrize("request_", ASKING, ids=ASKING.values())
@pytest.mark.parametrize("holder", ["client", "proxy"])
async def test_whoever_has_a_certificate_may_ask(
    pki: Path, holder: str, request_: bytes, transport: str
) -> None:
    async with stage(pki) as trio:
        trio.start_server(transport=transport)
        async with channel(pki, trio.server_port, holder) as opened:
            assert await check(opened, request_) == response(ServingStatus.SERVING)


async def test_on_a_plaintext_port(transport: str) -> None:
    async with stage(None) as trio:
        trio.start_server(transport=transport)
        async with channel(None, trio.server_port) as opened:
            assert await check(opened) == response(ServingStatus.SERVING)


async def test_what_is_refused(pki: Path, transport: str) -> None:
    async with stage(pki) as trio:
        trio.start_server(transport=transport)
        async with channel(pki, trio.server_port) as opened:
            await check(opened)
            assert await refusal(opened, b"\x0a\x05other") is grpc.StatusCode.NOT_FOUND
            assert await refusal(opened, b"\x0a\x05") is grpc.StatusCode.INVALID_ARGUMENT
            watch = "/grpc.health.v1.Health/Watch"
            assert await refusal(opened, b"", watch) is grpc.StatusCode.UNIMPLEMENTED


async def test_a_certificate_that_names_nobody(pki: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    named = True

    def identify(pem: bytes) -> Identity:
        if named:
            return identity_of_certificate(pem)
        raise PkiError("the certificate names no party of ours")

    monkeypatch.setattr("tunneler.roles.setup.identity_of_certificate", identify)
    async with stage(pki) as trio:
        trio.start_server(transport="grpcio")
        async with channel(pki, trio.server_port) as opened:
            await check(opened)
        named = False
        async with channel(pki, trio.server_port) as opened:
            assert await refusal(opened, b"") is grpc.StatusCode.PERMISSION_DENIED


async def test_not_serving_while_it_drains(pki: Path, transport: str) -> None:
    """Links and calls go on beside each other, until the last connection has ended."""
    async with stage(pki, drain=10) as trio, channel(pki, trio.server_port) as opened:
        trio.start_server(transport=transport)
        trio.start_proxy()
        trio.start_client()
        await trio.ready()
        with Target() as target:
            application = await trio.connect(target.port)
            await until(lambda: trio.server.relay.connections)
            assert await check(opened) == response(ServingStatus.SERVING)
            trio.servers[-1].stop.set()
            await until(lambda: trio.server.relay.draining)
            assert await check(opened) == response(ServingStatus.NOT_SERVING)
            application.close()
