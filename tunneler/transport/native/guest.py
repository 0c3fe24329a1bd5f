"""The listening side of one carrier: a peer, and the calls that it makes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final, NamedTuple

from tunneler.addresses import Identity, Role
from tunneler.errors import TransportError
from tunneler.http2.codes import Status
from tunneler.http2.events import (
    Event,
    HalfClosed,
    MessageReceived,
    RequestReceived,
    RoomMade,
    StreamReset,
)
from tunneler.http2.grpc import Request
from tunneler.transport.native.carrier import Carrier, clock
from tunneler.transport.native.identity import check_protocol, identity_of_peer
from tunneler.transport.native.stream import NativeStream
from tunneler.transport.seam import (
    METHODS,
    PLAINTEXT_NAME,
    Attach,
    CallRefused,
    Peer,
    Security,
    UnaryHandler,
)

FIRST_CALL_SECONDS: Final = 5.0
"""For a peer that is through with its handshake to make a call."""

IDLE_SECONDS: Final = 300.0
"""A peer without a call is sent away after this."""

MAX_LINKS: Final = 2
"""Links at once of one guest. A party has one, and for a moment the one that replaces it; each may
make us hold a message that is not complete."""

MAX_UNARY_MESSAGE: Final = 64 * 1024

UNARY_SECONDS: Final = 10.0
"""For a unary call's request to come."""

_ROLE_OF_METHOD: Final = {method: role for role, method in METHODS.items()}


class House(NamedTuple):
    """What a listener offers to every guest.

    Attributes:
        report: told, as an event and its fields, of a peer that is turned away.
        admitted: called when a guest has shown who it is.
        left: called when a guest is gone.
    """

    security: Security
    attach: Attach
    unary: Mapping[str, UnaryHandler]
    report: Callable[..., None]
    admitted: Callable[[Guest], None]
    left: Callable[[Guest], None]


class Guest:
    """See :class:`tunneler.transport.native.owner.CarrierOwner`.

    Args:
        carrier: made for this guest; see :meth:`begin`.
        address: the peer's, for people.
    """

    def __init__(self, house: House, address: str) -> None:
        self._house = house
        self._address = address
        self._identity: Identity | None = None
        self._links: dict[int, NativeStream] = {}
        self._unary: dict[int, UnaryCall] = {}
        self._deadlines: dict[int, float] = {}
        self._admitted = False
        self._denied = False
        self._leaving = False
        self._idle_since = clock()
        self._patience = FIRST_CALL_SECONDS
        self.carrier: Carrier

    def begin(self, carrier: Carrier) -> None:
        self.carrier = carrier
        carrier.start()

    def tick(self, now: float) -> None:
        """Let time pass."""
        for number in [number for number, deadline in self._deadlines.items() if deadline <= now]:
            self._end_call(number, Status.DEADLINE_EXCEEDED)
        for stream in list(self._links.values()):
            stream.tick(now)
        if not self._admitted or self.carrier.http2.streams:
            self._idle_since = now
        elif now - self._idle_since >= self._patience:
            self.carrier.shut()
        self.carrier.tick(now)

    def leave(self) -> None:
        """The house closes: what is open is cut off; what is saying goodbye already may finish."""
        self._leaving = True
        self.carrier.http2.go_away()
        for number, link in list(self._links.items()):
            if not link.closing:
                self._end_call(number, Status.UNAVAILABLE)
        if not self._links:
            self.carrier.shut()

    # From the carrier.

    def established(self) -> None:
        if self._house.security.material is not None:
            try:
                check_protocol(self.carrier.channel)
            except TransportError as error:
                self.carrier.abort(error)
                return
            try:
                self._identity = identity_of_peer(self.carrier.channel, self._house.security)
            except TransportError as error:
                # Each call is told so: stock gRPC takes the end of a connection for a reason to try again.
                self._denied = True
                self._house.report("peer_denied", address=self._address, reason=error)
        self._admitted = True
        self._idle_since = clock()
        self._house.admitted(self)

    def settled(self) -> None:
        """Nothing to do: the peer is who makes calls."""

    def event(self, event: Event) -> None:
        if type(event) is MessageReceived:  # first, and without a pattern: nearly all are
            self._message_received(event.stream, event.message)
            return
        match event:
            case RoomMade(number) if number in self._links and not self.carrier.congested:
                self._links[number].room_made()
            case RequestReceived(number, request):
                self._begin_call(number, request)
            case HalfClosed(number):
                self._half_closed(number)
            case StreamReset():
                self._forget(event.stream, TransportError(str(event)))

    def room_made(self) -> None:
        for link in list(self._links.values()):
            if not self.carrier.http2.waits(link.number):
                link.room_made()

    def failed(self, error: TransportError) -> None:
        for number in list(self._links):
            self._forget(number, error)

    def carrier_closed(self, error: TransportError | None) -> None:
        if error is not None and not self._admitted:
            self._house.report("handshake_failed", address=self._address, reason=error)
        for number in list(self._links):
            self._forget(number, error or TransportError("the peer closed the connection"))
        self._house.left(self)

    # Calls.

    def _message_received(self, number: int, message: bytes) -> None:
        if (link := self._links.get(number)) is not None:
            link.received(message)
        elif (call := self._unary.get(number)) is not None and call.request is not None:
            self._end_call(number, Status.INTERNAL)  # one is all that a unary call has
        elif call is not None:
            call.request = message

    def _begin_call(self, number: int, request: Request) -> None:
        self._patience = IDLE_SECONDS
        if self._denied:
            self._end_call(number, Status.PERMISSION_DENIED)
            return
        role = _ROLE_OF_METHOD.get(request.path)
        handler = self._house.unary.get(request.path)
        if role is not None:
            self._begin_link(number, role)
        elif handler is not None:
            self.carrier.http2.limit_messages(number, MAX_UNARY_MESSAGE)
            self._unary[number] = UnaryCall(handler)
            self._deadlines[number] = clock() + UNARY_SECONDS
        else:
            self._end_call(number, Status.UNIMPLEMENTED)
            return
        if request.timeout is not None:
            deadline = clock() + request.timeout
            self._deadlines[number] = min(deadline, self._deadlines.get(number, deadline))

    def _begin_link(self, number: int, role: Role) -> None:
        identity = self._identity or Identity(role, PLAINTEXT_NAME)
        if identity.role is not role:
            reason = f"{identity.uri} may not call {METHODS[role]}"
            self._house.report("peer_denied", address=self._address, reason=reason)
            self._end_call(number, Status.PERMISSION_DENIED)
            return
        if len(self._links) >= MAX_LINKS:
            self._end_call(number, Status.RESOURCE_EXHAUSTED)
            return
        self.carrier.http2.respond(number)
        peer = Peer(identity, self._address)
        stream = NativeStream(self.carrier, number, peer, self._link_ended, dialled=False)
        self._links[number] = stream
        stream.attached(self._house.attach(stream))
        self.carrier.flush_later()

    def _half_closed(self, number: int) -> None:
        call = self._unary.pop(number, None)
        if call is not None:
            self._answer(number, call)
        elif number in self._links:
            self._links[number].peer_ended()

    def _answer(self, number: int, call: UnaryCall) -> None:
        http2 = self.carrier.http2
        if call.request is None:
            self._end_call(number, Status.INTERNAL)
            return
        try:
            answer = call.handler(call.request)
        except CallRefused as refusal:
            self._end_call(number, refusal.status)
            return
        http2.respond(number)
        http2.send_message(number, answer)
        self._end_call(number, Status.OK)

    def _end_call(self, number: int, status: Status) -> None:
        self.carrier.http2.end(number, status)
        self.carrier.flush_later()
        self._forget(number, TransportError(f"the call was ended: {status.name}"))

    def _forget(self, number: int, error: TransportError) -> None:
        self._unary.pop(number, None)
        self._deadlines.pop(number, None)
        if number in self._links:
            self._links[number].end(error)

    def _link_ended(self, stream: NativeStream) -> None:
        self._links.pop(stream.number, None)
        self._deadlines.pop(stream.number, None)
        if self._leaving and not self._links:
            self.carrier.shut()


class UnaryCall:
    """A call with one request, which is coming in."""

    __slots__ = ("handler", "request")

    def __init__(self, handler: UnaryHandler) -> None:
        self.handler = handler
        self.request: bytes | None = None
