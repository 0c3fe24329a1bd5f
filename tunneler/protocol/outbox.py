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
from collections.abc import Callable
from typing import Final

from tunneler.addresses import ConnectionId
from tunneler.errors import Code, LinkFault
from tunneler.protocol.frames import MAX_BATCH, Data, Fin, Frame, Reset
from tunneler.protocol.window import Budget

FRAME_OVERHEAD: Final = 48
"""Bytes counted for a frame besides its payload: what the largest hot frame needs, rounded up."""

MAX_CONTROL_FRAMES: Final = 1 << 16
"""Control frames that may wait. Each answers something that the peer sent; a peer that goes on
asking without reading the answers is hostile or broken."""


class Outbox:
    """The frames of one link that have not been sent.

    Args:
        wake: called when the first frame arrives in an empty outbox; the owner then arranges
            for :meth:`take`.
        budget: where bytes that leave are given back (a server's: what it was sent and has
            not sent on), or None (an end's: what it was sent is given back by its sockets).
    """

    __slots__ = ("_budget", "_control", "_lanes", "_turns", "_wake", "size")

    def __init__(self, wake: Callable[[], None], budget: Budget | None = None) -> None:
        self._wake = wake
        self._budget = budget
        self._control: deque[Frame] = deque()
        self._lanes: dict[ConnectionId, deque[Data | Fin | Reset]] = {}
        self._turns: deque[ConnectionId] = deque()
        self.size = 0
        """Bytes that wait, roughly."""

    def __bool__(self) -> bool:
        return bool(self._control or self._turns)

    def put_control(self, frame: Frame) -> None:
        """Queue a frame ahead of all data.

        Raises:
            LinkFault: the peer has left too many unread.
        """
        if len(self._control) >= MAX_CONTROL_FRAMES:
            raise LinkFault("the peer asks without reading the answers", Code.LIMITED)
        self._wake_if_empty()
        self._control.append(frame)
        self.size += FRAME_OVERHEAD

    def put(self, frame: Data | Fin | Reset) -> None:
        """Queue a frame behind those of its own connection."""
        self._wake_if_empty()
        connection = frame.connection
        lane = self._lanes.get(connection)
        if lane is None:
            self._lanes[connection] = deque((frame,))
            self._turns.append(connection)
        else:
            lane.append(frame)
        self.size += _size(frame)

    def drop(self, connection: ConnectionId) -> None:
        """Forget what waits of a connection, because it was reset."""
        lane = self._lanes.pop(connection, None)
        if lane is not None:
            self._turns.remove(connection)
            self._leave(sum(map(_size, lane)), len(lane))

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
            size += FRAME_OVERHEAD
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
        self._leave(size, len(taken))
        return taken

    def _leave(self, size: int, frames: int) -> None:
        self.size -= size
        if self._budget is not None:
            self._budget.outstanding -= size - frames * FRAME_OVERHEAD

    def _wake_if_empty(self) -> None:
        if not self._control and not self._turns:
            self._wake()


def _size(frame: Data | Fin | Reset) -> int:
    return len(frame.payload) + FRAME_OVERHEAD if type(frame) is Data else FRAME_OVERHEAD
