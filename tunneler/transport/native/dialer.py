"""Links to servers: one carrier, and one call on it, for each."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from tunneler.addresses import HostPort, Role
from tunneler.errors import TransportError
from tunneler.http2.connection import Connection
from tunneler.protocol.frames import MAX_BATCH_ACCEPTED
from tunneler.sockets.reactor import Reactor
from tunneler.transport.native.carrier import Carrier, clock
from tunneler.transport.native.channel import Channel, PlainChannel, TlsChannel
from tunneler.transport.native.contexts import context_source
from tunneler.transport.native.link import Link
from tunneler.transport.seam import METHODS, Attach, Security

Found = tuple[int, int, int, str, Any]
"""One of getaddrinfo's answers; what the address looks like depends on the family."""


class NativeDialer:
    """See :class:`tunneler.transport.seam.Dialer`.

    The server's certificate must be issued for the name or address that is dialled, for
    servers, and name a server as its identity.

    Args:
        role: ours; decides which method is called.
        handshake_timeout: seconds for TCP, TLS and HTTP/2 together.
    """

    def __init__(self, role: Role, security: Security, reactor: Reactor, handshake_timeout: float) -> None:
        self._method = METHODS[role]
        self._security = security
        self._context = context_source(security, server_side=False) if security.material else None
        self._reactor = reactor
        self.handshake_timeout = handshake_timeout

    async def run_link(self, server: HostPort, attach: Attach) -> None:
        link = Link(server, self._method, self._security)
        try:
            try:
                async with asyncio.timeout(self.handshake_timeout):
                    channel = self._channel(server)
                    link.begin(self._carrier(await _connect(server), channel, link))
                    await link.made.wait()
            except TimeoutError:
                raise TransportError(
                    f"{server}: no answer within {self.handshake_timeout:g} s; is the server running there?"
                ) from None
            await link.carry(attach)
        finally:
            link.abort()

    def _carrier(self, sock: socket.socket, channel: Channel, link: Link) -> Carrier:
        http2 = Connection(client_side=True, message_limit=MAX_BATCH_ACCEPTED, now=clock())
        return Carrier(sock, self._reactor, channel, http2, link)

    def _channel(self, server: HostPort) -> Channel:
        if self._context is None:
            return PlainChannel()
        try:
            return TlsChannel(self._context(), server.host)
        except ValueError as error:  # UnicodeError, too: a label that is empty or too long
            raise TransportError(f"{server}: no certificate can be for such a name; is it right?") from error


async def _connect(server: HostPort) -> socket.socket:
    """Connect to the first of a server's addresses that answers.

    Raises:
        TransportError: the name is unknown, or none answers.
    """
    loop = asyncio.get_running_loop()
    failure: OSError | None = None
    for family, kind, protocol, _, address in await _addresses(server):
        sock = socket.socket(family, kind, protocol)
        try:
            sock.setblocking(False)
            await loop.sock_connect(sock, address)
        except OSError as error:
            sock.close()
            failure = error
        except BaseException:
            sock.close()
            raise
        else:
            return sock
    # The loop's own text says "Connect call failed", and not why.
    complaint = os.strerror(failure.errno or 0) if failure else "no address"
    raise TransportError(f"{server}: {complaint}; is the server running there?") from failure


async def _addresses(server: HostPort) -> Sequence[Found]:
    """Raises TransportError: the name is unknown."""
    with suppress(socket.gaierror, UnicodeError):  # an address needs no look-up, nor threads for one
        return socket.getaddrinfo(
            server.host, server.port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST
        )
    try:
        return await asyncio.get_running_loop().getaddrinfo(server.host, server.port, type=socket.SOCK_STREAM)
    except (socket.gaierror, UnicodeError) as error:
        reason = error.strerror if isinstance(error, socket.gaierror) else "not a host name"
        raise TransportError(f"{server}: {reason}; is the name right?") from error
