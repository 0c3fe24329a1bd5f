"""Random conversations between a client and a proxy.

The invariant: what one side wrote is what the other reads, whole, in order, once, or both see
a reset.
"""

from __future__ import annotations

from collections.abc import Iterator

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from tests.unit.protocol import cast
from tests.unit.protocol.conversation import Conversation
from tests.unit.protocol.side import Side, Socket
from tunneler.errors import Code
from tunneler.protocol.connection import State
from tunneler.protocol.events import RelayClosed, RelayOpened, RelayRefused
from tunneler.protocol.frames import MAX_PAYLOAD
from tunneler.protocol.window import FLOOR, Budget

MAX_CONNECTIONS = 5
TINY = 1
"""A budget so small that only the floor of each connection is left."""

budgets = st.sampled_from((TINY, 3 * FLOOR, 16 * FLOOR, cast.AMPLE))
lengths = st.one_of(st.integers(1, 64), st.integers(1, FLOOR), st.just(MAX_PAYLOAD))
batch_sizes = st.sampled_from((1, 100, FLOOR, 1 << 20))
picks = st.integers(0, MAX_CONNECTIONS * 2 - 1)
refusals = st.sampled_from((Code.REFUSED, Code.UNREACHABLE, Code.TIMEOUT, Code.DENIED))


class Talk(RuleBasedStateMachine):
    relayed = False
    encoded = False

    @initialize(total=budgets, relay_total=budgets)
    def begin(self, total: int, relay_total: int) -> None:
        self.talk = Conversation(
            relayed=self.relayed, encoded=self.encoded, total=total, relay_total=relay_total
        )
        self.limits: dict[object, int] = {}
        self.peaks: dict[int, int] = {}

    def pick(self, pick: int, *states: State) -> tuple[Side, Socket] | None:
        living = [(side, socket) for side in self.talk.sides for socket in side.living(*states)]
        return living[pick % len(living)] if living else None

    # What happens.

    @precondition(lambda self: len(self.talk.client.sockets) < MAX_CONNECTIONS)
    @rule(early=st.one_of(st.just(0), lengths))
    def open(self, early: int) -> None:
        socket = self.talk.open()
        self.talk.client.write(socket, early, self.talk.now)

    @rule(pick=picks, refusal=st.one_of(st.none(), st.none(), refusals))
    def answer(self, pick: int, refusal: Code | None) -> None:
        waiting = self.talk.proxy.living(State.SYN_RECEIVED)
        if not waiting:
            return
        socket = waiting[pick % len(waiting)]
        if refusal is None:
            self.talk.accept(socket)
        else:
            self.talk.refuse(socket, refusal)

    @rule(pick=picks, length=lengths)
    def write(self, pick: int, length: int) -> None:
        if (picked := self.pick(pick)) and picked[1].may_write:
            picked[0].write(picked[1], length, self.talk.now)

    @rule(pick=picks, length=lengths)
    def read(self, pick: int, length: int) -> None:
        if (picked := self.pick(pick)) and picked[1].opened:
            picked[0].read(picked[1], length)

    @rule(pick=picks)
    def read_everything(self, pick: int) -> None:
        if (picked := self.pick(pick)) and picked[1].opened:
            side, socket = picked
            side.read(socket, socket.arrived)
            if side.may_read_end(socket):
                side.read_end(socket)

    @rule(pick=picks)
    def finish(self, pick: int) -> None:
        if (picked := self.pick(pick)) and picked[1].may_write:
            picked[0].finish(picked[1])

    @rule(pick=picks, meant=st.integers(0, 4))
    def reset(self, pick: int, meant: int) -> None:
        if meant == 0 and (picked := self.pick(pick)):
            picked[0].reset(picked[1])

    @rule(hop=st.integers(0, 3), most=batch_sizes, arrivals=st.sampled_from((0, 1, 3, 1000)))
    def carry(self, hop: int, most: int, arrivals: int) -> None:
        chosen = self.talk.hops[hop % len(self.talk.hops)]
        chosen.transfer(most)
        chosen.arrive(arrivals)

    @rule(seconds=st.sampled_from((0.1, 1.0, 5.0, cast.OPENING_TIMEOUT, cast.IDLE_TIMEOUT)))
    def pass_time(self, seconds: float) -> None:
        self.talk.pass_time(seconds)

    # What holds, always.

    @invariant()
    def memory_is_bounded(self) -> None:
        for budget in self.talk.budgets:
            # A relay still holds what ended connections left to be sent: hence the highest number.
            peak = self.peaks[id(budget)] = max(self.peaks.get(id(budget), 0), budget.connections)
            assert 0 <= budget.outstanding <= budget.total + FLOOR * peak
        for side in self.talk.sides:
            assert side.budget.outstanding <= side.budget.total + FLOOR * side.budget.connections

    @invariant()
    def nobody_holds_more_than_it_allowed(self) -> None:
        for side in self.talk.sides:
            for socket in side.living():
                receiving = socket.connection.receiving
                assert socket.arrived == receiving.sequence.received <= receiving.sequence.limit
                assert receiving.buffered == socket.arrived - socket.read

    @invariant()
    def limits_never_shrink(self) -> None:
        for key, limit in self.current_limits():
            assert limit >= self.limits.get(key, 0)
            self.limits[key] = limit

    @invariant()
    def sender_is_never_allowed_more_than_its_receiver_allows(self) -> None:
        for side, other in (self.talk.sides, self.talk.sides[::-1]):
            for name, connection in side.endpoint.connections.items():
                peer = other.endpoint.connections.get(name)
                if peer is not None:
                    assert connection.sending.limit <= peer.receiving.sequence.limit

    @invariant()
    def refused_connection_carries_nothing_back(self) -> None:
        for name, socket in self.talk.client.sockets.items():
            proxied = self.talk.proxy.sockets.get(name)
            if socket.arrived:
                assert socket.opened
                assert proxied is not None
                assert proxied.opened

    def current_limits(self) -> Iterator[tuple[object, int]]:
        for side in self.talk.sides:
            for name, connection in side.endpoint.connections.items():
                yield (side.side, name, "sending"), connection.sending.limit
                yield (side.side, name, "receiving"), connection.receiving.sequence.limit
        if self.talk.stage:
            for name, entry in self.talk.stage.relay.connections.items():
                yield (name, "up"), entry.up.sequence.limit
                yield (name, "down"), entry.down.sequence.limit

    # How it ends.

    def teardown(self) -> None:
        if not hasattr(self, "talk"):
            return
        self.talk.play_out(2 * FLOOR + 1)
        for name, socket in self.talk.client.sockets.items():
            check_outcome(socket, self.talk.proxy.sockets.get(name))
        for side in self.talk.sides:
            assert not side.endpoint.connections
            assert not len(side.endpoint._opening)
            assert not len(side.endpoint._idle)
        for hop in self.talk.hops:
            assert hop.outbox.size == 0
        for budget in self.talk.budgets:
            assert_given_back(budget)
        if self.talk.stage:
            self.check_relay(self.talk.stage)

    def check_relay(self, stage: cast.RelayStage) -> None:
        relay = stage.relay
        assert not relay.connections
        assert not relay._held_back
        assert not len(relay._opening)
        assert not len(relay._idle)
        assert not stage.client.connections
        assert not stage.proxy.connections
        opened = {event.connection for event in self.talk.relay_events if isinstance(event, RelayOpened)}
        closed = [event for event in self.talk.relay_events if isinstance(event, RelayClosed)]
        refused = {event.connection for event in self.talk.relay_events if isinstance(event, RelayRefused)}
        assert sorted(opened) == sorted(event.connection for event in closed)
        assert not opened & refused
        for event in closed:
            assert event.fault is None
            if event.code is Code.OK:
                assert event.bytes_up == self.talk.client.sockets[event.connection].written
                assert event.bytes_down == self.talk.proxy.sockets[event.connection].written


def check_outcome(client: Socket, proxy: Socket | None) -> None:
    """Both ended; and where one saw an orderly end, both applications read everything."""
    assert client.outcome is not None, f"stuck in {client.connection.state}"
    if proxy is None:
        assert client.outcome is not Code.OK
        return
    assert proxy.outcome is not None, f"stuck in {proxy.connection.state}"
    if Code.OK in (client.outcome, proxy.outcome):
        assert client.read == proxy.written
        assert proxy.read == client.written
        assert client.end_read
        assert proxy.end_read


def assert_given_back(budget: Budget) -> None:
    assert budget.connections == 0
    assert budget.outstanding == 0


class EncodedTalk(Talk):
    encoded = True


class RelayedTalk(Talk):
    relayed = True


class RelayedEncodedTalk(Talk):
    relayed = True
    encoded = True


TestStraight = Talk.TestCase
TestStraightAsBytes = EncodedTalk.TestCase
TestThroughRelay = RelayedTalk.TestCase
TestThroughRelayAsBytes = RelayedEncodedTalk.TestCase

Talk.TestCase.settings = settings(stateful_step_count=60)
for _machine in (EncodedTalk, RelayedTalk, RelayedEncodedTalk):
    _machine.TestCase.settings = Talk.TestCase.settings


def test_undisturbed_conversation_ends_in_good_order() -> None:
    for relayed in (False, True):
        for total in (TINY, cast.AMPLE):
            talk = Conversation(relayed=relayed, encoded=True, total=total, relay_total=total)
            sockets = [talk.open() for _ in range(3)]
            talk.play_out(20 * FLOOR)
            for socket in sockets:
                proxied = talk.proxy.sockets[socket.connection.id]
                assert (socket.outcome, proxied.outcome) == (Code.OK, Code.OK)
                assert socket.read == proxied.read == 20 * FLOOR
