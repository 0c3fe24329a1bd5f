"""What waits to be sent on a link, and the order in which it leaves.

Frames gather here while a batch is being written; the next batch takes them. Control frames
(everything but DATA, FIN and RESET) go first; the others keep their order within a
connection, and connections take turns, a frame each, so that a bulk transfer of one delays
another by one frame and not by its whole backlog.

Nothing here counts time or blocks. What is held is bounded from outside: by the windows for
DATA, and by ``MAX_CONTROL_FRAMES`` for the rest.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from typing import Final, TypeGuard

from tunneler.addresses import ConnectionId
from tunneler.protocol.frames import (
    MAX_BATCH,
    Data,
    Fin,
    Frame,
    Open,
    OpenResult,
    Reset,
    Routes,
    RoutesResult,
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


class Outbox:
    """The frames of one link that have not been sent.

    Args:
        wake: called when the first frame arrives in an empty outbox; the owner then arranges
            for :meth:`take`.
        budget: where bytes that leave are given back (a server's: what it was sent and has
            not sent on), or None (an end's: what it was sent is given back by its sockets).
    """

    __slots__ = ("_budget", "_control", "_control_size", "_lanes", "_turns", "_wake", "overrun", "size")

    def __init__(self, wake: Callable[[], None], budget: Budget | None = None) -> None:
        self._wake = wake
        self._budget = budget
        self._control: deque[Frame] = deque()
        self._control_size = 0
        self._lanes: dict[ConnectionId, deque[Data | Fin | Reset]] = {}
        self._turns: deque[ConnectionId] = deque()
        self.size = 0
        """Bytes that wait, roughly."""
        self.overrun = False
        """Whether the peer has left more unread than any honest peer does."""

    def __bool__(self) -> bool:
        return bool(self._control or self._turns)

    def put_control(self, frame: Frame) -> None:
        """Queue a frame ahead of all data.

        When too many wait, the frame is lost and the outbox is ``overrun``: its owner closes
        the link. It is not an error of the caller, who may act for another link.
        """
        if len(self._control) >= MAX_CONTROL_FRAMES or self._control_size >= MAX_CONTROL_BYTES:
            self.overrun = True
            return
        self._wake_if_empty()
        self._control.append(frame)
        self._control_size += _size(frame)
        self.size += _size(frame)

    def put(self, frame: Data | Fin | Reset) -> None:
        """Queue a frame behind those of its own connection."""
        self._wake_if_empty()
        connection = frame.connection
        lane = self._lanes.get(connection)
        if lane is None:
            self._lanes[connection] = deque((frame,))
            self._turns.append(connection)
        else:
            last = lane[-1]
            if type(frame) is Data and _joinable(last, frame):
                lane.pop()
                self.size -= _size(last)
                frame = Data(connection, last.offset, last.payload + frame.payload)
            lane.append(frame)
        self.size += _size(frame)

    def drop(self, connection: ConnectionId) -> None:
        """Forget what waits of a connection, because its receiver wants no more of it."""
        lane = self._lanes.pop(connection, None)
        if lane is not None:
            self._turns.remove(connection)
            self._leave(lane)

    def drop_all(self) -> None:
        """Forget what waits of every connection, because the link is gone."""
        for lane in self._lanes.values():
            self._leave(lane)
        self._lanes.clear()
        self._turns.clear()

    def queued_bytes(self, connection: ConnectionId) -> int:
        """Payload of a connection that has not been sent."""
        lane = self._lanes.get(connection, ())
        return sum(len(frame.payload) for frame in lane if type(frame) is Data)

    def take(self, most: int = MAX_BATCH) -> list[Frame]:
        """Remove the frames of the next batch, of about ``most`` bytes."""
        taken: list[Frame] = []
        size = 0
        control, turns, lanes = self._control, self._turns, self._lanes
        while control and size < most:
            taken.append(control.popleft())
            size += _size(taken[-1])
        self._control_size -= size
        while turns and size < most:
            connection = turns.popleft()
            lane = lanes[connection]
            frame = lane.popleft()
            taken.append(frame)
            size += _size(frame)
            if lane:
                turns.append(connection)
            else:
                del lanes[connection]
        self._leave(taken)
        return taken

    def _leave(self, frames: Iterable[Frame]) -> None:
        for frame in frames:
            self.size -= _size(frame)
            if type(frame) is Data and self._budget is not None:
                self._budget.outstanding -= len(frame.payload)

    def _wake_if_empty(self) -> None:
        if not self._control and not self._turns:
            self._wake()


def _joinable(last: Data | Fin | Reset, frame: Data) -> TypeGuard[Data]:
    return type(last) is Data and len(last.payload) + len(frame.payload) <= JOINED_BYTES


def _size(frame: Frame) -> int:
    """Bytes that a frame needs in a batch, rounded up."""
    kind = type(frame)
    if type(frame) is Data:
        return len(frame.payload) + FRAME_OVERHEAD
    if kind is Open or kind is OpenResult:
        return OPEN_SIZE
    if type(frame) is Routes:
        return FRAME_OVERHEAD * (len(frame.routes) + 2)
    if type(frame) is RoutesResult:
        return FRAME_OVERHEAD * (len(frame.conflicts) + 1)
    return FRAME_OVERHEAD
