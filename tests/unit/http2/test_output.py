"""What leaves: frames as large, and as many, as the peer allows."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.http2.reading import Raw, parsed
from tunneler.http2 import frames
from tunneler.http2.codes import ErrorCode, Http2Error
from tunneler.http2.frames import MAX_STREAM, MESSAGE_PREFIX
from tunneler.http2.headers import HeaderCodec
from tunneler.http2.limits import MAX_UNSENT_CONTROL
from tunneler.http2.output import Output
from tunneler.http2.settings import DEFAULT_WINDOW, PeerSettings
from tunneler.http2.streams import Stream


def made() -> tuple[Output, PeerSettings]:
    peer = PeerSettings(from_server=True, frame_limit=1 << 20)
    return Output(HeaderCodec(), peer), peer


def stream(number: int = 1, window: int = DEFAULT_WINDOW) -> Stream:
    return Stream(number, window, 1000)


def written(output: Output) -> list[Raw]:
    return parsed(b"".join(output.take()))


def test_in_order_and_once() -> None:
    output, _ = made()
    output.control(frames.SETTINGS_ACK)
    output.message(stream(), b"message")
    output.control(frames.window_update(0, 1))
    assert [raw.kind for raw in written(output)] == [frames.SETTINGS, frames.DATA, frames.WINDOW_UPDATE]
    assert written(output) == []


@pytest.mark.parametrize("message", [b"", b"m", bytes(9000)])
def test_a_message_is_a_frame(message: bytes) -> None:
    output, _ = made()
    one = stream()
    output.message(one, message)
    buffers = output.take()
    assert buffers[-1] is message, "its payload is not copied"
    payload = MESSAGE_PREFIX.pack(0, len(message)) + message
    assert parsed(b"".join(buffers)) == [Raw(frames.DATA, 0, 1, payload)]
    assert one.send_window == output._window == DEFAULT_WINDOW - len(payload)
    assert output.data_frames == 1


@pytest.mark.parametrize("short", [0, 1])
def test_the_largest_that_goes_out_whole(short: int) -> None:
    """By each of three limits: the connection's window, the stream's, and the frame size."""
    for limit in ("connection", "stream", "frame"):
        output, peer = made()
        one = stream()
        message = bytes(20_000)
        room = len(message) + MESSAGE_PREFIX.size - short
        peer.frame_size = room if limit == "frame" else 1 << 20
        one.send_window = room if limit == "stream" else DEFAULT_WINDOW
        output._window = room if limit == "connection" else DEFAULT_WINDOW
        output.message(one, message)
        lengths = [len(raw.payload) for raw in written(output)]
        if limit == "frame":
            assert lengths == ([room, 1] if short else [room])
        else:
            assert lengths == [room]
        assert bool(one.waiting) == (short == 1 and limit != "frame")


def test_messages_do_not_overtake() -> None:
    output, _ = made()
    one = stream(window=3)
    output.message(one, b"large")
    one.send_window = 1000
    output.message(one, b"small")
    data = b"".join(raw.payload for raw in written(output))
    assert data == b"\0\0\0\0\5large\0\0\0\0\5small"


def test_streams_share_the_connections_window() -> None:
    output, _ = made()
    one, other = stream(1), stream(3)
    output.message(one, bytes(40_000))
    output.message(other, bytes(40_000))
    assert sum(len(raw.payload) for raw in written(output)) == DEFAULT_WINDOW
    assert not one.waiting
    assert other.waiting
    output.widen(80_010 - DEFAULT_WINDOW)
    assert output.pump(other)
    assert [raw.stream for raw in written(output)] == [3]
    assert output._window == 0


def test_widen() -> None:
    output, _ = made()
    output.widen(MAX_STREAM - DEFAULT_WINDOW)
    with pytest.raises(Http2Error, match="more than 2") as caught:
        output.widen(1)
    assert caught.value.code is ErrorCode.FLOW_CONTROL_ERROR


def test_unsent_answers() -> None:
    output, _ = made()
    ping = frames.frame(frames.PING, frames.ACK, 0, bytes(8))
    for _ in range(MAX_UNSENT_CONTROL // len(ping)):
        output.control(ping)
    output.check_unsent()
    output.control(ping)
    with pytest.raises(Http2Error, match="answers are not read") as caught:
        output.check_unsent()
    assert caught.value.code is ErrorCode.ENHANCE_YOUR_CALM
    output.take()
    output.check_unsent()


def test_messages_are_no_answers() -> None:
    output, _ = made()
    output.widen(1 << 20)
    output.message(stream(window=1 << 20), bytes(MAX_UNSENT_CONTROL + 1))
    output.check_unsent()


class TestSettings:
    def test_windows_follow(self) -> None:
        output, peer = made()
        streams = [stream(1), stream(3, window=10)]
        peer.initial_window = 100
        output.settings_changed(streams, DEFAULT_WINDOW)
        assert [each.send_window for each in streams] == [100, 110 - DEFAULT_WINDOW]
        assert written(output) == [Raw(frames.SETTINGS, frames.ACK, 0, b"")]

    def test_windows_that_become_too_large(self) -> None:
        output, peer = made()
        peer.initial_window = MAX_STREAM
        with pytest.raises(Http2Error) as caught:
            output.settings_changed([stream(window=DEFAULT_WINDOW + 1)], DEFAULT_WINDOW)
        assert caught.value.code is ErrorCode.FLOW_CONTROL_ERROR

    def test_the_table_follows(self) -> None:
        output, peer = made()
        output.headers(1, [("x", "y")])
        peer.table_size = 0
        output.settings_changed([], DEFAULT_WINDOW)
        output.headers(3, [("x", "y")])
        assert written(output)[-1].payload.startswith(b"\x20"), "RFC 7541 section 4.2"


@given(st.lists(st.binary(max_size=300), max_size=8), st.integers(1, 400), st.integers(0, 600))
def test_windows_are_never_passed(messages: list[bytes], frame_size: int, window: int) -> None:
    output, peer = made()
    peer.frame_size = frame_size
    output._window = 700
    one = stream(window=window)
    for message in messages:
        output.message(one, message)
    data = written(output)
    assert all(len(raw.payload) <= frame_size for raw in data)
    sent = b"".join(raw.payload for raw in data)
    whole = b"".join(MESSAGE_PREFIX.pack(0, len(message)) + message for message in messages)
    assert len(sent) == min(700, window, len(whole))
    assert whole.startswith(sent)
    assert output.data_frames == len(data)
