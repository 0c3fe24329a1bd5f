"""A client's or a proxy's end of one link: its connections, each with its local socket."""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any, Protocol

from tunneler import addresses
from tunneler.engine.driver import LinkDriver, clock
from tunneler.engine.splice import Splice
from tunneler.errors import Code, ConnectionFault
from tunneler.protocol.endpoint import Endpoint
from tunneler.protocol.events import (
    ConnectionClosed,
    ConnectionReset,
    DataReceived,
    EndpointEvent,
    FinReceived,
    LinkEvent,
    Opened,
    OpenRequested,
    RoomMade,
)
from tunneler.protocol.frames import MAX_BATCH, MAX_PAYLOAD, ConnectionFrame, Open, Party
from tunneler.protocol.window import Budget
from tunneler.sockets.calls import Failure
from tunneler.sockets.reactor import Reactor


class EndOwner(Protocol):
    """The role that a link end belongs to."""

    def open_requested(self, end: LinkEnd, request: Open) -> None: ...

    def connection_opened(self, end: LinkEnd, splice: Splice, proxy: Party | None) -> None: ...

    def connection_ended(
        self, end: LinkEnd, splice: Splice, code: Code, detail: ConnectionFault | Failure | None
    ) -> None:
        """``code`` is ok when both directions ended in good order."""
        ...

    def link_event(self, end: LinkEnd, event: LinkEvent) -> None: ...

    def link_ended(self, end: LinkEnd, code: Code, reason: str) -> None: ...


class LinkEnd:
    """See :class:`tunneler.engine.driver.LinkHandler`."""

    def __init__(
        self,
        driver: LinkDriver,
        owner: EndOwner,
        reactor: Reactor,
        budget: Budget,
        *,
        accepts_opens: bool,
        opening_timeout: float,
        idle_timeout: float,
    ) -> None:
        self.driver = driver
        self.reactor = reactor
        self.draining = False
        self._owner = owner
        self._outbox = driver.link.outbox
        self.endpoint = Endpoint(
            self._outbox,
            budget,
            accepts_opens=accepts_opens,
            opening_timeout=opening_timeout,
            idle_timeout=idle_timeout,
        )
        self.splices: dict[bytes, Splice] = {}
        self._waiting: dict[Splice, None] = {}
        self._actors: dict[type, Callable[[Any], None]] = {
            OpenRequested: self._open_requested,
            Opened: self._opened,
            FinReceived: self._fin_received,
            RoomMade: self._room_made,
            ConnectionClosed: self._connection_closed,
            ConnectionReset: self._connection_reset,
        }
        driver.start(self)

    # From the driver.

    def frame_received(self, frame: ConnectionFrame, now: float) -> None:
        event = self.endpoint.receive(frame, now)
        if type(event) is DataReceived:
            self.splices[event.connection].deliver(event.payload)
        elif event is not None:
            self._actors[type(event)](event)

    def link_event(self, event: LinkEvent, now: float) -> None:
        self._owner.link_event(self, event)

    def batch_sent(self) -> None:
        """Let waiting sockets be read: the longest waiting first, and no more than one batch has room for."""
        if not self._waiting:
            return
        room = MAX_BATCH - self._outbox.size
        while self._waiting and room > 0:
            splice = next(iter(self._waiting))
            del self._waiting[splice]
            splice.resume()
            room -= MAX_PAYLOAD

    def link_ended(self, code: Code, reason: str) -> None:
        self._act(self.endpoint.reset_all(Code.LINK_LOST))
        self._owner.link_ended(self, code, reason)

    # From the role.

    @property
    def greeted(self) -> bool:
        """Whether the link is up: what is said on it will be heard."""
        return not self.driver.ended and self.driver.link.peer_instance is not None

    @property
    def usable(self) -> bool:
        """Whether new connections may be opened here."""
        return self.greeted and not self.draining

    def open(self, frame: Open, sock: socket.socket, *, watch_idle: bool) -> Splice:
        """Open a connection for a captured socket (client)."""
        now = clock()
        connection = self.endpoint.open(frame, now, watch_idle=watch_idle)
        return self._keep(Splice(self, connection, frame, sock, now))

    def dial(self, request: Open, sock: socket.socket, target: addresses.Endpoint) -> Splice:
        """Join a requested connection with a socket that is being connected (proxy)."""
        connection = self.endpoint.connections[request.connection]
        return self._keep(Splice(self, connection, request, sock, clock(), target=target))

    def refuse(self, request: Open, code: Code) -> None:
        """Do not dial (proxy)."""
        self.endpoint.refuse(self.endpoint.connections[request.connection], code)

    def reset_all(self, code: Code) -> None:
        """End every connection, because the drain is over."""
        self._act(self.endpoint.reset_all(code))

    def tick(self) -> None:
        self.driver.tick()
        if not self.driver.ended:
            self._act(self.endpoint.expire(clock()))
            self.batch_sent()  # those resumed last may have been reset before they were read

    # From splices.

    @property
    def has_room(self) -> bool:
        """Whether sockets may be read: a batch is gathering, but not yet full."""
        return self._outbox.size < MAX_BATCH

    def wait_for_room(self, splice: Splice) -> None:
        self._waiting[splice] = None

    def is_waiting(self, splice: Splice) -> bool:
        return splice in self._waiting

    def fin_handed_over(self, splice: Splice) -> None:
        event = self.endpoint.hand_over_fin(splice.connection)
        if event is not None:
            self._actors[type(event)](event)

    def dial_succeeded(self, splice: Splice) -> None:
        self.endpoint.accept(splice.connection)
        splice.opened = True
        self._owner.connection_opened(self, splice, None)

    def dial_failed(self, splice: Splice, failure: Failure) -> None:
        self.endpoint.refuse(splice.connection, failure.code)
        self._forget(splice, failure.code, failure)

    def socket_failed(self, splice: Splice, failure: Failure) -> None:
        self.endpoint.reset(splice.connection, failure.code)
        self._forget(splice, failure.code, failure)

    # What events do.

    def _act(self, events: list[EndpointEvent]) -> None:
        for event in events:
            self._actors[type(event)](event)

    def _open_requested(self, event: OpenRequested) -> None:
        self._owner.open_requested(self, event.open)

    def _opened(self, event: Opened) -> None:
        splice = self.splices[event.connection]
        splice.opened = True
        splice.resume()  # the limit may have been raised
        self._owner.connection_opened(self, splice, event.proxy)

    def _fin_received(self, event: FinReceived) -> None:
        self.splices[event.connection].deliver_fin()

    def _room_made(self, event: RoomMade) -> None:
        self.splices[event.connection].resume()

    def _connection_closed(self, event: ConnectionClosed) -> None:
        splice = self.splices.pop(event.connection)
        splice.close()
        self._owner.connection_ended(self, splice, Code.OK, None)

    def _connection_reset(self, event: ConnectionReset) -> None:
        splice = self.splices.get(event.connection)
        if splice is not None:
            self._forget(splice, event.code, event.fault)

    def _keep(self, splice: Splice) -> Splice:
        self.splices[splice.connection.id] = splice
        return splice

    def _forget(self, splice: Splice, code: Code, detail: ConnectionFault | Failure | None) -> None:
        del self.splices[splice.connection.id]
        self._waiting.pop(splice, None)
        splice.abort()
        self._owner.connection_ended(self, splice, code, detail)
