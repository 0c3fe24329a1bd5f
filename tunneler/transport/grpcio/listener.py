"""Links from clients and proxies, over grpc.aio."""

from __future__ import annotations

import asyncio
import re
import socket
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import ExitStack, asynccontextmanager, suppress
from functools import partial
from typing import Any, NoReturn

import grpc

from tunneler.addresses import ANY_HOST, HostPort, Identity, Role
from tunneler.errors import PkiError, TransportError
from tunneler.transport.grpcio.adoption import AdoptedSocket
from tunneler.transport.grpcio.credentials import server_credentials
from tunneler.transport.grpcio.diagnostics import core_messages
from tunneler.transport.grpcio.settings import server_options
from tunneler.transport.grpcio.stream import GrpcStream
from tunneler.transport.seam import (
    METHODS,
    NO_CALLS,
    PLAINTEXT_NAME,
    Attach,
    CallRefused,
    Listening,
    Peer,
    Released,
    Security,
    UnaryHandler,
)

CLOSING_GRACE = 1.0
"""Seconds that streams may take to end when the listener closes."""

Context = Any
"""grpc.aio's servicer context, which its stubs do not describe for streams of bytes."""

_BIND_FAILURE = re.compile(r"\bbind: (.+?) \(\d+\)")
"""In the core's account of a port that it could not add."""

STATUS_OF_CODE = {status.value[0]: status for status in grpc.StatusCode}


class GrpcListener:
    """See :class:`tunneler.transport.seam.Listener`.

    Args:
        report: told, as an event and its fields, of a peer that never became a link.
    """

    def __init__(self, security: Security, report: Callable[..., None]) -> None:
        self._security = security
        self._report = report
        self._adopted: list[AdoptedSocket] = []
        self._carried = 0
        self._none_carried = asyncio.Event()

    @asynccontextmanager
    async def serve(
        self, listening: Listening, attach: Attach, unary: Mapping[str, UnaryHandler] = NO_CALLS
    ) -> AsyncIterator[None]:
        with ExitStack() as adopting:
            if isinstance(listening, HostPort):
                targets = [_target(listening)]
            else:
                self._adopted = self._adopt(listening, adopting)
                targets = [each.target for each in self._adopted]
            server = grpc.aio.server(options=server_options(beside=bool(self._adopted)))
            server.add_generic_rpc_handlers((_Methods(self, attach, unary),))
            self._bind(server, targets)
            async with self._serving(server):
                yield

    def _adopt(self, sockets: Sequence[socket.socket], adopting: ExitStack) -> list[AdoptedSocket]:
        for sock in sockets:
            adopting.callback(sock.close)
        adopted = [AdoptedSocket(sock, self._report) for sock in sockets]
        for each in adopted:
            adopting.callback(each.close)
        return adopted

    async def take_over(self, released: Released) -> None:
        if self._adopted:
            unwatched = await released()
            for each in self._adopted:
                await each.take_over(unwatched=unwatched)

    @asynccontextmanager
    async def _serving(self, server: grpc.aio.Server) -> AsyncIterator[None]:
        with core_messages(lambda event, message: self._report(event, reason=message)):
            # gRPC crashes when it is stopped in its start, and complains when that is cancelled.
            starting = asyncio.ensure_future(server.start())  # noqa: TID251 - awaited below in any case
            try:
                await asyncio.shield(starting)
                yield
            finally:
                await asyncio.wait((starting,))
                await server.stop(CLOSING_GRACE)
                await self._all_ended()

    async def _all_ended(self) -> None:
        """Wait until every stream's receiver knows; gRPC cancels what remains, and does not."""
        with suppress(TimeoutError):
            async with asyncio.timeout(CLOSING_GRACE):
                while self._carried:
                    self._none_carried.clear()
                    await self._none_carried.wait()

    def _bind(self, server: grpc.aio.Server, targets: Sequence[str]) -> None:
        said: list[str] = []
        target = ""
        try:
            # Why it failed is in what the core says, and nowhere else.
            with core_messages(lambda _, message: said.append(message)):
                for target in targets:
                    self._add_port(server, target)
        except RuntimeError as error:
            reason = next(filter(None, map(_BIND_FAILURE.search, said)), None)
            raise TransportError(
                f"cannot listen on {target}: {reason[1]}; is another program using it?"
                if reason
                else f"cannot listen on {target}: is the address one of this machine's?"
            ) from error

    def _add_port(self, server: grpc.aio.Server, target: str) -> None:
        material = self._security.material
        if material is None:
            server.add_insecure_port(target)
        else:
            server.add_secure_port(target, server_credentials(material))

    async def carry(self, role: Role, context: Context, attach: Attach) -> None:
        """Run one link, from its first byte to its last."""
        peer = await self._admit(role, context)

        async def finish() -> None:
            # A server ends its half by returning from the handler.
            stream.end_now()

        stream = GrpcStream(peer, context.read, context.write, finish)
        self._carried += 1
        try:
            await stream.carry(attach(stream))
        finally:
            self._carried -= 1
            self._none_carried.set()

    async def answer(self, handler: UnaryHandler, request: bytes, context: Context) -> bytes:
        """Run one unary call; whoever has a certificate of ours may make it."""
        await self._identify(context)
        try:
            return handler(request)
        except CallRefused as refusal:
            await context.abort(STATUS_OF_CODE[refusal.status])
            raise AssertionError("abort returns never") from refusal

    async def _admit(self, role: Role, context: Context) -> Peer:
        """Take the peer's identity from its certificate; end the call if its role is another."""
        identity = await self._identify(context)
        if identity is None:
            return Peer(Identity(role, PLAINTEXT_NAME), context.peer())
        if identity.role is not role:
            await self._deny(context, f"{identity.uri} may not call {METHODS[role]}")
        return Peer(identity, context.peer())

    async def _identify(self, context: Context) -> Identity | None:
        """Whose certificate it is; None on a plaintext link; end the call if it names no party of ours."""
        if self._security.material is None:
            return None
        try:
            return self._security.identify(context.auth_context()["x509_pem_cert"][0])
        except PkiError as error:
            await self._deny(context, str(error))

    async def _deny(self, context: Context, reason: str) -> NoReturn:
        self._report("peer_denied", address=context.peer(), reason=reason)
        await context.abort(grpc.StatusCode.PERMISSION_DENIED, "the certificate does not allow this method")
        raise AssertionError("abort returns never")


def _target(address: HostPort) -> str:
    return str(HostPort(address.host if address.host != ANY_HOST else "::", address.port))


class _Methods(grpc.GenericRpcHandler):  # type: ignore[type-arg]  # not generic at run time
    """The two methods of links, and the unary ones, with messages as plain bytes."""

    def __init__(self, listener: GrpcListener, attach: Attach, unary: Mapping[str, UnaryHandler]) -> None:
        self._handlers: dict[str, grpc.RpcMethodHandler[Any, Any]] = {
            method: grpc.stream_stream_rpc_method_handler(_link_handler(listener, role, attach))
            for role, method in METHODS.items()
        }
        for method, handler in unary.items():
            answer = partial(listener.answer, handler)
            self._handlers[method] = grpc.unary_unary_rpc_method_handler(answer)

    def service(
        self, handler_call_details: grpc.HandlerCallDetails
    ) -> grpc.RpcMethodHandler[Any, Any] | None:
        return self._handlers.get(handler_call_details.method)


def _link_handler(listener: GrpcListener, role: Role, attach: Attach) -> Any:
    async def handle(_: object, context: Context) -> None:
        await listener.carry(role, context, attach)

    return handle
