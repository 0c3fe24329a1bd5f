"""What a relay passes on unopened is what it would have passed on opened."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from tests.unit.protocol.cast import (
    AMPLE,
    OTHER_CLIENT,
    RelayStage,
    name,
    open_frame,
    payload_of,
    seal,
)
from tunneler.errors import Code, ConnectionFault
from tunneler.protocol.events import RelayClosed, RelayRefused, RelayStray
from tunneler.protocol.frames import Ack, Data, Fin, Frame, Reset
from tunneler.protocol.outbox import FRAME_OVERHEAD, JOINED_BYTES
from tunneler.protocol.window import FLOOR, SILLY
from tunneler.wire.codec import decode, encode

ONE = name(1)
CONNECTIONS = (1, 2, 3)

lengths = st.integers(1, 40) | st.sampled_from((JOINED_BYTES - 1, JOINED_BYTES, 5000, FLOOR))
wrongs = st.sampled_from((0, 0, 0, 0, 0, -3, -50, 1, -5000))
steps = st.lists(
    st.one_of(
        st.tuples(st.just("data"), st.sampled_from(CONNECTIONS), wrongs, lengths),
        st.tuples(st.just("ack"), st.sampled_from(CONNECTIONS), st.just(0), st.integers(0, 4 * FLOOR)),
        st.tuples(st.just("fin"), st.sampled_from(CONNECTIONS), st.just(0), st.just(0)),
        st.tuples(st.just("take"), st.just(0), st.just(0), st.sampled_from((1, 3000, FLOOR, 1 << 20))),
        st.tuples(st.just("reset"), st.sampled_from((1, 1, 1, 2)), st.just(0), st.just(0)),
    ),
    max_size=50,
)


def content(number: int, offset: int, length: int) -> bytes:
    """The bytes of a connection at a place: a repeat says the same again."""
    return bytes((number * 31 + at % 251) % 256 for at in range(offset, offset + length))


class Twin:
    """The same relay twice: one that gets DATA opened, one that gets it sealed."""

    def __init__(self, total: int) -> None:
        self.opened, self.sealed = RelayStage(total), RelayStage(total)
        for number in CONNECTIONS:
            self.opened.open(number)
            self.sealed.open(number)

    def receive(self, frame: Data | Fin | Ack | Reset, *, from_proxy: bool = False) -> None:
        events = []
        for stage in (self.opened, self.sealed):
            said = seal(frame) if stage is self.sealed and isinstance(frame, Data) else frame
            events.append(stage.relay.receive(stage.proxy if from_proxy else stage.client, said, 1.0))
        without_faults = [
            (event._replace(fault=str(event.fault)), type(event.fault))  # type: ignore[arg-type]
            if isinstance(event, RelayClosed)
            else event
            for event in events
        ]
        assert without_faults[0] == without_faults[1]

    def take(self, most: int) -> None:
        batches: list[list[list[Frame]]] = []
        for stage in (self.opened, self.sealed):
            taken = [decode(encode(link.outbox.take(most))) for link in (stage.proxy, stage.client)]
            stage.relay.sent()
            batches.append(taken)
        assert batches[0] == batches[1]

    def check(self) -> None:
        for opened, sealed in (
            (self.opened.proxy, self.sealed.proxy),
            (self.opened.client, self.sealed.client),
        ):
            assert opened.outbox.size == sealed.outbox.size
            for number in CONNECTIONS:
                queued = opened.outbox.queued_bytes(name(number))
                assert sealed.outbox.queued_bytes(name(number)) == queued
        assert self.opened.budget.outstanding == self.sealed.budget.outstanding
        assert list(self.opened.relay.connections) == list(self.sealed.relay.connections)


@given(steps, st.sampled_from((AMPLE, 3 * FLOOR)))
def test_as_if_it_were_opened(script: list[tuple[str, int, int, int]], total: int) -> None:
    twin = Twin(total)
    for action, number, wrong, amount in script:
        entry = twin.opened.relay.connections.get(name(number))
        received = entry.up.sequence.received if entry else 0
        match action:
            case "data":
                offset = max(0, received + wrong)
                twin.receive(Data(name(number), offset, content(number, offset, amount)))
            case "ack":
                twin.receive(Ack(name(number), 0, amount), from_proxy=True)
            case "fin":
                twin.receive(Fin(name(number), received))
            case "reset":
                twin.receive(Reset(name(number), Code.IDLE), from_proxy=bool(received % 2))
            case "take":
                twin.take(amount)
        twin.check()
    while twin.opened.proxy.outbox or twin.opened.client.outbox:
        twin.take(1 << 20)
    twin.check()


def test_passed_on_as_it_came() -> None:
    stage = RelayStage()
    stage.open()
    frame = seal(Data(ONE, 0, bytes(2000)))
    assert stage.relay.receive(stage.client, frame, 0.0) is None
    (passed,) = stage.proxy.outbox.take()
    assert passed is frame


def test_what_is_new_of_a_repeat() -> None:
    stage = RelayStage()
    stage.open()
    stage.relay.receive(stage.client, seal(Data(ONE, 0, b"abc")), 0.0)
    stage.proxy.outbox.take()
    stage.relay.receive(stage.client, seal(Data(ONE, 1, b"bcde")), 0.0)
    stage.relay.receive(stage.client, seal(Data(ONE, 0, b"abcde")), 0.0)
    assert stage.proxy.outbox.take() == [Data(ONE, 3, b"de")]
    assert stage.relay.connections[ONE].up.sequence.duplicates == 2


def test_faults_are_found_unopened() -> None:
    for frame, code in (
        (Data(ONE, 1, b"x"), Code.PROTOCOL),
        (Data(ONE, 0, bytes(FLOOR + 1)), Code.FLOW_CONTROL),
    ):
        stage = RelayStage()
        stage.open()
        event = stage.relay.receive(stage.client, seal(frame), 0.0)
        assert isinstance(event, RelayClosed)
        assert isinstance(event.fault, ConnectionFault)
        assert event.code is code
        assert stage.client.outbox.take() == stage.proxy.outbox.take() == [Reset(ONE, code)]


def test_proxy_that_talks_before_it_answers() -> None:
    stage = RelayStage()
    stage.relay.receive(stage.client, open_frame(), 0.0)
    event = stage.relay.receive(stage.proxy, seal(Data(ONE, 0, b"x")), 0.0)
    assert isinstance(event, RelayRefused)
    assert stage.client.outbox.take() == [Reset(ONE, Code.PROTOCOL)]


def test_unknown_and_strange_connections() -> None:
    stage = RelayStage()
    stage.open()
    intruder = stage.attach(OTHER_CLIENT)
    assert stage.relay.receive(stage.client, seal(Data(name(9), 0, b"x")), 0.0) is None
    assert stage.client.outbox.take() == [Reset(name(9), Code.UNKNOWN_CONNECTION)]
    event = stage.relay.receive(intruder, seal(Data(ONE, 0, b"x")), 0.0)
    assert event == RelayStray(ONE, OTHER_CLIENT, "Data")
    assert intruder.outbox.take() == [Reset(ONE, Code.UNKNOWN_CONNECTION)]
    assert not stage.proxy.outbox
    stage.relay.detach(stage.client, Code.LINK_LOST, 0.0)
    stage.proxy.outbox.take()
    assert stage.relay.receive(stage.client, seal(Data(ONE, 0, b"x")), 0.0) is None
    assert not stage.proxy.outbox


def test_flood_of_single_bytes_towards_a_stalled_receiver() -> None:
    """A window of single bytes costs about a window, not a frame for each byte."""
    stage = RelayStage()
    stage.open()
    for offset in range(FLOOR):
        stage.relay.receive(stage.client, seal(Data(ONE, offset, content(1, offset, 1))), 0.0)
    assert stage.proxy.outbox.size <= FLOOR + FRAME_OVERHEAD * (FLOOR // JOINED_BYTES + 1)
    frames = stage.proxy.outbox.take()
    assert len(frames) <= FLOOR // JOINED_BYTES + 1
    assert payload_of(frames) == content(1, 0, FLOOR)


class TestSendersHeldBack:
    """Capped connections are looked at when their bytes have moved, and not whenever anybody's have."""

    def capped(self) -> RelayStage:
        stage = RelayStage(8 * FLOOR)
        stage.open()
        stage.relay.receive(stage.proxy, Ack(ONE, 0, 2**40), 0.0)
        stage.relay.sent()
        stage.client.outbox.take()
        return stage

    def test_idle_one_costs_nothing(self) -> None:
        stage = self.capped()
        assert stage.relay.connections[ONE].up.capped
        assert not stage.relay._held_back

    def test_limit_moves_on_with_the_bytes(self) -> None:
        """By a step that is worth a frame, and before the sender is stuck."""
        stage = self.capped()
        direction = stage.relay.connections[ONE].up
        limits: list[int] = []
        for offset in range(0, 20 * FLOOR, 1000):
            assert direction.sequence.limit - offset > 2 * FLOOR
            stage.relay.receive(stage.client, seal(Data(ONE, offset, bytes(1000))), 0.0)
            stage.proxy.outbox.take()
            stage.relay.sent()
            limits += [frame.limit for frame in stage.client.outbox.take() if isinstance(frame, Ack)]
            assert len(stage.relay._held_back) == 0
        moves = [after - before for before, after in itertools.pairwise(limits)]
        assert len(moves) > 10
        assert min(moves) >= SILLY

    def test_bytes_that_wait_are_waited_for(self) -> None:
        stage = self.capped()
        limit = stage.relay.connections[ONE].up.sequence.limit
        for offset in range(0, limit, FLOOR):
            stage.relay.receive(stage.client, seal(Data(ONE, offset, bytes(FLOOR))), 0.0)
        stage.relay.sent()
        assert not stage.client.outbox
        stage.proxy.outbox.take()
        stage.relay.sent()
        (ack,) = stage.client.outbox.take()
        assert isinstance(ack, Ack)
        assert ack.limit > limit
