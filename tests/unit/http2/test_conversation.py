"""Two connections back to back, by a link that cuts what it carries anywhere."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.http2.pair import LIMIT, PATH, Pair, Side
from tests.unit.http2.reading import parsed
from tunneler.http2 import frames
from tunneler.http2.codes import ErrorCode, Status
from tunneler.http2.events import CallEnded, RequestReceived, ResponseReceived, StreamReset
from tunneler.http2.frames import PREFACE
from tunneler.http2.grpc import Outcome

sizes = st.lists(st.integers(1, 300), max_size=50)


def cutter(sizes: list[int]) -> Callable[[int], int]:
    """Cut so, then hand over all there is."""
    left = iter(sizes)
    return lambda most: next(left, most)


def call(pair: Pair) -> int:
    number = pair.client.connection.request(PATH, "server", secure=True)
    pair.settle()
    pair.server.connection.respond(number)
    pair.settle()
    return number


@given(
    st.lists(st.binary(max_size=400), max_size=8),
    st.lists(st.binary(max_size=400), max_size=8),
    st.sampled_from(Status),
    sizes,
)
def test_a_call(up: list[bytes], down: list[bytes], status: Status, cuts: list[int]) -> None:
    pair = Pair(cutter(cuts))
    number = call(pair)
    for message in up:
        assert pair.client.connection.send_message(number, message)
    pair.client.connection.half_close(number)
    pair.settle()
    assert pair.server.seen.messages == {1: up}
    assert pair.server.seen.half_closed == {1}
    for message in down:
        assert pair.server.connection.send_message(number, message)
    pair.server.connection.end(number, status)
    pair.settle()
    assert pair.client.seen.messages.get(1, []) == down
    assert pair.client.seen.ended == {1: CallEnded(1, Outcome(status, ""))}
    assert pair.client.connection.streams == pair.server.connection.streams == 0


@pytest.mark.parametrize("size", [0, 1, 16_379, 16_380, 65_530, 65_531, LIMIT])
def test_messages_of_every_size(size: int) -> None:
    pair = Pair()
    number = call(pair)
    for side in (pair.client, pair.server):
        assert side.connection.send_message(number, b"\xa5" * size)
        pair.settle()
        assert pair.other(side).seen.messages[number] == [b"\xa5" * size]


def test_more_than_all_windows_hold() -> None:
    """40 MB each way at once: windows are given back, and calls wait for them."""
    pair = Pair(cutter([]))
    number = call(pair)
    sides = (pair.client, pair.server)
    for place in range(400):
        for side in sides:
            side.connection.send_message(number, place.to_bytes(4, "big") * (LIMIT // 4))
    assert all(side.connection.waits(number) for side in sides)
    pair.settle()
    for side in sides:
        assert [int.from_bytes(message[:4], "big") for message in side.seen.messages[number]] == [*range(400)]
        assert not side.connection.waits(number)


def test_eight_calls_at_once() -> None:
    pair = Pair()
    numbers = [call(pair) for _ in range(8)]
    for number in numbers:
        pair.client.connection.send_message(number, b"%d" % number)
    pair.settle()
    assert pair.server.seen.messages == {number: [b"%d" % number] for number in numbers}
    for number in numbers:
        pair.server.connection.end(number, Status.OK)
    pair.settle()
    assert sorted(pair.client.seen.ended) == numbers
    assert pair.client.connection.streams == pair.server.connection.streams == 0


def test_both_reset_at_once() -> None:
    pair = Pair()
    number = call(pair)
    pair.client.connection.reset(number)
    pair.server.connection.reset(number, ErrorCode.INTERNAL_ERROR)
    pair.settle()
    assert pair.client.seen.ended == pair.server.seen.ended == {}
    assert pair.client.connection.streams == pair.server.connection.streams == 0


def test_a_reset_crosses_an_end() -> None:
    pair = Pair()
    number = call(pair)
    pair.client.connection.send_message(number, b"late")
    pair.client.connection.reset(number)
    pair.server.connection.send_message(number, b"late")
    pair.server.connection.end(number, Status.OK)
    pair.settle()
    assert pair.client.seen.ended == pair.server.seen.ended == {}
    assert pair.client.connection.streams == pair.server.connection.streams == 0


def test_a_goaway_crosses_a_call() -> None:
    pair = Pair()
    first = call(pair)
    second = pair.client.connection.request(PATH, "server", secure=True)
    pair.server.connection.go_away()
    pair.settle()
    assert pair.client.seen.ended == {second: StreamReset(second, ErrorCode.REFUSED_STREAM, "")}
    pair.client.connection.half_close(first)
    pair.server.connection.end(first, Status.OK)
    pair.settle()
    assert pair.client.seen.ended[first] == CallEnded(first, Outcome(Status.OK, ""))


def test_the_first_words_may_cross() -> None:
    """A call may be on its way before the server has said anything (RFC 9113 section 3.4)."""
    pair = Pair()
    number = pair.client.connection.request(PATH, "server", secure=True)
    pair.client.connection.send_message(number, bytes(LIMIT))
    pair.client.connection.half_close(number)
    assert pair.client.connection.waits(number), "the peer's windows are not known yet"
    pair.settle()
    assert pair.server.seen.messages == {1: [bytes(LIMIT)]}
    assert isinstance(pair.server.seen.events[0], RequestReceived)


class Recorded:
    """A long conversation by dice; each step is the same however the bytes are cut."""

    def __init__(self, seed: int, cut: Callable[[int], int]) -> None:
        self.dice = random.Random(seed)
        self.pair = Pair(cut)
        self.written: dict[bool, bytes] = {True: b"", False: b""}

    def run(self, steps: int) -> None:
        for _ in range(steps):
            self.step()
            side = self.dice.choice((self.pair.client, self.pair.server))
            before = len(self.pair.other(side).under_way)
            self.pair.flush(side)
            self.written[side is self.pair.client] += self.pair.other(side).under_way[before:]
            if self.dice.random() < 0.7:
                self.pair.deliver(self.pair.other(side))
            self.pair.now += 0.1

    def step(self) -> None:
        pair, dice = self.pair, self.dice
        side = dice.choice((pair.client, pair.server))
        number = dice.choice([*side.connection._table.streams, 1])
        what = dice.randrange(12)
        if pair.client.connection.streams < 3:
            pair.client.connection.request(PATH, "server", secure=True)
        elif what <= 1:
            side.connection.ping()
        elif what == 2:
            self.told(
                side, dice.choice([(4, 100), (4, 70_000), (5, 16_384), (5, 100_000), (1, 0), (1, 4096)])
            )
        elif what == 3 and dice.random() < 0.3:
            side.connection.reset(number)
        elif what == 4 and dice.random() < 0.3:
            pair.client.connection.half_close(number)
        elif what == 5 and dice.random() < 0.5:
            pair.server.connection.end(number, Status.OK)
        else:
            pair.server.connection.respond(number)
            size = dice.choice((0, 5, 300, 7000))
            side.connection.send_message(number, dice.randbytes(size))

    def told(self, side: Side, setting: tuple[int, int]) -> None:
        """A side gets SETTINGS, and window, as if its peer had said so."""
        self.pair.flush(self.pair.other(side))
        side.under_way += frames.settings([setting])
        for number in (0, *self.pair.other(side).connection._table.streams):
            side.under_way += frames.window_update(number, 1000)


@pytest.mark.parametrize("seed", range(8))
def test_cuts_make_no_difference(seed: int) -> None:
    """A long conversation whole, byte by byte, and by dice: the same events, the same bytes back."""
    dice = random.Random(seed)
    whole = Recorded(seed, lambda most: most)
    whole.run(150)
    for cut in (lambda most: 1, lambda most: dice.randint(1, min(most, 5000))):
        other = Recorded(seed, cut)
        other.run(150)
        assert other.pair.client.seen.events == whole.pair.client.seen.events
        assert other.pair.server.seen.events == whole.pair.server.seen.events
        assert other.written == whole.written
    assert parsed(whole.written[True].removeprefix(PREFACE))
    assert any(isinstance(event, ResponseReceived) for event in whole.pair.client.seen.events)
    assert len(whole.pair.server.seen.events) > 20
