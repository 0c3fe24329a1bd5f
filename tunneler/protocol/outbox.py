"""What waits to be sent on a link, and the order in which it leaves.

Frames gather here while a batch is being written; the next batch takes them. Control frames
(everything but DATA, FIN and RESET) go first; the others keep their order within a
connection, and connections take turns, a frame each, so that a bulk transfer of one delays
another by one frame and not by its whole backlog.

Nothing here counts time or blocks. What is held is bounded from outside: by the windows for
DATA, and by ``MAX_CONTROL_FRAMES`` for the rest.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable, Collection
from typing import Final

from tunneler.addresses import ConnectionId
from tunneler.protocol.frames import (
    DATA_KINDS,
    MAX_BATCH,
    Data,
    Fin,
    Frame,
    Open,
    OpenResult,
    Reset,
    Routes,
    RoutesResult,
    SealedData,
)
from tunneler.protocol.window import Budget

FRAME_OVERHEAD: Final = 48
"""Bytes counted for a frame besides its payload: what the largest hot frame needs, rounded up."""

OPEN_SIZE: Final = 320
"""Bytes counted for OPEN and OPEN_RESULT, which hold addresses and names of full length."""

JOINED_BYTES: Final = 1024
"""Neighbouring payloads are joined up to this size: a window full of single bytes must not cost
a tuple for each."""

MAX_CONTROL_FRAMES: Final = 1 << 16
"""Control frames that may wait. Each answers something that the peer sent; a peer that goes on
asking without reading the answers is hostile or broken."""

MAX_CONTROL_BYTES: Final = 8 * 1024 * 1024
"""The same bound in bytes, for the few control frames that can be large."""

Queued = Data | SealedData | Fin | Reset
"""What keeps its order within a connection."""

Lane = Queued | deque[Queued]
"""What waits of one connection: nearly always one frame, which needs no queue around it."""


class Outbox:
    """The frames of one link that have not been sent.

    Args:
        wake: called when the first frame arrives in an empty outbox; the owner then arranges
            for :meth:`take`.
        budget: where bytes that leave are given back (a server's: what it was sent and has
            not sent on), or None (an end's: what it was sent is given back by its sockets).
    """

    __slots__ = (
        "_budget", "_control", "_control_size", "_lanes", "_long_lanes", "_payload", "_wake", "overrun",
        "size",
    )  # fmt: skip

    def __init__(self, wake: Callable[[], None], budget: Budget | None = None) -> None:
        self._wake = wake
        self._budget = budget
        self._control: deque[Frame] = deque()
        self._control_size = 0
        self._lanes: OrderedDict[ConnectionId, Lane] = OrderedDict()
        """What waits of each connection, whose turn is next first."""
        self._long_lanes = 0
        """Lanes of more than one frame."""
        self._payload = 0
        """Bytes of payload in all lanes."""
        self.size = 0
        """Bytes that wait, roughly; 0 if nothing does."""
        self.overrun = False
        """Whether the peer has left more unread than any honest peer does."""

    def __bool__(self) -> bool:
        return self.size > 0

    def put_control(self, frame: Frame) -> None:
        """Queue a frame ahead of all data.

        When too many wait, the frame is lost and the outbox is ``overrun``: its owner closes
        the link. It is not an error of the caller, who may act for another link.
        """
        if len(self._control) >= MAX_CONTROL_FRAMES or self._control_size >= MAX_CONTROL_BYTES:
            self.overrun = True
            return
        if not self.size:
            self._wake()
        self._control.append(frame)
        size = _size_of_control(frame)
        self._control_size += size
        self.size += size

    def put(self, frame: Queued) -> None:
        """Queue a frame behind those of its own connection."""
        if not self.size:
            self._wake()
        if type(frame) is SealedData:
            length = frame.length
        else:
            length = len(frame.payload) if type(frame) is Data else 0
        self._payload += length
        self.size += length + FRAME_OVERHEAD
        connection = frame.connection
        lane = self._lanes.get(connection)
        if lane is None:
            self._lanes[connection] = frame
        else:
            self._put_behind(connection, lane, frame)

    def _put_behind(self, connection: ConnectionId, lane: Lane, frame: Queued) -> None:
        joined = _joined(lane[-1] if isinstance(lane, deque) else lane, frame)
        if joined is not None:
            self.size -= FRAME_OVERHEAD
        if isinstance(lane, deque):
            if joined is not None:
                lane[-1] = joined
            else:
                lane.append(frame)
        elif joined is not None:
            self._lanes[connection] = joined
        else:
            self._lanes[connection] = deque((lane, frame))
            self._long_lanes += 1

    def drop(self, connection: ConnectionId) -> None:
        """Forget what waits of a connection, because its receiver wants no more of it."""
        lane = self._lanes.pop(connection, None)
        if lane is None:
            return
        if isinstance(lane, deque):
            self._long_lanes -= 1
            self._leave(lane)
        else:
            self._leave((lane,))

    def drop_all(self) -> None:
        """Forget what waits of every connection, because the link is gone."""
        for connection in tuple(self._lanes):
            self.drop(connection)

    def queued_bytes(self, connection: ConnectionId) -> int:
        """Payload of a connection that has not been sent."""
        lane = self._lanes.get(connection)
        if isinstance(lane, deque):
            return sum(map(_payload_length, lane))
        return _payload_length(lane) if lane is not None else 0

    def take(self, most: int = MAX_BATCH) -> list[Frame]:
        """Remove the frames of the next batch, of about ``most`` bytes."""
        if self.size <= most and not self._long_lanes:
            return self._take_all()
        taken: list[Frame] = []
        size = 0
        control = self._control
        while control and size < most:
            taken.append(control.popleft())
            size += _size_of_control(taken[-1])
        self._control_size -= size
        self.size -= size
        data: list[Queued] = []
        while self._lanes and size < most:
            frame = self._take_turn()
            data.append(frame)
            size += _payload_length(frame) + FRAME_OVERHEAD
        self._leave(data)
        return taken + data

    def _take_all(self) -> list[Frame]:
        taken: list[Frame] = [*self._control, *self._lanes.values()]  # type: ignore[list-item]  # none is long
        self._control.clear()
        self._lanes.clear()
        if self._budget is not None:
            self._budget.outstanding -= self._payload
        self._payload = self._control_size = self.size = 0
        return taken

    def _take_turn(self) -> Queued:
        """One frame of the connection whose turn it is."""
        connection, lane = self._lanes.popitem(last=False)
        if not isinstance(lane, deque):
            return lane
        frame = lane.popleft()
        if len(lane) > 1:
            self._lanes[connection] = lane
        else:
            self._lanes[connection] = lane[0]
            self._long_lanes -= 1
        return frame

    def _leave(self, frames: Collection[Queued]) -> None:
        payload = sum(map(_payload_length, frames))
        self._payload -= payload
        self.size -= payload + FRAME_OVERHEAD * len(frames)
        if self._budget is not None:
            self._budget.outstanding -= payload


def _joined(last: Queued, frame: Queued) -> Data | None:
    """Two neighbours as one frame, if both are DATA and small enough."""
    if not isinstance(last, DATA_KINDS) or not isinstance(frame, DATA_KINDS):
        return None
    if last.length + frame.length > JOINED_BYTES:
        return None
    return Data(last.connection, last.offset, last.payload + frame.payload)


def _payload_length(frame: Queued) -> int:
    return frame.length if isinstance(frame, DATA_KINDS) else 0


def _size_of_control(frame: Frame) -> int:
    """Bytes that a control frame needs in a batch, rounded up."""
    kind = type(frame)
    if kind is Open or kind is OpenResult:
        return OPEN_SIZE
    if type(frame) is Routes:
        return FRAME_OVERHEAD * (len(frame.routes) + 2)
    if type(frame) is RoutesResult:
        return FRAME_OVERHEAD * (len(frame.conflicts) + 1)
    return FRAME_OVERHEAD
