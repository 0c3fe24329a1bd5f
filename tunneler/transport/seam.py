"""The seam between a link and what carries it.

A transport moves batches (opaque bytes) both ways and knows nothing of frames; what is above
it knows nothing of gRPC, HTTP/2 or TLS. Everything here happens on one thread, in callbacks
that must not block:

    stream.send(batch)     hand over one batch; if the stream is then congested, room_made() follows
    batch_received(batch)  one batch of the peer
    room_made()            the batch has left; the next may be handed over
    stream_closed(error)   the last callback; None when the stream ended in good order
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from types import MappingProxyType
from typing import Final, NamedTuple, Protocol

from tunneler.addresses import HostPort, Identity, Role
from tunneler.http2.codes import Status


class Peer(NamedTuple):
    """Who is at the other end, and from where; the identity comes from the certificate."""

    identity: Identity
    address: str


class BatchStream(Protocol):
    """What a link needs of a transport."""

    @property
    def peer(self) -> Peer: ...

    @property
    def congested(self) -> bool:
        """Whether a batch that was handed over is still here."""
        ...

    def send(self, batch: bytes) -> None:
        """Hand over a batch. The stream may be congested afterwards, until ``room_made``.

        Raises:
            RuntimeError: the stream is congested or closed.
        """
        ...

    def close(self, last: bytes = b"") -> None:
        """End the stream after the batch that was handed over and, if there is one, a last batch.

        It ends within a short time, even if the peer takes neither. ``stream_closed`` follows.
        """
        ...


class BatchReceiver(Protocol):
    """What a transport needs of a link."""

    def batch_received(self, batch: bytes) -> None: ...

    def room_made(self) -> None: ...

    def stream_closed(self, error: Exception | None) -> None: ...


Attach = Callable[[BatchStream], BatchReceiver]
"""Called once for each new stream; answers with what is to receive its batches."""


class TlsMaterial(Protocol):
    """PEM: our certificate (with intermediates), its key, and the authority that peers must have."""

    @property
    def certificate_chain(self) -> bytes: ...

    @property
    def private_key(self) -> bytes: ...

    @property
    def certificate_authority(self) -> bytes: ...


class Security(NamedTuple):
    """How links are secured.

    Attributes:
        material: TLS, mutual; asked for each new link, so that a renewed certificate is used without a
            restart. It is the same object as long as nothing is renewed. None instead of a function
            means plaintext, which configuration allows on loopback only.
        identify: reads the identity out of a peer's certificate (PEM); raises PkiError.
        minimum_version: of TLS, that a link may use.
    """

    material: Callable[[], TlsMaterial] | None
    identify: Callable[[bytes], Identity]
    minimum_version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3


class Dialer(Protocol):
    """Makes links to servers.

    Attributes:
        handshake_timeout: seconds for a link to be made; may be changed for those to come.
    """

    handshake_timeout: float

    async def run_link(self, server: HostPort, attach: Attach) -> None:
        """Dial, call ``attach``, and carry batches until the stream ends.

        Raises:
            TransportError: no link could be made; ``attach`` was not called.
        """
        ...


UnaryHandler = Callable[[bytes], bytes]
"""Answers one request with one response, both as serialised messages; raises CallRefused."""

NO_CALLS: Final[Mapping[str, UnaryHandler]] = MappingProxyType({})


class CallRefused(Exception):
    """Raised by a :data:`UnaryHandler` instead of an answer.

    Args:
        status: what the caller is told; not OK.
    """

    def __init__(self, status: Status) -> None:
        super().__init__(status)
        self.status = status


Listening = HostPort | Sequence[socket.socket]
"""An address to listen on, or sockets that do so already; the listener owns them, and closes them."""


Released = Callable[[], Awaitable[bool]]
"""Waits until the service manager no longer looks at the sockets that it passed; says whether that is so."""


class Listener(Protocol):
    """Takes links from clients and proxies."""

    def serve(
        self, listening: Listening, attach: Attach, unary: Mapping[str, UnaryHandler] = NO_CALLS
    ) -> AbstractAsyncContextManager[None]:
        """Accept links while the context is open; leaving it ends those that remain.

        Args:
            attach: called for each link.
            unary: further methods (such as ``/grpc.health.v1.Health/Check``), for whoever has a
                certificate of ours, whatever the role.

        Raises:
            TransportError: the address cannot be listened on.
            ConfigError: this transport cannot adopt such sockets.
        """
        ...

    async def take_over(self, released: Released) -> None:
        """Serve what came to adopted sockets before we did; call it once, while the context is open."""
        ...


METHODS = {Role.CLIENT: "/tunneler.v1.Tunnel/ClientStream", Role.PROXY: "/tunneler.v1.Tunnel/ProxyStream"}
"""The method that each role calls; the certificate must say the same role."""

PLAINTEXT_NAME = "insecure"
"""Name of every identity on a plaintext link, where nobody is certified."""
