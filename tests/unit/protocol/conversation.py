"""A client and a proxy that talk: straight, or through a relay, as frames or as bytes.

Every party is the real core; only the sockets (``side.py``) and the wire between are of the tests.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from itertools import count

from tests.unit.protocol import cast
from tests.unit.protocol.side import Side, Socket
from tunneler.errors import Code
from tunneler.protocol.connection import State
from tunneler.protocol.events import RelayEvent
from tunneler.protocol.frames import Frame
from tunneler.protocol.outbox import Outbox
from tunneler.protocol.relay_connection import RelayLink
from tunneler.protocol.window import FLOOR, Budget
from tunneler.wire.codec import decode, encode


class Hop:
    """One direction of one link: what is in flight, in order."""

    def __init__(
        self,
        outbox: Outbox,
        deliver: Callable[[Frame], None],
        *,
        encoded: bool,
        sealed: bool = False,
        taken: Callable[[], None] = cast.asleep,
    ) -> None:
        self.outbox = outbox
        self._deliver = deliver
        self._encoded = encoded
        self._sealed = sealed
        self._taken = taken
        self._flight: deque[bytes | list[Frame]] = deque()

    def transfer(self, most: int) -> None:
        """Write one batch of about ``most`` bytes."""
        frames = self.outbox.take(most)
        if not frames:
            return
        self._taken()
        if self._encoded:
            self._flight.append(encode(frames))
        else:
            self._flight.extend([frame] for frame in frames)

    def arrive(self, most: int) -> int:
        """Deliver up to ``most`` batches (frames, where nothing is encoded); return how many."""
        for delivered in range(most):
            if not self._flight:
                return delivered
            batch = self._flight.popleft()
            for frame in decode(batch, sealed=self._sealed) if isinstance(batch, bytes) else batch:
                self._deliver(frame)
        return most

    @property
    def idle(self) -> bool:
        return not self._flight and not self.outbox


class Conversation:
    """The parties, the hops between them, and the time."""

    def __init__(self, *, relayed: bool, encoded: bool, total: int, relay_total: int) -> None:
        self.now = 0.0
        self.client = Side("client", total)
        self.proxy = Side("proxy", total)
        self.stage: cast.RelayStage | None = None
        self.relay_events: list[RelayEvent] = []
        self._numbers = count(1)
        if relayed:
            self.stage = cast.RelayStage(relay_total)
            self.hops = self._relayed_hops(self.stage, encoded)
        else:
            self.hops = self._direct_hops(encoded)

    @property
    def sides(self) -> tuple[Side, Side]:
        return self.client, self.proxy

    @property
    def budgets(self) -> Iterator[Budget]:
        yield self.client.budget
        yield self.proxy.budget
        if self.stage:
            yield self.stage.budget

    def open(self) -> Socket:
        frame = cast.open_frame(next(self._numbers))
        return self.client.adopt(self.client.endpoint.open(frame, self.now))

    def accept(self, socket: Socket) -> None:
        self.proxy.endpoint.accept(socket.connection)
        socket.opened = True

    def refuse(self, socket: Socket, code: Code) -> None:
        self.proxy.endpoint.refuse(socket.connection, code)
        socket.outcome = code

    def pass_time(self, seconds: float) -> None:
        self.now += seconds
        for side in self.sides:
            for event in side.endpoint.expire(self.now):
                side.act(event)
        if self.stage:
            self.relay_events += self.stage.relay.expire(self.now)

    def settle(self) -> None:
        """Deliver everything that is on its way, and what that brings about."""
        for _ in range(1000):
            if all(hop.idle for hop in self.hops):
                return
            for hop in self.hops:
                hop.transfer(1 << 20)
                hop.arrive(1 << 20)
        raise AssertionError("frames go round for ever")

    def play_out(self, more: int) -> None:
        """Accept what waits, write ``more`` bytes each way, read everything, and close."""
        goals = {
            (side.side, name): socket.written + more
            for side in self.sides
            for name, socket in side.sockets.items()
            if not socket.finished
        }
        for _ in range(20 + 4 * more // FLOOR):
            self.settle()
            for socket in self.proxy.living(State.SYN_RECEIVED):
                self.accept(socket)
            for side in self.sides:
                for socket in side.living():
                    self._advance(side, socket, goals.get((side.side, socket.connection.id), more))
        self.settle()

    def _advance(self, side: Side, socket: Socket, goal: int) -> None:
        while socket.may_write and socket.written < goal:
            side.write(socket, goal - socket.written, self.now)
        if socket.may_write and socket.written >= goal:
            side.finish(socket)
        if socket.outcome is None and socket.opened:
            side.read(socket, socket.arrived)
            if side.may_read_end(socket):
                side.read_end(socket)

    def _direct_hops(self, encoded: bool) -> tuple[Hop, ...]:
        return (
            Hop(self.client.outbox, lambda frame: self.proxy.deliver(frame, self.now), encoded=encoded),
            Hop(self.proxy.outbox, lambda frame: self.client.deliver(frame, self.now), encoded=encoded),
        )

    def _relayed_hops(self, stage: cast.RelayStage, encoded: bool) -> tuple[Hop, ...]:
        hops: list[Hop] = []
        for side, link in ((self.client, stage.client), (self.proxy, stage.proxy)):
            hops.append(Hop(side.outbox, self._into_relay(stage, link), encoded=encoded, sealed=True))
            hops.append(Hop(link.outbox, self._into_side(side), encoded=encoded, taken=stage.relay.sent))
        return tuple(hops)

    def _into_side(self, side: Side) -> Callable[[Frame], None]:
        return lambda frame: side.deliver(frame, self.now)

    def _into_relay(self, stage: cast.RelayStage, link: RelayLink) -> Callable[[Frame], None]:
        def deliver(frame: Frame) -> None:
            event = stage.relay.receive(link, frame, self.now)  # type: ignore[arg-type]  # see Side.deliver
            if event is not None:
                self.relay_events.append(event)

        return deliver
