"""One connection as the server sees it: two directions that pass through.

The server checks what the two ends may assume of each other (order, limits, FIN), and holds
no more of any connection than its own memory allows: towards the sender it may lower the
receiver's limit, and raises it again as bytes leave. It never promises what the receiver did
not.
"""

from __future__ import annotations

from tunneler.addresses import ConnectionId
from tunneler.errors import Code, ConnectionFault
from tunneler.protocol.events import RelayClosed, RelayRefused
from tunneler.protocol.frames import MAX_OFFSET, Ack, Data, Fin, Open, Party, SealedData
from tunneler.protocol.outbox import Outbox
from tunneler.protocol.window import FLOOR, SILLY, Budget, Sequence


class RelayLink:
    """A client's or a proxy's link, as the relay knows it."""

    __slots__ = ("attached", "connections", "draining", "outbox", "party", "role", "strays")

    def __init__(self, party: Party, outbox: Outbox) -> None:
        self.party = party
        self.role = party.identity.role
        self.outbox = outbox
        self.connections: set[ConnectionId] = set()
        self.draining = False
        self.attached = False
        self.strays = 0
        """Frames for connections of other parties."""


class Direction:
    """Bytes from one end to the other, through here."""

    __slots__ = (
        "_budget", "acknowledged", "connection", "finished", "granted", "look_at", "receiver", "sender",
        "sequence",
    )  # fmt: skip

    def __init__(
        self, connection: ConnectionId, sender: RelayLink, receiver: RelayLink, budget: Budget
    ) -> None:
        self.connection = connection
        self.sender = sender
        self.receiver = receiver
        self.sequence = Sequence(FLOOR)
        self.granted = FLOOR
        self.acknowledged = 0
        self.finished = False
        self.look_at = MAX_OFFSET
        """How far the bytes must have come before the sender might be allowed more, see :meth:`settle`."""
        self._budget = budget
        budget.connections += 1
        budget.outstanding += FLOOR

    @property
    def capped(self) -> bool:
        """Whether the sender was told less than the receiver allows."""
        return self.sequence.limit < self.granted

    def grant(self, limit: int) -> int:
        """Take a limit from the receiver; return the limit to tell the sender."""
        self.granted = max(self.granted, limit)
        return self.allow()

    def allow(self, step: int = 1) -> int:
        """Allow the sender what the receiver granted and our memory has room for.

        Args:
            step: by how much at least, if as much was granted; less is left for the next time.
        """
        budget, sequence = self._budget, self.sequence
        sent_on = self._sent_on
        least = min(self.granted, sent_on + FLOOR)
        wanted = min(self.granted, sent_on + budget.share)
        limit = max(least, min(wanted, sequence.limit + budget.free))
        if limit - sequence.limit >= max(1, min(step, self.granted - sequence.limit)):
            budget.outstanding += limit - sequence.limit
            sequence.limit = limit
        return sequence.limit

    def settle(self) -> bool:
        """Whether nothing more can be allowed until more bytes have come: then ``look_at`` says how far.

        It cannot while bytes wait here, or the budget is what holds the sender back.
        """
        sequence = self.sequence
        sent_on = self._sent_on
        left = sent_on + self._budget.share - sequence.limit
        if not self.capped:
            self.look_at = MAX_OFFSET
        elif sent_on < sequence.received or left >= min(SILLY, self.granted - sequence.limit):
            return False
        else:
            self.look_at = sent_on + SILLY - left
        return True

    @property
    def _sent_on(self) -> int:
        return self.sequence.received - self.receiver.outbox.queued_bytes(self.connection)

    def pass_data(self, frame: Data | SealedData) -> bool:
        """Send on what of the frame is new; return whether the sender may be due a new limit.

        Raises:
            ConnectionFault: it leaves a gap, passes the limit or follows FIN.
        """
        sequence = self.sequence
        length = frame.length
        repeated = sequence.accept_data(frame.offset, length)
        if not repeated:
            self.receiver.outbox.put(frame)
        elif repeated < length:
            fresh = Data(frame.connection, frame.offset + repeated, frame.payload[repeated:])
            self.receiver.outbox.put(fresh)
        return sequence.received >= self.look_at

    def pass_fin(self, frame: Fin) -> None:
        """Send FIN on, unless it is a repeat.

        Raises:
            ConnectionFault: it is not where the data ended.
        """
        if self.sequence.accept_fin(frame.offset):
            self.receiver.outbox.put(frame)

    def acknowledge(self, frame: Ack) -> Ack:
        """Take the receiver's ACK; return the one to pass on.

        Raises:
            ConnectionFault: it covers what was never sent.
        """
        fin = self.sequence.fin
        end = self.sequence.received if fin is None else fin + 1
        if frame.offset > end:
            raise ConnectionFault(f"ACK of {frame.offset}, but only {end} was sent")
        self.acknowledged = max(self.acknowledged, frame.offset)
        self.finished = fin is not None and self.acknowledged == end
        return Ack(frame.connection, frame.offset, self.grant(frame.limit))

    def release(self) -> None:
        """Give back what was promised and not used; what is queued is given back as it leaves."""
        self._budget.outstanding -= self.sequence.limit - self.sequence.received
        self._budget.connections -= 1


class RelayConnection:
    """The server's entry for one connection."""

    __slots__ = ("client", "down", "ends", "established", "heard", "opened", "proxy", "request", "up")

    def __init__(
        self, request: Open, client: RelayLink, proxy: RelayLink, budget: Budget, now: float
    ) -> None:
        self.request = request
        self.client = client
        self.proxy = proxy
        self.ends = (client, proxy)
        self.up = Direction(request.connection, client, proxy, budget)
        self.down = Direction(request.connection, proxy, client, budget)
        self.established = False
        self.opened = now
        self.heard = now
        """When the last frame came."""

    @property
    def finished(self) -> bool:
        return self.up.finished and self.down.finished

    def direction_from(self, link: RelayLink) -> Direction:
        """The direction in which an end may send data now.

        Raises:
            ConnectionFault: a proxy that has not answered OPEN yet.
        """
        if link is self.client:
            return self.up
        if not self.established:
            raise ConnectionFault("data before OpenResult")
        return self.down

    def other_end(self, link: RelayLink) -> tuple[RelayLink]:
        """Whom to tell what ``link`` did."""
        return (self.proxy if link is self.client else self.client,)

    def account(self, code: Code, now: float, fault: ConnectionFault | None) -> RelayRefused | RelayClosed:
        """What is to be told about the connection, now that it is over."""
        request, client, proxy = self.request, self.client.party, self.proxy.party
        if not self.established:
            return RelayRefused(request.connection, client, proxy, request.source, request.destination, code)
        return RelayClosed(
            request.connection,
            client,
            proxy,
            request.destination,
            code,
            bytes_up=self.up.sequence.received,
            bytes_down=self.down.sequence.received,
            duration=now - self.opened,
            fault=fault,
        )

    def release(self) -> None:
        self.up.release()
        self.down.release()
