"""A client and a server that do whatever they may, on a link that cuts anywhere, against a model.

What was sent is what arrives, in order and once, on its own call; every call ends once on each
side, for the right reason; nobody passes a window or a frame size; and in the end nothing is left.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from tests.unit.http2.auditor import Auditor
from tests.unit.http2.pair import LIMIT, PATH, Side
from tests.unit.http2.reading import receive
from tunneler.http2 import frames
from tunneler.http2.codes import ErrorCode, Status
from tunneler.http2.events import (
    CallEnded,
    Event,
    HalfClosed,
    MessageReceived,
    RequestReceived,
    ResponseReceived,
    RoomMade,
    StreamReset,
)
from tunneler.http2.grpc import Outcome
from tunneler.http2.limits import MAX_STREAMS, SETTINGS, WINDOW

LATE = 0.8
"""When what ends many things at once may happen; each arrival takes a twentieth."""

AROUND = [0, 1, 11, 16_378, 16_379, 16_380, 32_763, 65_529, 65_530, 65_531, LIMIT - 1, LIMIT]
"""Messages about as large as a frame, a window or the limit."""

sizes = st.one_of(st.sampled_from([9, 100_000, 300_000]), st.integers(1, 40_000))
settings_of_a_peer = st.tuples(
    st.one_of(st.none(), st.sampled_from([0, 1, 5, 16_384, 65_535, 1 << 20])),
    st.one_of(st.none(), st.sampled_from([16_384, 16_385, 20_000, 1 << 20])),
    st.one_of(st.none(), st.sampled_from([0, 100, 4096])),
)
choice = st.integers(0, 7)
messages = st.builds(
    lambda size, filling: bytes((filling,)) * size,
    st.one_of(st.sampled_from(AROUND), st.integers(0, 300)),
    st.integers(0, 255),
)


@dataclass
class Half:
    """What one side has done and seen of a call."""

    sent: list[bytes] = field(default_factory=list)
    received: list[bytes] = field(default_factory=list)
    begun: bool = False
    ending: Status | None = None
    """How it ended its half, for a client OK."""
    reset: ErrorCode | None = None
    half_closed: bool = False
    end: CallEnded | StreamReset | None = None
    """What it was told."""
    waits: bool = False

    @property
    def may_send(self) -> bool:
        return self.begun and self.ending is None and self.reset is None and self.end is None


class Conversation(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.client = Side(client_side=True)
        self.server = Side(client_side=False)
        self.auditors = {True: Auditor(client_side=True), False: Auditor(client_side=False)}
        self.halves: dict[bool, dict[int, Half]] = {True: {}, False: {}}
        self.goaway_sent = False
        self.told = 0

    # The link.

    def other(self, side: Side) -> Side:
        return self.server if side is self.client else self.client

    def flush(self, side: Side) -> None:
        written = b"".join(side.connection.output.take())
        self.auditors[side is self.client].wrote(written)
        self.other(side).under_way += written

    def arrive(self, side: Side, size: int) -> None:
        """What a side wrote before counts by what it knew before."""
        self.flush(side)
        chunk = bytes(side.under_way[:size])
        del side.under_way[:size]
        self.auditors[side is self.client].got(chunk)
        for event in receive(side.connection, chunk, now=self.now):
            self.note(side, event)
        self.now += 0.05

    def note(self, side: Side, event: Event) -> None:
        halves = self.halves[side is self.client]
        if isinstance(event, RequestReceived):
            assert side is self.server
            assert event.stream not in halves
            halves[event.stream] = Half()
            return
        if isinstance(
            event, MessageReceived | HalfClosed | RoomMade | ResponseReceived | CallEnded | StreamReset
        ):
            half = halves[event.stream]
            assert half.end is None, "an event after the end"
            assert half.reset is None, "an event after our reset"
            self.note_half(side, half, event)

    def note_half(self, side: Side, half: Half, event: Event) -> None:
        match event:
            case MessageReceived(message=message):
                assert not half.half_closed
                half.received.append(message)
            case HalfClosed():
                assert side is self.server
                assert not half.half_closed
                half.half_closed = True
            case RoomMade():
                assert half.waits
                half.waits = False
            case ResponseReceived():
                assert side is self.client
                assert not half.received
            case CallEnded() | StreamReset():
                half.end = event
            case _:
                raise AssertionError(event)

    @initialize(calls=st.integers(1, 4), window=st.sampled_from([None, None, 0, 100, 20_000]))
    def begin(self, calls: int, window: int | None) -> None:
        """Some calls that are answered, with little window perhaps."""
        for _ in range(calls):
            self.request()
        self.exchange()
        for which in range(calls - 1):
            self.respond(which)
        self.exchange()
        if window is not None:
            for to_client in (True, False):
                self.settings(to_client, (window, None, None), 1)
            self.exchange()

    def exchange(self) -> None:
        """All that is under way arrives."""
        for side in (self.client, self.server):
            self.flush(self.other(side))
            self.arrive(side, len(side.under_way))

    @rule(to_client=st.booleans(), sizes=st.lists(sizes, min_size=1, max_size=4))
    def deliver(self, to_client: bool, sizes: list[int]) -> None:
        side = self.client if to_client else self.server
        self.flush(self.other(side))
        for size in sizes:
            self.arrive(side, size)

    @rule(to_client=st.booleans(), most=st.integers(1, 12))
    def trickle(self, to_client: bool, most: int) -> None:
        """Some small pieces, so that heads of frames are cut."""
        side = self.client if to_client else self.server
        self.flush(self.other(side))
        for _ in range(most):
            self.arrive(side, 5)

    # What the two do.

    @precondition(lambda self: self.client.connection.streams < MAX_STREAMS and not self.goaway_sent)
    @rule()
    def request(self) -> None:
        number = self.client.connection.request(PATH, "server", secure=True)
        assert number not in self.halves[True]
        self.halves[True][number] = Half(begun=True)

    def chosen(self, of_client: bool, which: int, *, sending: bool = False) -> tuple[int, Half] | None:
        found = [
            (number, half)
            for number, half in self.halves[of_client].items()
            if half.end is None and half.reset is None and (half.may_send or not sending)
        ]
        return found[which % len(found)] if found else None

    @precondition(lambda self: self.chosen(False, 0))
    @rule(which=choice)
    def respond(self, which: int) -> None:
        if found := self.chosen(False, which):
            number, half = found
            if half.ending is None:
                self.server.connection.respond(number)
                half.begun = True

    @precondition(lambda self: self.chosen(True, 0, sending=True) or self.chosen(False, 0, sending=True))
    @rule(of_client=st.booleans(), which=choice, several=st.lists(messages, min_size=1, max_size=5))
    def send(self, of_client: bool, which: int, several: list[bytes]) -> None:
        found = self.chosen(of_client, which, sending=True)
        if found is None:
            of_client = not of_client
            found = self.chosen(of_client, which, sending=True)
        if found is not None:
            number, half = found
            side = self.client if of_client else self.server
            for message in several:
                half.sent.append(message)
                went_out = side.connection.send_message(number, message)
                assert went_out != side.connection.waits(number)
                half.waits = not went_out

    @precondition(lambda self: self.chosen(True, 0, sending=True))
    @rule(which=choice)
    def half_close(self, which: int) -> None:
        if found := self.chosen(True, which, sending=True):
            self.client.connection.half_close(found[0])
            found[1].ending = Status.OK

    @precondition(lambda self: self.chosen(False, 0))
    @rule(which=choice, status=st.sampled_from(Status))
    def end(self, which: int, status: Status) -> None:
        found = self.chosen(False, which)
        if found and found[1].ending is None:
            self.server.connection.end(found[0], status)
            found[1].ending = status

    @precondition(lambda self: self.now > LATE)
    @rule(of_client=st.booleans(), which=choice, code=st.sampled_from(ErrorCode))
    def reset(self, of_client: bool, which: int, code: ErrorCode) -> None:
        side = self.client if of_client else self.server
        found = self.chosen(of_client, which)
        if found and side.connection.is_open(found[0]):
            side.connection.reset(found[0], code)
            found[1].reset = code

    @rule(of_client=st.booleans())
    def ping(self, of_client: bool) -> None:
        (self.client if of_client else self.server).connection.ping()

    @precondition(lambda self: not self.goaway_sent and self.now > LATE)
    @rule()
    def go_away(self) -> None:
        self.server.connection.go_away()
        self.goaway_sent = True

    @precondition(lambda self: self.told < SETTINGS.burst // 2)
    @rule(to_client=st.booleans(), told=settings_of_a_peer, window=st.sampled_from([1, 100, 70_000]))
    def settings(self, to_client: bool, told: tuple[int | None, ...], window: int) -> None:
        """A side is told of other limits, and of more window, as if by its peer."""
        side = self.client if to_client else self.server
        self.told += 1
        self.flush(self.other(side))
        values = [
            (identifier, value)
            for identifier, value in zip((4, 5, 1), told, strict=True)
            if value is not None
        ]
        side.under_way += frames.settings(values)
        for number in (0, *self.other(side).connection._table.streams):
            if self.is_known(side, number):
                side.under_way += frames.window_update(number, window)

    def is_known(self, side: Side, number: int) -> bool:
        return not number or number in self.halves[side is self.client]

    # What must hold.

    @invariant()
    def windows(self) -> None:
        for side in (self.client, self.server):
            assert side.connection.output._window >= 0
            incoming = side.connection._incoming
            assert incoming._window + incoming._owed == WINDOW
            for stream in side.connection._table.streams.values():
                assert stream.receive_window + stream.owed == WINDOW

    @invariant()
    def prefixes(self) -> None:
        for of_client in (True, False):
            for number, half in self.halves[of_client].items():
                other = self.halves[not of_client].get(number)
                sent = other.sent if other else []
                assert half.received == sent[: len(half.received)]

    @invariant()
    def open_calls(self) -> None:
        for of_client, side in ((True, self.client), (False, self.server)):
            for number, half in self.halves[of_client].items():
                if half.end is not None or half.reset is not None:
                    assert not side.connection.is_open(number)
                assert half.waits == side.connection.waits(number) or half.end or half.reset is not None

    def teardown(self) -> None:
        """All calls are ended, all windows opened; then all must have arrived, and nothing be left."""
        for number, half in self.halves[True].items():
            if half.may_send:
                self.client.connection.half_close(number)
                half.ending = Status.OK
        self.settle()
        for number, half in self.halves[False].items():
            if half.ending is None and half.reset is None and half.end is None:
                self.server.connection.end(number, Status.OK)
                half.ending = Status.OK
        self.settle()
        assert self.client.connection.streams == self.server.connection.streams == 0
        for number, half in self.halves[True].items():
            self.check_ends(half, self.halves[False].get(number))

    def settle(self) -> None:
        for side in (self.client, self.server):
            self.flush(self.other(side))
            side.under_way += frames.settings([(4, 1 << 24)]) + frames.window_update(0, 1 << 24)
        for _ in range(100):
            for side in (self.client, self.server):
                self.flush(self.other(side))
                while side.under_way:
                    self.arrive(side, 50_000)
                self.flush(side)
            if not self.client.under_way and not self.server.under_way:
                return
        raise AssertionError("the two talk for ever")

    def check_ends(self, client: Half, server: Half | None) -> None:
        if client.reset is None:
            assert client.end is not None, "a client that was never told"
        else:
            assert client.end is None
        if server is None:
            assert client.reset is not None or (
                isinstance(client.end, StreamReset) and client.end.code is ErrorCode.REFUSED_STREAM
            )
            return
        if isinstance(client.end, StreamReset):
            assert server.reset is not None, "it is the other side that reset the call"
            assert (client.end.code, client.end.fault) == (server.reset, "")
        if isinstance(client.end, CallEnded):
            assert server.reset is None
            assert client.end.outcome == Outcome(server.ending or Status.OK, "")
            assert client.received == server.sent
        if server.end is not None:
            assert isinstance(server.end, StreamReset)
            assert (server.end.code, server.end.fault) == (client.reset, "")
        elif server.reset is None and server.half_closed:
            assert client.ending is not None
            assert server.received == client.sent


TestConversation = Conversation.TestCase
TestConversation.settings = settings(stateful_step_count=60)
