"""Peers that are not ours: gRPC links whose every batch is the test's own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import grpc

from tests.loopback.trio import HOST
from tunneler.addresses import HostPort, Role
from tunneler.errors import Code
from tunneler.pki.identity import identity_of_certificate
from tunneler.protocol.frames import PROTOCOL_VERSION, Bye, Frame, Hello
from tunneler.transport.grpcio.listener import GrpcListener
from tunneler.transport.seam import METHODS, BatchReceiver, BatchStream, Security
from tunneler.wire.codec import decode, encode

HELLO = Hello(PROTOCOL_VERSION, "raw")
PATIENCE = 10.0


class RawLink:
    """A link to a server, without a driver, a heartbeat or manners."""

    def __init__(self, call: grpc.aio.StreamStreamCall[bytes, bytes]) -> None:
        self._call = call
        self.frames: list[Frame] = []

    async def send(self, *frames: Frame) -> None:
        await self.send_bytes(encode(frames))

    async def send_bytes(self, batch: bytes) -> None:
        await self._call.write(batch)

    async def until(self, kind: type[Frame]) -> Frame:
        """Read up to the first frame of a kind."""
        async with asyncio.timeout(PATIENCE):
            while True:
                for frame in self.frames:
                    if isinstance(frame, kind):
                        self.frames.remove(frame)
                        return frame
                batch = await self._call.read()
                assert isinstance(batch, bytes), f"the link ended before a {kind.__name__}"
                self.frames += decode(batch)

    async def ended(self) -> Code | None:
        """Read to the server's BYE, and return what it said; or to the end, if it said none."""
        async with asyncio.timeout(PATIENCE):
            try:
                while isinstance(batch := await self._call.read(), bytes):
                    for frame in decode(batch):
                        if isinstance(frame, Bye):
                            return frame.code
            except grpc.aio.AioRpcError:
                pass
        return None


@asynccontextmanager
async def raw_link(
    pki: Path, port: int, role: Role = Role.CLIENT, *, hello: bool = True, method: Role | None = None
) -> AsyncIterator[RawLink]:
    """A gRPC call to a server, with the certificate of a role."""
    credentials = grpc.ssl_channel_credentials(
        (pki / "ca" / "cert.pem").read_bytes(),
        (pki / role / "key.pem").read_bytes(),
        (pki / role / "cert.pem").read_bytes(),
    )
    options = (("grpc.max_send_message_length", -1), ("grpc.use_local_subchannel_pool", 1))
    async with grpc.aio.secure_channel(f"{HOST}:{port}", credentials, options=options) as channel:
        call = channel.stream_stream(METHODS[method or role])()  # type: ignore[call-arg]
        try:
            link = RawLink(call)
            if hello:
                await link.send(HELLO)
                await link.until(Hello)
            yield link
        finally:
            call.cancel()


class RawServer:
    """Accepts links, says what the test says, and keeps what it hears."""

    def __init__(self) -> None:
        self.links: list[RawServerLink] = []

    def attach(self, stream: BatchStream) -> BatchReceiver:
        self.links.append(RawServerLink(stream))
        return self.links[-1]


class RawServerLink:
    """See :class:`tunneler.transport.seam.BatchReceiver`."""

    def __init__(self, stream: BatchStream) -> None:
        self.stream = stream
        self.frames: list[Frame] = []
        self.closed = False
        self.send(HELLO)

    def send(self, *frames: Frame) -> None:
        self.stream.send(encode(frames))

    def batch_received(self, batch: bytes) -> None:
        self.frames += decode(batch)

    def room_made(self) -> None:
        pass

    def stream_closed(self, error: Exception | None) -> None:
        self.closed = True


class Material:
    """See :class:`tunneler.transport.seam.TlsMaterial`; read from files, without any check."""

    def __init__(self, directory: Path, holder: str, authority: Path | None = None) -> None:
        self.certificate_chain = (directory / holder / "cert.pem").read_bytes()
        self.private_key = (directory / holder / "key.pem").read_bytes()
        self.certificate_authority = ((authority or directory) / "ca" / "cert.pem").read_bytes()

    def __call__(self) -> Material:
        """It is its own source: never renewed."""
        return self


@asynccontextmanager
async def raw_server(pki: Path, port: int) -> AsyncIterator[RawServer]:
    server = RawServer()
    security = Security(Material(pki, "server"), identity_of_certificate)
    async with GrpcListener(security, lambda *_, **__: None).serve(HostPort(HOST, port), server.attach):
        yield server
