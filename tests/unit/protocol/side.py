"""One side of a conversation: an endpoint of the real core, and the sockets its process would hold.

Sockets check what they read against what the other side can only have written there.
"""

from __future__ import annotations

import random

from tests.unit.protocol import cast
from tunneler.addresses import ConnectionId
from tunneler.errors import Code
from tunneler.protocol.connection import MAY_SEND_DATA, Connection, State
from tunneler.protocol.endpoint import Endpoint
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
from tunneler.protocol.frames import MAX_PAYLOAD, Frame
from tunneler.protocol.outbox import Outbox
from tunneler.protocol.window import Budget

_NOISE = random.Random(20).randbytes(3 * MAX_PAYLOAD)
_PERIOD = len(_NOISE) - MAX_PAYLOAD


def stream(side: str, offset: int, length: int) -> bytes:
    """What an application on ``side`` writes at ``offset``; long repeats make misplaced bytes visible."""
    start = (offset + len(side) * 7919) % _PERIOD
    return _NOISE[start : start + length]


class Socket:
    """An application's or a target's TCP connection, joined to one end of a tunnelled one."""

    def __init__(self, connection: Connection, writer: str) -> None:
        self.connection = connection
        self.writer = writer
        """Whose bytes arrive here."""
        self.opened = False
        self.written = 0
        self.finished = False
        self.room_awaited = False
        self.arrived = 0
        self.read = 0
        self.end_arrived = False
        self.end_read = False
        self.outcome: Code | None = None
        """None while it lives, ok after an orderly close, else why it was reset."""

    @property
    def may_write(self) -> bool:
        return (
            self.outcome is None
            and not self.finished
            and not self.room_awaited
            and self.connection.state in MAY_SEND_DATA
        )


class Side:
    """The client or the proxy: its endpoint, and the sockets that its process would hold."""

    def __init__(self, side: str, total: int) -> None:
        self.side = side
        self.other = "proxy" if side == "client" else "client"
        self.budget = Budget(total)
        self.sockets: dict[ConnectionId, Socket] = {}
        self.endpoint: Endpoint
        self.outbox: Outbox
        make = cast.client_endpoint if side == "client" else cast.proxy_endpoint
        self.endpoint, self.outbox = make(self.budget)

    def living(self, *states: State) -> list[Socket]:
        return [
            socket
            for socket in self.sockets.values()
            if socket.outcome is None and (not states or socket.connection.state in states)
        ]

    def deliver(self, frame: Frame, now: float) -> None:
        event = self.endpoint.receive(frame, now)  # type: ignore[arg-type]  # no link frames here
        if event is not None:
            self.act(event)

    def act(self, event: EndpointEvent) -> None:
        if isinstance(event, OpenRequested):
            self.adopt(self.endpoint.connections[event.connection])
            return
        socket = self.sockets[event.connection]
        assert socket.outcome is None, f"{event} after the end"
        match event:
            case Opened():
                socket.opened = True
                socket.room_awaited = not socket.connection.sending.room
            case DataReceived(payload=payload):
                assert not socket.end_arrived
                assert payload == stream(self.other, socket.arrived, len(payload))
                socket.arrived += len(payload)
            case FinReceived():
                assert not socket.end_arrived
                socket.end_arrived = True
            case RoomMade():
                assert socket.connection.sending.room > 0
                socket.room_awaited = False
            case ConnectionClosed():
                socket.outcome = Code.OK
            case ConnectionReset(code=code, fault=fault):
                assert fault is None, f"an honest peer is blamed: {fault}"
                socket.outcome = code

    def adopt(self, connection: Connection) -> Socket:
        assert connection.id not in self.sockets
        socket = self.sockets[connection.id] = Socket(connection, self.other)
        return socket

    # What applications do.

    def write(self, socket: Socket, length: int, now: float) -> None:
        length = min(length, socket.connection.sending.room, MAX_PAYLOAD)
        if length:
            self.endpoint.send(socket.connection, stream(self.side, socket.written, length), now)
            socket.written += length
        socket.room_awaited = not socket.connection.sending.room

    def finish(self, socket: Socket) -> None:
        self.endpoint.finish(socket.connection)
        socket.finished = True

    def read(self, socket: Socket, length: int) -> None:
        length = min(length, socket.arrived - socket.read)
        if length:
            socket.read += length
            self.endpoint.hand_over(socket.connection, length)

    def read_end(self, socket: Socket) -> None:
        socket.end_read = True
        event = self.endpoint.hand_over_fin(socket.connection)
        if event is not None:
            self.act(event)

    def may_read_end(self, socket: Socket) -> bool:
        return socket.end_arrived and not socket.end_read and socket.read == socket.arrived

    def reset(self, socket: Socket) -> None:
        self.endpoint.reset(socket.connection, Code.RESET_BY_PEER)
        socket.outcome = Code.RESET_BY_PEER
