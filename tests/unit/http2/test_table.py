"""How streams begin and end, and which numbers are idle, open, closed or remembered."""

from __future__ import annotations

import pytest

from tests.unit.http2.reading import Raw, fields_of, parsed
from tunneler.http2 import frames
from tunneler.http2.codes import ErrorCode, Http2Error, Status
from tunneler.http2.limits import REMEMBERED_RESETS
from tunneler.http2.table import StreamTable


def table(*, client_side: bool) -> StreamTable:
    return StreamTable(client_side=client_side, message_limit=1000, frame_limit=1 << 14)


def written(table: StreamTable) -> list[Raw]:
    return parsed(b"".join(table.output.take()))


def test_numbers_of_our_own() -> None:
    made = table(client_side=True)
    assert [made.begin().id for _ in range(3)] == [1, 3, 5]
    assert list(made.streams) == [1, 3, 5]


@pytest.mark.parametrize(("client_side", "begun"), [(True, 3), (False, 3)])
def test_idle(client_side: bool, begun: int) -> None:
    made = table(client_side=client_side)
    if client_side:
        made.begin()
        made.begin()
    else:
        made.last_of_peer = begun
    assert [number for number in range(8) if not made.is_idle(number)] == [1, 3]


@pytest.mark.parametrize("client_side", [True, False])
def test_frames_for_streams_that_are_not_there(client_side: bool) -> None:
    made = table(client_side=client_side)
    if client_side:
        made.streams.pop(made.begin().id)
    else:
        made.last_of_peer = 1
    for idle in (0, 2, 3):
        with pytest.raises(Http2Error, match=f"for the idle stream {idle}") as caught:
            made.check_known(idle)
        assert caught.value.code is ErrorCode.PROTOCOL_ERROR
    with pytest.raises(Http2Error, match="for the closed stream 1") as caught:
        made.check_known(1)
    assert caught.value.code is ErrorCode.STREAM_CLOSED
    made.reset(1, ErrorCode.CANCEL)
    made.check_known(1)


def test_a_new_stream_has_the_peers_window() -> None:
    made = table(client_side=True)
    made.peer.initial_window = 77
    assert made.begin().send_window == 77


def test_resets_are_remembered_and_forgotten() -> None:
    made = table(client_side=True)
    for _ in range(REMEMBERED_RESETS + 1):
        made.reset(made.begin().id, ErrorCode.CANCEL)
    assert not made.streams
    assert not made.was_reset(1)
    assert all(made.was_reset(2 * place + 1) for place in range(1, REMEMBERED_RESETS + 1))
    frame = written(made)[0]
    assert frame == Raw(frames.RST_STREAM, 0, 1, b"\0\0\0\x08")


class TestOurEnd:
    def test_of_a_client(self) -> None:
        made = table(client_side=True)
        stream = made.begin()
        made.finish(stream)
        assert written(made) == [], "nobody wants to end it"
        stream.ending = Status.OK
        made.finish(stream)
        made.finish(stream)
        assert written(made) == [Raw(frames.DATA, frames.END_STREAM, 1, b"")]
        assert made.streams, "the answer may still come"

    def test_of_a_server_before_its_peer(self) -> None:
        """RFC 9113 section 8.1: RST_STREAM with NO_ERROR asks the client to stop."""
        made = table(client_side=False)
        stream = made.accept(1)
        stream.head_sent = True
        stream.ending = Status.ABORTED
        made.finish(stream)
        trailers, reset = written(made)
        assert (trailers.kind, trailers.flags) == (frames.HEADERS, frames.END_HEADERS | frames.END_STREAM)
        assert fields_of(trailers) == {b"grpc-status": b"10"}
        assert reset == Raw(frames.RST_STREAM, 0, 1, bytes(4))
        assert not made.streams
        assert made.was_reset(1)

    def test_of_a_server_after_its_peer(self) -> None:
        made = table(client_side=False)
        stream = made.accept(1)
        stream.head_sent = True
        stream.remote_ended = True
        assert made.streams
        stream.ending = Status.OK
        made.finish(stream)
        assert [raw.kind for raw in written(made)] == [frames.HEADERS]
        assert not made.streams
        assert not made.was_reset(1), "it ended in good order"

    def test_of_a_server_that_had_not_answered(self) -> None:
        made = table(client_side=False)
        made.answer(1, Status.UNIMPLEMENTED)
        (only,) = written(made)
        assert fields_of(only) == {
            b":status": b"200",
            b"content-type": b"application/grpc",
            b"grpc-status": b"12",
        }
        assert only.flags & frames.END_STREAM

    def test_waits_for_messages(self) -> None:
        made = table(client_side=True)
        stream = made.begin()
        stream.send_window = 0
        made.output.message(stream, b"message")
        stream.ending = Status.OK
        made.finish(stream)
        assert written(made) == []
        assert not stream.local_ended
