"""Links from clients and proxies: one carrier for each peer that connects."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import ExitStack, asynccontextmanager
from typing import Final

from tunneler.addresses import ANY_HOST, HostPort
from tunneler.errors import TransportError
from tunneler.http2.connection import Connection
from tunneler.protocol.frames import MAX_BATCH_ACCEPTED
from tunneler.sockets.acceptor import Acceptor, has_ipv6, listen
from tunneler.sockets.reactor import Reactor
from tunneler.transport.native.carrier import LINGER_SECONDS, Carrier, clock
from tunneler.transport.native.channel import PlainChannel, TlsChannel
from tunneler.transport.native.contexts import context_source
from tunneler.transport.native.guest import Guest, House
from tunneler.transport.native.link import TICK_SECONDS
from tunneler.transport.native.stream import FAREWELL_SECONDS
from tunneler.transport.seam import NO_CALLS, Attach, Listening, Released, Security, UnaryHandler

MAX_STRANGERS: Final = 512
"""Peers at once that have not shown who they are. For one more the oldest has to go: an honest
handshake takes milliseconds, so it is the silent ones who lose (as in a queue of SYNs)."""


class NativeListener:
    """See :class:`tunneler.transport.seam.Listener`.

    Args:
        max_guests: how many peers at once, as things are; further ones are not let in.
        report: told, as an event and its fields, of a peer that never became a link.
    """

    _timer: asyncio.TimerHandle

    def __init__(
        self, security: Security, reactor: Reactor, max_guests: Callable[[], int], report: Callable[..., None]
    ) -> None:
        self._security = security
        self._context = context_source(security, server_side=True) if security.material else None
        self._reactor = reactor
        self._max_guests = max_guests
        self._report = report
        self._guests: set[Guest] = set()
        self._strangers: dict[Guest, None] = {}
        self._none_left = asyncio.Event()

    @asynccontextmanager
    async def serve(
        self, listening: Listening, attach: Attach, unary: Mapping[str, UnaryHandler] = NO_CALLS
    ) -> AsyncIterator[None]:
        if self._context is not None:
            self._context()  # unusable material is found now, not by the first peer
        house = House(self._security, attach, unary, self._report, self._admitted, self._left)
        acceptors = [
            Acceptor(sock, self._reactor, lambda sock, peer: self._accepted(sock, peer, house), self._report)
            for sock in _sockets(listening)
        ]
        self._tick(acceptors)
        try:
            yield
        finally:
            for acceptor in acceptors:
                acceptor.close()
            try:
                await self._see_off()
            finally:
                self._timer.cancel()

    async def take_over(self, released: Released) -> None:
        """We accept from the adopted sockets themselves: there is nothing to take."""

    def _accepted(self, sock: socket.socket, peer: tuple[str, int], house: House) -> None:
        address = str(HostPort(peer[0].removeprefix("::ffff:"), peer[1]))
        if len(self._guests) - len(self._strangers) >= self._max_guests():
            self._report("peer_turned_away", address=address, reason="limits.max_links reached")
            sock.close()
            return
        if len(self._strangers) >= MAX_STRANGERS:
            oldest = next(iter(self._strangers))
            oldest.carrier.abort(TransportError("too many handshakes at once"))
        try:
            channel = TlsChannel(self._context(), None) if self._context else PlainChannel()
        except TransportError as error:  # what was renewed cannot be used
            self._report("handshake_failed", address=address, reason=error)
            sock.close()
            return
        sock.setblocking(False)
        guest = Guest(house, address)
        self._guests.add(guest)
        self._strangers[guest] = None
        http2 = Connection(client_side=False, message_limit=MAX_BATCH_ACCEPTED, now=clock())
        guest.begin(Carrier(sock, self._reactor, channel, http2, guest))

    def _tick(self, acceptors: list[Acceptor]) -> None:
        """Let time pass, until the timer is cancelled."""
        self._timer = asyncio.get_running_loop().call_later(TICK_SECONDS, self._tick, acceptors)
        now = clock()
        for guest in list(self._guests):
            guest.tick(now)
        for acceptor in acceptors:
            acceptor.tick()

    def _admitted(self, guest: Guest) -> None:
        self._strangers.pop(guest, None)

    def _left(self, guest: Guest) -> None:
        self._guests.discard(guest)
        self._strangers.pop(guest, None)
        if not self._guests:
            self._none_left.set()

    async def _see_off(self) -> None:
        """End what is open, and give every peer the time to read it."""
        for guest in list(self._guests):
            guest.leave()
        try:
            async with asyncio.timeout(FAREWELL_SECONDS + LINGER_SECONDS):
                while self._guests:
                    self._none_left.clear()
                    await self._none_left.wait()
        except TimeoutError:
            pass
        finally:
            for guest in list(self._guests):
                guest.carrier.abort(TransportError("the listener closed"))


def _sockets(listening: Listening) -> list[socket.socket]:
    if not isinstance(listening, HostPort):
        return list(listening)
    if listening.host != ANY_HOST:
        return [listen(listening.host, listening.port)]
    with ExitStack() as opened:
        hosts = ("0.0.0.0", "::") if has_ipv6() else ("0.0.0.0",)
        sockets = [opened.enter_context(listen(host, listening.port)) for host in hosts]
        opened.pop_all()
        return sockets
