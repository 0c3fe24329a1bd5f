"""Senders whom a server's memory holds back."""

from __future__ import annotations

from collections.abc import Mapping

from tunneler.addresses import ConnectionId
from tunneler.protocol.frames import Ack
from tunneler.protocol.relay_connection import Direction, RelayConnection
from tunneler.protocol.window import SILLY


class HeldBack:
    """Directions whose senders may be allowed more as soon as bytes leave.

    Not every direction that is capped is here: one whose sender has all that a connection's
    share allows is looked at again only when more of its bytes have come, so that many capped
    connections cost nothing while a few others carry.
    """

    def __init__(self) -> None:
        self._directions: set[Direction] = set()

    def __len__(self) -> int:
        return len(self._directions)

    def add(self, direction: Direction) -> None:
        if direction.capped:
            self._directions.add(direction)

    def grant(self, direction: Direction, limit: int) -> int:
        """Take a limit from a receiver; return the limit to tell the sender."""
        allowed = direction.grant(limit)
        self.add(direction)
        return allowed

    def discard(self, entry: RelayConnection) -> None:
        """Forget both directions of a connection."""
        self._directions.discard(entry.up)
        self._directions.discard(entry.down)

    def allow_more(self, connections: Mapping[ConnectionId, RelayConnection]) -> None:
        """Bytes have left an outbox: send new limits to those who are due them."""
        if not self._directions:
            return
        for direction in tuple(self._directions):
            if not connections[direction.connection].established:
                continue  # OPEN_RESULT brings the first limit
            before = direction.sequence.limit
            after = direction.allow(step=SILLY)
            if after > before:
                ack = Ack(direction.connection, direction.acknowledged, after)
                direction.sender.outbox.put_control(ack)
            if direction.settle():
                self._directions.discard(direction)
