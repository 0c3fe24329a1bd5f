"""Links to servers, over grpc.aio."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc

from tunneler.addresses import HostPort, Identity, Role
from tunneler.errors import TransportError
from tunneler.transport.grpcio.credentials import channel_credentials
from tunneler.transport.grpcio.settings import OPTIONS
from tunneler.transport.grpcio.stream import GrpcStream, describe, raise_if_cancelled
from tunneler.transport.seam import METHODS, PLAINTEXT_NAME, Attach, Peer, Security


class GrpcDialer:
    """See :class:`tunneler.transport.seam.Dialer`.

    The server's certificate must be issued for the name or address that is dialled; gRPC
    checks that, and that it is a certificate for servers. grpc.aio does not show it to its
    callers, so the identity of the peer is the name that was checked.

    Args:
        role: ours; decides which method is called.
        handshake_timeout: seconds for TCP, TLS and HTTP/2 together.
    """

    def __init__(self, role: Role, security: Security, handshake_timeout: float) -> None:
        self._method = METHODS[role]
        self._material = security.material
        self.handshake_timeout = handshake_timeout

    async def run_link(self, server: HostPort, attach: Attach) -> None:
        async with self._channel(server) as channel:
            call = channel.stream_stream(self._method)()  # type: ignore[call-arg]  # None: plain bytes
            name = server.host.replace(":", "_") if self._material is not None else PLAINTEXT_NAME
            peer = Peer(Identity(Role.SERVER, name), str(server))
            stream = GrpcStream(peer, call.read, call.write, call.done_writing)
            try:
                await self._connect(call, server)
                await stream.carry(attach(stream))
            finally:
                call.cancel()

    async def _connect(self, call: Any, server: HostPort) -> None:
        """Wait for the connection, but not for ever."""
        try:
            async with asyncio.timeout(self.handshake_timeout) as deadline:
                await call.wait_for_connection()
            if deadline.expired():
                raise TimeoutError
        except TimeoutError:
            raise TransportError(
                f"{server}: no answer within {self.handshake_timeout:g} s; is the server running there?"
            ) from None
        except grpc.aio.AioRpcError as error:
            raise TransportError(f"{server}: {_hint(describe(error))}") from error
        # grpc.aio waits for a task of its own, which swallows the cancellation that reaches it.
        raise_if_cancelled()

    def _channel(self, server: HostPort) -> grpc.aio.Channel:
        if self._material is None:
            return grpc.aio.insecure_channel(str(server), options=OPTIONS)
        return grpc.aio.secure_channel(str(server), channel_credentials(self._material()), options=OPTIONS)


def _hint(message: str) -> str:
    """Add what an operator can do about gRPC's commonest complaints."""
    if "CERTIFICATE_VERIFY_FAILED" in message or "verification check failed" in message:
        return (
            f"{message}; the server's certificate is not of our tls.ca_file, or for another name or address"
        )
    if "Socket closed" in message:
        return f"{message}; the server ended the handshake: does it know the authority of our certificate?"
    return message
