"""Our core and the h2 library, each in both roles: what one sends, the other gets."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain, cycle, repeat

import pytest
from h2.exceptions import ProtocolError
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.http2.foreign import ConnectionTerminated, Foreign, PingAckReceived, StreamEnded, StreamReset
from tests.unit.http2.pair import LIMIT, PATH, REQUEST, RESPONSE, Seen
from tests.unit.http2.reading import receive
from tunneler.http2.codes import ErrorCode, Http2Error, Status
from tunneler.http2.connection import Connection
from tunneler.http2.events import CallEnded, RequestReceived, ResponseReceived, RoomMade
from tunneler.http2.events import StreamReset as OurStreamReset
from tunneler.http2.grpc import Outcome

lengths = st.one_of(st.integers(0, 300), st.sampled_from([16_379, 16_380, 65_531]))
several = st.lists(lengths, max_size=4)
ways = st.fixed_dictionaries(
    {
        "window": st.sampled_from([2_000, 16_384, 65_535, 1 << 20]),
        "frame_size": st.sampled_from([16_384, 20_000, 1 << 20]),
        "padding": st.sampled_from([None, None, 0, 1, 255]),
        "sizes": st.lists(st.sampled_from([1, 4, 5, 100, 16_384, 1 << 20]), min_size=1, max_size=4),
        "cuts": st.lists(st.integers(1, 2000), max_size=40),
    }
)


def messages(lengths: list[int]) -> list[bytes]:
    return [bytes((place + length % 200,)) * length for place, length in enumerate(lengths)]


class Together:
    """Our connection, and the foreign one."""

    def __init__(
        self,
        *,
        client_side: bool,
        window: int = 65_535,
        frame_size: int = 16_384,
        padding: int | None = None,
        sizes: list[int] | None = None,
        cuts: list[int] | None = None,
    ) -> None:
        self.ours = Connection(client_side=client_side, message_limit=LIMIT, now=0.0)
        # A long message in frames of a byte takes for ever: once through, then large ones.
        each = chain(sizes or [], repeat(1 << 20))
        self.foreign = Foreign(
            client_side=not client_side, window=window, frame_size=frame_size, sizes=each, padding=padding
        )
        self.seen = Seen()
        self._cuts: Iterator[int] = chain(cuts or [], repeat(1 << 30))
        self._now = 0.0
        self.settle()  # h2 counts on its SETTINGS too early, which matters while they are under way

    def begin(self) -> int:
        """Begin a call, whoever the client is."""
        if self.foreign.h2.config.client_side:
            return self.foreign.call(REQUEST)
        return self.ours.request(PATH, "server", secure=True)

    def pieces(self, data: bytes) -> Iterator[bytes]:
        while data:
            size = next(self._cuts)
            yield data[:size]
            data = data[size:]

    def settle(self) -> None:
        for _ in range(200_000):
            self._now += 0.01
            written = b"".join(self.ours.output.take())
            for piece in self.pieces(written):
                self.foreign.hear(piece)
            answer = self.foreign.written()
            for piece in self.pieces(answer):
                self.seen.note(receive(self.ours, piece, now=self._now))
            if not written and not answer:
                return
        raise AssertionError("the two talk for ever")


@given(several, several, st.sampled_from(Status), ways)
def test_our_client(sent: list[int], answered: list[int], status: Status, ways: dict[str, object]) -> None:
    up, down = messages(sent), messages(answered)
    both = Together(client_side=True, **ways)  # type: ignore[arg-type]
    number = both.ours.request(PATH, "server", secure=True)
    for message in up:
        both.ours.send_message(number, message)
    both.ours.half_close(number)
    both.settle()
    assert both.foreign.messages(number) == up
    assert both.foreign.fields[number][0][b":path"] == PATH.encode()
    assert both.foreign.has_heard(StreamEnded, number)
    both.foreign.answer(number, RESPONSE)
    for message in down:
        both.foreign.send(number, message)
    both.foreign.end(number, [("grpc-status", str(int(status)))])
    both.settle()
    assert both.seen.messages.get(number, []) == down
    assert both.seen.ended == {number: CallEnded(number, Outcome(status, ""))}
    assert ResponseReceived(number) in both.seen.events
    assert both.ours.streams == 0


@given(several, several, st.sampled_from(Status), ways)
def test_our_server(sent: list[int], answered: list[int], status: Status, ways: dict[str, object]) -> None:
    up, down = messages(sent), messages(answered)
    both = Together(client_side=False, **ways)  # type: ignore[arg-type]
    number = both.foreign.call(REQUEST)
    for message in up:
        both.foreign.send(number, message)
    both.foreign.end(number)
    both.settle()
    assert isinstance(both.seen.events[0], RequestReceived)
    assert both.seen.messages == {number: up}
    assert both.seen.half_closed == {number}
    both.ours.respond(number)
    waited = [both.ours.send_message(number, message) for message in down]
    both.ours.end(number, status)
    both.settle()
    assert both.foreign.messages(number) == down
    first, last = both.foreign.fields[number]
    assert first[b":status"] == b"200"
    assert last == {b"grpc-status": str(int(status)).encode()}
    assert both.foreign.has_heard(StreamEnded, number)
    assert (RoomMade(number) in both.seen.events) == (not all(waited))
    assert both.ours.streams == 0


@pytest.mark.parametrize("client_side", [True, False])
@given(st.lists(st.tuples(st.booleans(), st.integers(0, 3), lengths), max_size=30), ways)
def test_several_calls_both_ways(
    client_side: bool, sent: list[tuple[bool, int, int]], ways: dict[str, object]
) -> None:
    both = Together(client_side=client_side, **ways)  # type: ignore[arg-type]
    numbers = [both.begin() for _ in range(4)]
    both.settle()
    for number in numbers:
        if client_side:
            both.foreign.answer(number, RESPONSE)
        else:
            both.ours.respond(number)
    ours: dict[int, list[bytes]] = {number: [] for number in numbers}
    theirs: dict[int, list[bytes]] = {number: [] for number in numbers}
    for of_ours, which, length in sent:
        number = numbers[which]
        message = bytes((which,)) * length
        if of_ours:
            both.ours.send_message(number, message)
            ours[number].append(message)
        else:
            both.foreign.send(number, message)
            theirs[number].append(message)
    both.settle()
    for number in numbers:
        assert both.foreign.messages(number) == ours[number]
        assert both.seen.messages.get(number, []) == theirs[number]
        assert not both.ours.waits(number)


@pytest.mark.parametrize("window", [1, 2, 7])
def test_a_window_of_hardly_anything(window: int) -> None:
    both = Together(client_side=True, window=window)
    number = both.ours.request(PATH, "server", secure=True)
    both.settle()
    assert not both.ours.send_message(number, b"message" * 10)
    both.ours.half_close(number)
    both.settle()
    assert both.foreign.messages(number) == [b"message" * 10]
    assert both.foreign.has_heard(StreamEnded, number)


@pytest.mark.parametrize("client_side", [True, False])
def test_resets(client_side: bool) -> None:
    both = Together(client_side=client_side)
    first, second = both.begin(), both.begin()
    both.settle()
    both.ours.reset(first, ErrorCode.INTERNAL_ERROR)
    both.foreign.h2.reset_stream(second, ErrorCode.REFUSED_STREAM)
    both.settle()
    assert both.foreign.has_heard(StreamReset, first)
    assert both.seen.ended == {second: OurStreamReset(second, ErrorCode.REFUSED_STREAM, "")}
    assert both.ours.streams == 0


@pytest.mark.parametrize("client_side", [True, False])
def test_pings(client_side: bool) -> None:
    both = Together(client_side=client_side)
    both.foreign.h2.ping(b"8 bytes.")
    both.ours.ping()
    both.settle()
    assert both.foreign.has_heard(PingAckReceived)


def test_a_call_that_our_server_ends_early() -> None:
    both = Together(client_side=False)
    number = both.foreign.call(REQUEST)
    both.settle()
    both.ours.end(number, Status.UNIMPLEMENTED)
    both.settle()
    assert both.foreign.fields[number] == [
        {b":status": b"200", b"content-type": b"application/grpc", b"grpc-status": b"12"}
    ]
    assert both.foreign.has_heard(StreamReset, number), "it is asked to stop"
    assert both.ours.streams == 0


@pytest.mark.parametrize("client_side", [True, False])
def test_settings_in_the_middle(client_side: bool) -> None:
    """Windows shrink and grow under messages that wait."""
    both = Together(client_side=client_side)
    number = both.begin()
    both.settle()
    if client_side:
        both.foreign.answer(number, RESPONSE)
    else:
        both.ours.respond(number)
    expected = []
    for place, window in enumerate(cycle([1, 200_000, 70, 65_535, 0, 1000])):
        if place == 24:
            break
        expected.append(bytes((place,)) * 30_000)
        both.ours.send_message(number, expected[-1])
        both.foreign.h2.update_settings({4: window, 1: 4096 * (place % 2), 5: 16_384 + place})
        if place % 3 == 0:
            both.settle()
    both.foreign.h2.update_settings({4: 1 << 20})
    both.settle()
    assert both.foreign.messages(number) == expected
    assert not both.ours.waits(number)


@pytest.mark.parametrize("client_side", [True, False])
def test_the_foreign_side_understands_our_goaway(client_side: bool) -> None:
    both = Together(client_side=client_side)
    with pytest.raises(Http2Error):
        receive(both.ours, b"\0\0\1\6\0\0\0\0\0")
    for piece in both.pieces(b"".join(both.ours.output.take())):
        both.foreign.hear(piece)
    assert both.foreign.has_heard(ConnectionTerminated)
    with pytest.raises(ProtocolError):
        both.foreign.h2.ping(b"8 bytes.")
