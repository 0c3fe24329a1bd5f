"""The dialling side of one carrier: the one call that it is made for."""

from __future__ import annotations

import asyncio
from typing import Final

from tunneler.addresses import HostPort, Identity, Role
from tunneler.errors import TransportError
from tunneler.http2.codes import Status
from tunneler.http2.events import CallEnded, Event, MessageReceived, RoomMade, StreamReset
from tunneler.transport.native.carrier import Carrier, State, clock
from tunneler.transport.native.identity import check_protocol, identity_of_peer
from tunneler.transport.native.stream import NativeStream
from tunneler.transport.seam import PLAINTEXT_NAME, Attach, Peer, Security

TICK_SECONDS: Final = 0.25
"""How often deadlines are looked at."""


class Link:
    """See :class:`tunneler.transport.native.owner.CarrierOwner`."""

    def __init__(self, server: HostPort, method: str, security: Security) -> None:
        self._server = server
        self._method = method
        self._security = security
        self._identity = Identity(Role.SERVER, PLAINTEXT_NAME)
        self._carrier: Carrier | None = None
        self._stream: NativeStream | None = None
        self._error: TransportError | None = None
        self._closed = asyncio.Event()
        self.made = asyncio.Event()
        """Set when a call can be made, or never will."""

    def begin(self, carrier: Carrier) -> None:
        self._carrier = carrier
        carrier.start()

    async def carry(self, attach: Attach) -> None:
        """Make the call and carry its batches until it ends.

        Raises:
            TransportError: it cannot be made; ``attach`` was not called.
        """
        carrier = self._carrier
        if carrier is None or carrier.state is not State.OPEN:
            raise TransportError(f"{self._server}: {_hint(self._error)}")
        number = carrier.http2.request(
            self._method, str(self._server), secure=self._security.material is not None
        )
        peer = Peer(self._identity, str(self._server))
        stream = NativeStream(carrier, number, peer, lambda _: carrier.shut(), dialled=True)
        self._stream = stream
        stream.attached(attach(stream))
        carrier.flush_later()
        while not self._closed.is_set():
            try:
                async with asyncio.timeout(TICK_SECONDS):
                    await self._closed.wait()
            except TimeoutError:
                now = clock()
                stream.tick(now)
                carrier.tick(now)

    def abort(self) -> None:
        """End at once whatever there still is; whoever cancelled us did not say goodbye."""
        if self._carrier is None or self._carrier.state is State.CLOSED:
            return
        if self._stream is not None and not self._stream.ended:
            self._stream.break_off()
        self._carrier.abort(TransportError("the stream was cut off"))

    # From the carrier.

    def established(self) -> None:
        carrier = self._carrier
        if carrier is None or self._security.material is None:
            return
        try:
            check_protocol(carrier.channel)
            self._identity = identity_of_peer(carrier.channel, self._security, Role.SERVER)
        except TransportError as error:
            carrier.abort(error)

    def settled(self) -> None:
        self.made.set()

    def event(self, event: Event) -> None:
        stream = self._stream
        if stream is None:
            return
        if type(event) is MessageReceived:  # first, and without a pattern: nearly all are
            stream.received(event.message)
            return
        match event:
            case RoomMade() if self._carrier is not None and not self._carrier.congested:
                stream.room_made()
            case CallEnded(_, outcome):
                stream.end(None if outcome.status is Status.OK else TransportError(str(outcome)))
            case StreamReset():
                stream.end(TransportError(str(event)))

    def room_made(self) -> None:
        if self._stream is not None and self._carrier is not None:
            self._stream.room_made()

    def failed(self, error: TransportError) -> None:
        if self._stream is not None:
            self._stream.end(error)

    def carrier_closed(self, error: TransportError | None) -> None:
        self._error = error or TransportError("the connection was closed")
        self.made.set()
        self._closed.set()
        if self._stream is not None:
            self._stream.end(self._error)


def _hint(error: TransportError | None) -> str:
    """Add what an operator can do about the commonest complaints."""
    text = str(error)
    if "certificate is not accepted" in text:
        return f"{text}; it is not of our tls.ca_file, or for another name or address"
    if "alert" in text or "cut off" in text:
        return f"{text}; the server ended the handshake: does it know the authority of our certificate?"
    return text
