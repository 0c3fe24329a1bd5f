"""Flow control: how far a sender may go, and how far the receiver has come.

Offsets count the bytes of one direction of one connection from 0; FIN takes the place after
the last byte, as in TCP, so that an ACK can cover it. Limits are absolute (RFC 9000 section
4.1, MAX_STREAM_DATA): repeating one is harmless, and a limit never shrinks.

Memory is bounded by a :class:`Budget` that all connections of a process share. What a
connection may be sent but has not handed to its socket is *outstanding*; the sum never
exceeds the budget by more than ``FLOOR`` for each connection, which every connection gets
so that it can always make progress.
"""

from __future__ import annotations

from typing import Final

from tunneler.errors import Code, ConnectionFault, LocalProtocolError

FLOOR: Final = 64 * 1024
"""Bytes that may always be sent to a new connection, even before OPEN_RESULT."""

SILLY: Final = FLOOR // 4
"""A window is not moved by less than this (RFC 1122 section 4.2.3.3)."""

CEILING: Final = 16 * 1024 * 1024
"""Largest window, in bytes: 1.3 Gbit/s over a round trip of 100 ms."""


class Budget:
    """Bytes that the connections of one process may be sent but have not handed on."""

    __slots__ = ("_connections", "_total", "outstanding", "share")

    def __init__(self, total: int) -> None:
        self._total = total
        self.connections = 0
        self.outstanding = 0

    @property
    def total(self) -> int:
        return self._total

    @total.setter
    def total(self, total: int) -> None:
        """What is outstanding stays so: a smaller budget is met as senders use up their limits."""
        self._total = total
        self.connections = self._connections

    @property
    def connections(self) -> int:
        return self._connections

    @connections.setter
    def connections(self, number: int) -> None:
        self._connections = number
        self.share = min(max(self._total // max(1, number), FLOOR), CEILING)
        """Window of one connection, were all of them busy."""

    @property
    def free(self) -> int:
        return max(0, self._total - self.outstanding)


class Sequence:
    """The bytes of one direction as they arrive: in order, once, within the limit."""

    __slots__ = ("duplicates", "fin", "limit", "received")

    def __init__(self, limit: int) -> None:
        self.received = 0
        self.limit = limit
        self.fin: int | None = None
        self.duplicates = 0

    def accept_data(self, offset: int, length: int) -> int:
        """Note bytes that arrived; return how many at their start are repeats, to be dropped.

        Raises:
            ConnectionFault: they leave a gap, pass the limit or follow FIN.
        """
        received = self.received
        end = offset + length
        if end > self.limit:
            raise ConnectionFault(f"DATA up to {end} passes the limit {self.limit}", Code.FLOW_CONTROL)
        if offset == received and self.fin is None:
            self.received = end
            return 0
        if offset > received:
            raise ConnectionFault(f"DATA at {offset} leaves a gap after {received}")
        if self.fin is not None and end > self.fin:
            raise ConnectionFault(f"DATA up to {end} follows FIN at {self.fin}")
        self.duplicates += 1
        repeated = min(length, received - offset)
        self.received = max(received, end)
        return repeated

    def accept_fin(self, offset: int) -> bool:
        """Note FIN; return whether it is new (False: a repeat, to be dropped).

        Raises:
            ConnectionFault: it is not where the data ended.
        """
        if self.fin is not None:
            if offset != self.fin:
                raise ConnectionFault(f"FIN at {offset} contradicts FIN at {self.fin}")
            self.duplicates += 1
            return False
        if offset != self.received:
            raise ConnectionFault(f"FIN at {offset}, but the data ended at {self.received}")
        self.fin = offset
        return True


class ReceiveWindow:
    """One end's view of what it is sent: order, what was handed over, and what to allow next.

    The window starts at ``FLOOR`` and grows with what its reader has really taken, up to the
    connection's share of the budget: a reader that never reads never costs more than
    ``FLOOR``, and a fast one has its full share after a few round trips.
    """

    __slots__ = ("_budget", "handed_over", "sequence")

    def __init__(self, budget: Budget) -> None:
        self.sequence = Sequence(FLOOR)
        self.handed_over = 0
        self._budget = budget
        budget.connections += 1
        budget.outstanding += FLOOR

    def hand_over(self, length: int) -> bool:
        """Note bytes that the local socket took; return whether the peer should hear of it.

        Raises:
            LocalProtocolError: more bytes than arrived.
        """
        sequence, budget = self.sequence, self._budget
        handed_over = self.handed_over = self.handed_over + length
        if handed_over > sequence.received:
            raise LocalProtocolError(f"{handed_over} bytes handed over of {sequence.received}")
        budget.outstanding -= length
        grown = FLOOR + handed_over
        if grown > budget.share:
            grown = budget.share
        extension = handed_over + grown - sequence.limit
        if extension < grown // 4 or sequence.fin is not None:
            return False
        least = handed_over + FLOOR - sequence.limit
        extension = max(min(extension, budget.free), least)
        if extension < SILLY:
            return False
        sequence.limit += extension
        budget.outstanding += extension
        return True

    @property
    def buffered(self) -> int:
        """Bytes that have arrived and not been handed over."""
        return self.sequence.received - self.handed_over

    def release(self) -> None:
        """Give back what the connection held of the budget. Call once, when it ends."""
        self._budget.outstanding -= self.sequence.limit - self.handed_over
        self._budget.connections -= 1


class SendWindow:
    """One end's view of what it sends."""

    __slots__ = ("acknowledged", "fin", "limit", "sent")

    def __init__(self, limit: int) -> None:
        self.sent = 0
        self.limit = limit
        self.acknowledged = 0
        self.fin: int | None = None

    @property
    def room(self) -> int:
        """Bytes that may be sent now."""
        return self.limit - self.sent

    def raise_limit(self, limit: int) -> bool:
        """Take a limit from the peer; return whether this ended a wait for room.

        An old limit that arrives late is ignored.
        """
        had_room = self.limit > self.sent
        self.limit = max(self.limit, limit)
        return not had_room and self.limit > self.sent

    def acknowledge(self, offset: int) -> bool:
        """Note how far the peer has come; return whether that is FIN, for the first time.

        Raises:
            ConnectionFault: further than anything was sent.
        """
        end = self.sent if self.fin is None else self.fin + 1
        if offset > end:
            raise ConnectionFault(f"ACK of {offset}, but only {end} was sent")
        newly = offset > self.acknowledged
        self.acknowledged = max(self.acknowledged, offset)
        return newly and self.fin is not None and offset == end
