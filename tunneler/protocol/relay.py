"""The server's table: which connection runs between which client and which proxy.

Every frame is checked against the link it came by: a connection belongs to the client link
that opened it and the proxy link it was given to, and a third party that names it has broken
the protocol. A fault on one connection ends that connection at both ends; a fault that no
honest peer can commit (:class:`LinkFault`) is left to the caller, who closes the link.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tunneler.addresses import ConnectionId, Route
from tunneler.errors import Code, ConnectionFault, LinkFault
from tunneler.protocol.admission import RelayLimits, has_room, pick_proxy
from tunneler.protocol.deadlines import Deadlines, IdleDeadlines
from tunneler.protocol.events import RelayEvent, RelayOpened, RelayRefused, RelayRouted, RelayStray
from tunneler.protocol.frames import (
    DATA_KINDS,
    SENDER,
    Ack,
    ConnectionFrame,
    Data,
    Drain,
    Fin,
    Open,
    OpenResult,
    Party,
    Reset,
    RoutesResult,
    SealedData,
    kind_of,
)
from tunneler.protocol.held_back import HeldBack
from tunneler.protocol.relay_connection import RelayConnection, RelayLink
from tunneler.protocol.routing import Group, RouteTable
from tunneler.protocol.window import Budget

Entry = RelayConnection | None
"""What the table has for a frame's connection."""

Receiver = Callable[[RelayLink, Entry, Any, float], RelayEvent | None]


class Relay:
    """All links and connections of one server.

    Args:
        budget: bytes the server may hold for all connections; the outboxes of its links give
            back to the same budget.
    """

    def __init__(self, limits: RelayLimits, budget: Budget) -> None:
        self._limits = limits
        self._budget = budget
        self._links: dict[Party, RelayLink] = {}
        self.routes = RouteTable[RelayLink]()
        self._opening = Deadlines[ConnectionId](limits.opening_timeout)
        self._idle = IdleDeadlines[RelayConnection](limits.idle_timeout)
        self._held_back = HeldBack()
        self.connections: dict[ConnectionId, RelayConnection] = {}
        self.draining = False
        self._receivers: dict[type, Receiver] = {
            Open: self._receive_open,
            OpenResult: self._receive_open_result,
            Data: self._receive_data,
            SealedData: self._receive_data,
            Fin: self._receive_fin,
            Ack: self._receive_ack,
            Reset: self._receive_reset,
        }

    def set_limits(self, limits: RelayLimits) -> None:
        """Other ones from now on; what is there already, and would be too much, stays."""
        self._limits = limits
        self._opening.duration = limits.opening_timeout
        self._idle.change(limits.idle_timeout)

    # Links.

    @property
    def links(self) -> tuple[RelayLink, ...]:
        return tuple(self._links.values())

    def attach(self, link: RelayLink, now: float) -> tuple[RelayLink | None, list[RelayEvent]]:
        """Take a link on; return the older link of the same party that it replaces, and what that ended."""
        older = self._links.get(link.party)
        events = self.detach(older, Code.REPLACED, now) if older else []
        self._links[link.party] = link
        link.attached = True
        if self.draining:
            link.outbox.put_control(Drain())
        return older, events

    def detach(self, link: RelayLink, code: Code, now: float) -> list[RelayEvent]:
        """Forget a link: its routes are withdrawn, its connections reset at their other end."""
        if not link.attached:
            return []
        link.attached = False
        del self._links[link.party]
        self.routes.withdraw(link)
        events = [
            self._end(name, code, tell=self.connections[name].other_end(link), now=now)
            for name in list(link.connections)
        ]
        link.outbox.drop_all()
        return events

    def announce(self, link: RelayLink, group: str, routes: tuple[Route, ...]) -> tuple[Route, ...]:
        """Take a proxy's routes; answer it, and return the ones in conflict.

        Raises:
            LinkFault: more routes than one proxy may announce.
        """
        if len(routes) > self._limits.routes_per_proxy:
            raise LinkFault(
                f"{len(routes)} routes announced, {self._limits.routes_per_proxy} allowed", Code.LIMITED
            )
        conflicts = self.routes.announce(link, Group(link.party.identity, group), routes)
        link.outbox.put_control(RoutesResult(conflicts))
        return conflicts

    def drain(self) -> None:
        """Take no new connection, and say so to every link."""
        self.draining = True
        for link in self._links.values():
            link.outbox.put_control(Drain())

    # Frames.

    def receive(self, link: RelayLink, frame: ConnectionFrame, now: float) -> RelayEvent | None:
        """Act on one frame of a connection.

        Raises:
            LinkFault: no honest peer of this role sends this; the link is to be closed.
        """
        entry = self.connections.get(frame.connection)
        try:
            if type(frame) is SealedData and entry is not None and link in entry.ends:
                return self._receive_data(link, entry, frame, now)  # by far the most frames
            return self._receive(link, entry, frame, now)
        except ConnectionFault as fault:
            if frame.connection not in self.connections:
                link.outbox.put(Reset(frame.connection, fault.code))
                return None
            return self._end(frame.connection, fault.code, now=now, fault=fault)

    def _receive(
        self, link: RelayLink, entry: Entry, frame: ConnectionFrame, now: float
    ) -> RelayEvent | None:
        if not link.attached:
            return None  # the rest of a batch whose link was replaced meanwhile
        if link.role is not SENDER.get(type(frame), link.role):
            raise LinkFault(f"a {link.role} may not send {type(frame).__name__}")
        if entry is not None and link not in entry.ends:
            return self._receive_stray(link, frame)
        return self._receivers[type(frame)](link, entry, frame, now)

    def _receive_open(self, link: RelayLink, entry: Entry, frame: Open, now: float) -> RelayEvent | None:
        if entry is not None:
            raise ConnectionFault("Open of a connection that is open")
        proxy = self._admit(link, frame)
        if isinstance(proxy, Code):
            link.outbox.put_control(OpenResult(frame.connection, proxy))
            return RelayRefused(frame.connection, link.party, None, frame.source, frame.destination, proxy)
        entry = self.connections[frame.connection] = RelayConnection(frame, link, proxy, self._budget, now)
        link.connections.add(frame.connection)
        proxy.connections.add(frame.connection)
        self._opening.add(frame.connection, now)
        if not frame.keepalive:
            self._idle.add(entry)
        limit = self._held_back.grant(entry.down, frame.limit)
        proxy.outbox.put_control(frame._replace(limit=limit, client=link.party))
        return RelayRouted(frame.connection, link.party, proxy.party, frame.source, frame.destination)

    def _admit(self, link: RelayLink, frame: Open) -> RelayLink | Code:
        """Decide about a new connection: the proxy that is to have it, or why there is none."""
        if self.draining or link.draining:
            return Code.DRAINING
        if not has_room(self._limits, self._budget, len(self.connections), len(link.connections)):
            return Code.LIMITED
        return pick_proxy(self.routes.members(frame.destination.address))

    def _receive_open_result(
        self, link: RelayLink, entry: Entry, frame: OpenResult, now: float
    ) -> RelayEvent | None:
        if entry is None:
            return None
        if entry.established:
            raise ConnectionFault("OpenResult a second time")
        if frame.code is not Code.OK:
            entry.client.outbox.put_control(frame._replace(proxy=link.party))
            return self._end(frame.connection, frame.code, tell=(), now=now)
        entry.established = True
        self._opening.discard(frame.connection)
        limit = self._held_back.grant(entry.up, frame.limit)
        entry.client.outbox.put_control(frame._replace(limit=limit, proxy=link.party))
        request = entry.request
        return RelayOpened(
            frame.connection, entry.client.party, link.party, request.source, request.destination
        )

    def _receive_data(
        self, link: RelayLink, entry: Entry, frame: Data | SealedData, now: float
    ) -> RelayEvent | None:
        if entry is None:
            self._answer_unknown(link, frame.connection)
            return None
        direction = entry.up if link is entry.client else entry.direction_from(link)
        if direction.pass_data(frame):
            self._held_back.add(direction)
        entry.heard = now
        return None

    def _receive_fin(self, link: RelayLink, entry: Entry, frame: Fin, now: float) -> RelayEvent | None:
        if entry is None:
            self._answer_unknown(link, frame.connection)
            return None
        entry.direction_from(link).pass_fin(frame)
        entry.heard = now
        return None

    def _receive_ack(self, link: RelayLink, entry: Entry, frame: Ack, now: float) -> RelayEvent | None:
        if entry is None:
            return None
        if not entry.established:
            raise ConnectionFault("Ack before OpenResult")
        direction = entry.up if link is entry.proxy else entry.down
        ack = direction.acknowledge(frame)
        self._held_back.add(direction)
        direction.sender.outbox.put_control(ack)
        entry.heard = now
        return self._end(frame.connection, Code.OK, tell=(), now=now) if entry.finished else None

    def _receive_reset(self, link: RelayLink, entry: Entry, frame: Reset, now: float) -> RelayEvent | None:
        if entry is None:
            return None
        link.outbox.drop(frame.connection)
        return self._end(frame.connection, frame.code, tell=entry.other_end(link), now=now)

    def _receive_stray(self, link: RelayLink, frame: ConnectionFrame) -> RelayEvent | None:
        """Act on a frame for a connection of other parties: as if there were no such connection.

        It may be a late frame of an id that was used again, so the link is left alone; an OPEN
        cannot be, for ids are salted with a secret of their client.
        """
        if type(frame) is Open:
            raise LinkFault("Open of another client's connection", Code.CONFLICT)
        if isinstance(frame, (*DATA_KINDS, Fin)):
            self._answer_unknown(link, frame.connection)
        link.strays += 1
        return RelayStray(frame.connection, link.party, kind_of(frame)) if link.strays == 1 else None

    def _answer_unknown(self, link: RelayLink, connection: ConnectionId) -> None:
        # Data crossed a RESET on its way: a normal race. The answer ends it on that side too.
        link.outbox.put_control(Reset(connection, Code.UNKNOWN_CONNECTION))

    # Time, and room.

    def sent(self) -> None:
        """Bytes have left an outbox: allow senders more where memory held them back."""
        self._held_back.allow_more(self.connections)

    def expire(self, now: float) -> list[RelayEvent]:
        """End what has waited too long, at both ends."""
        ended = [(name, Code.TIMEOUT) for name in self._opening.expired(now)]
        ended += [(entry.request.connection, Code.IDLE) for entry in self._idle.expired(now)]
        return [self._end(name, code, now=now) for name, code in ended if name in self.connections]

    def reset_all(self, code: Code, now: float) -> list[RelayEvent]:
        """End every connection, at both ends."""
        return [self._end(name, code, now=now) for name in list(self.connections)]

    # Inside.

    def _end(
        self,
        name: ConnectionId,
        code: Code,
        *,
        now: float,
        tell: tuple[RelayLink, ...] | None = None,
        fault: ConnectionFault | None = None,
    ) -> RelayEvent:
        """Forget a connection; reset it at the ends in ``tell`` (default: both)."""
        entry = self.connections.pop(name)
        client, proxy = entry.client, entry.proxy
        if not entry.established or fault is not None:
            proxy.outbox.drop(name)
            client.outbox.drop(name)
        for link in (client, proxy) if tell is None else tell:
            link.outbox.put(Reset(name, code))
        client.connections.discard(name)
        proxy.connections.discard(name)
        self._opening.discard(name)
        self._idle.discard(entry)
        self._held_back.discard(entry)
        entry.release()
        return entry.account(code, now, fault)
