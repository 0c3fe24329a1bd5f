"""The connections of one end of a link: what a client or a proxy holds.

Frames of the peer come in through :meth:`Endpoint.receive`, which returns events; wishes of
the local sockets come in through the other methods; what is to be sent goes to the outbox.
A fault of the peer on one connection resets that connection and touches no other.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tunneler.addresses import ConnectionId
from tunneler.errors import Code, ConnectionFault, LinkFault, LocalProtocolError
from tunneler.protocol.connection import Connection, Move, State
from tunneler.protocol.deadlines import Deadlines, IdleDeadlines
from tunneler.protocol.events import (
    ConnectionClosed,
    ConnectionReset,
    DataReceived,
    EndpointEvent,
    FinReceived,
    Opened,
    OpenRequested,
    RoomMade,
)
from tunneler.protocol.frames import (
    Ack,
    ConnectionFrame,
    Data,
    Fin,
    Open,
    OpenResult,
    Reset,
)
from tunneler.protocol.outbox import Outbox
from tunneler.protocol.window import Budget


class Endpoint:
    """All connections of this process on one link.

    Args:
        outbox: where frames for the peer go.
        budget: memory shared with the other links of this process.
        accepts_opens: whether the peer may open connections (proxy) or only we (client).
        opening_timeout: seconds from OPEN to OPEN_RESULT.
        idle_timeout: seconds without a frame after which a connection is reset; 0: never.
    """

    def __init__(
        self,
        outbox: Outbox,
        budget: Budget,
        *,
        accepts_opens: bool,
        opening_timeout: float,
        idle_timeout: float,
    ) -> None:
        self._outbox = outbox
        self._budget = budget
        self._accepts_opens = accepts_opens
        self._opening = Deadlines[ConnectionId](opening_timeout)
        self._idle = IdleDeadlines[Connection](idle_timeout)
        self.connections: dict[ConnectionId, Connection] = {}
        self._receivers: dict[type, Callable[[Any, float], EndpointEvent | None]] = {
            Open: self._receive_open,
            OpenResult: self._receive_open_result,
            Fin: self._receive_fin,
            Ack: self._receive_ack,
            Reset: self._receive_reset,
        }

    def set_timeouts(self, opening: float, idle: float) -> None:
        """Other ones from now on, for the connections that there are, too."""
        self._opening.duration = opening
        self._idle.change(idle)

    # What the peer sends.

    def receive(self, frame: ConnectionFrame, now: float) -> EndpointEvent | None:
        """Act on one frame; ``now`` is in seconds of any monotonic clock.

        Raises:
            LinkFault: the peer may not send such a frame to this role at all.
        """
        try:
            if type(frame) is Data:
                return self._receive_data(frame, now)
            return self._receivers[type(frame)](frame, now)
        except ConnectionFault as fault:
            self._outbox.put(Reset(frame.connection, fault.code))
            return self._end(frame.connection, ConnectionReset(frame.connection, fault.code, fault))

    def _receive_open(self, frame: Open, now: float) -> EndpointEvent | None:
        if not self._accepts_opens:
            raise LinkFault("OPEN sent to a client")
        if frame.connection in self.connections:
            raise ConnectionFault("OPEN of a connection that is open")
        connection = Connection(frame.connection, self._budget, Move.OPEN_RECEIVED)
        connection.sending.raise_limit(frame.limit)
        self._admit(connection, now, watch_idle=not frame.keepalive)
        return OpenRequested(frame.connection, frame)

    def _receive_open_result(self, frame: OpenResult, now: float) -> EndpointEvent | None:
        if self._accepts_opens:
            raise LinkFault("OPEN_RESULT sent to a proxy")
        connection = self.connections.get(frame.connection)
        if connection is None:
            return None
        if frame.code is not Code.OK:
            if connection.state is not State.SYN_SENT:
                raise ConnectionFault(f"OPEN_RESULT in {connection.state.name}")
            return self._end(frame.connection, ConnectionReset(frame.connection, frame.code))
        fin = connection.receive_accept(frame.limit)
        self._opening.discard(frame.connection)
        if fin is not None:
            self._outbox.put(fin)
        return Opened(frame.connection, frame.proxy)

    def _receive_data(self, frame: Data, now: float) -> EndpointEvent | None:
        connection = self.connections.get(frame.connection)
        if connection is None:
            self._answer_unknown(frame.connection)
            return None
        connection.heard = now
        payload = connection.receive_data(frame)
        return DataReceived(frame.connection, payload) if payload else None

    def _receive_fin(self, frame: Fin, now: float) -> EndpointEvent | None:
        connection = self.connections.get(frame.connection)
        if connection is None:
            self._answer_unknown(frame.connection)
            return None
        connection.heard = now
        return FinReceived(frame.connection) if connection.receive_fin(frame) else None

    def _receive_ack(self, frame: Ack, now: float) -> EndpointEvent | None:
        connection = self.connections.get(frame.connection)
        if connection is None:
            return None
        room_made = connection.receive_ack(frame)
        if connection.closed:
            return self._end(frame.connection, ConnectionClosed(frame.connection))
        connection.heard = now
        return RoomMade(frame.connection) if room_made else None

    def _receive_reset(self, frame: Reset, now: float) -> EndpointEvent | None:
        self._outbox.drop(frame.connection)
        return self._end(frame.connection, ConnectionReset(frame.connection, frame.code))

    def _answer_unknown(self, connection: ConnectionId) -> None:
        # Data crossed our RESET on its way, or the peer remembers what we do not.
        self._outbox.put_control(Reset(connection, Code.UNKNOWN_CONNECTION))

    # What the local side wants.

    def open(self, frame: Open, now: float, *, watch_idle: bool = True) -> Connection:
        """Open a connection to the peer (client).

        Raises:
            LocalProtocolError: there is one of that id.
        """
        if frame.connection in self.connections:
            raise LocalProtocolError("a connection id used twice")
        connection = Connection(frame.connection, self._budget, Move.OPEN_SENT)
        self._admit(connection, now, watch_idle=watch_idle)
        self._outbox.put_control(frame._replace(limit=connection.receiving.sequence.limit))
        return connection

    def accept(self, connection: Connection) -> None:
        """The target answered (proxy)."""
        limit = connection.accept()
        self._opening.discard(connection.id)
        self._outbox.put_control(OpenResult(connection.id, Code.OK, limit))

    def refuse(self, connection: Connection, code: Code) -> None:
        """The target did not answer, or may not be dialled (proxy)."""
        self._end(connection.id, None)
        self._outbox.put_control(OpenResult(connection.id, code))

    def send(self, connection: Connection, payload: bytes, now: float) -> None:
        """Send bytes that the local socket gave; never more than the window has room for."""
        self._outbox.put(connection.send(payload))
        connection.heard = now

    def finish(self, connection: Connection) -> None:
        """The local socket will give no more."""
        fin = connection.finish()
        if fin is not None:
            self._outbox.put(fin)

    def hand_over(self, connection: Connection, length: int) -> None:
        """The local socket took bytes."""
        ack = connection.hand_over(length)
        if ack is not None:
            self._outbox.put_control(ack)

    def hand_over_fin(self, connection: Connection) -> EndpointEvent | None:
        """The local socket was told that no more will come."""
        self._outbox.put_control(connection.hand_over_fin())
        if connection.closed:
            return self._end(connection.id, ConnectionClosed(connection.id))
        return None

    def reset(self, connection: Connection, code: Code) -> None:
        """The local socket failed, or the connection is no longer wanted."""
        self._end(connection.id, None)
        self._outbox.put(Reset(connection.id, code))

    # What time and the link bring.

    def expire(self, now: float) -> list[EndpointEvent]:
        """End what has waited too long."""
        events: list[EndpointEvent] = []
        for name in self._opening.expired(now):
            connection = self.connections[name]
            if connection.state is State.SYN_RECEIVED:
                self.refuse(connection, Code.TIMEOUT)
            else:
                self.reset(connection, Code.TIMEOUT)
            events.append(ConnectionReset(name, Code.TIMEOUT))
        for connection in self._idle.expired(now):
            self.reset(connection, Code.IDLE)
            events.append(ConnectionReset(connection.id, Code.IDLE))
        return events

    def reset_all(self, code: Code) -> list[EndpointEvent]:
        """End every connection, because the link is gone or the drain is over."""
        events: list[EndpointEvent] = []
        for connection in list(self.connections.values()):
            self.reset(connection, code)
            events.append(ConnectionReset(connection.id, code))
        return events

    def _admit(self, connection: Connection, now: float, *, watch_idle: bool) -> None:
        self.connections[connection.id] = connection
        self._opening.add(connection.id, now)
        connection.heard = now
        if watch_idle:
            self._idle.add(connection)

    def _end(self, name: ConnectionId, event: EndpointEvent | None) -> EndpointEvent | None:
        """Forget a connection; the event is returned if there was one to forget."""
        connection = self.connections.pop(name, None)
        if connection is None:
            return None
        connection.release()
        self._opening.discard(name)
        self._idle.discard(connection)
        return event
