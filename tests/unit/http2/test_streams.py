"""One stream: what may come, and what may be sent."""

from __future__ import annotations

from itertools import chain

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunneler.http2.codes import ErrorCode, StreamError
from tunneler.http2.frames import MAX_STREAM, MESSAGE_PREFIX
from tunneler.http2.limits import WINDOW
from tunneler.http2.streams import Stream

LIMIT = 1000


def stream(send_window: int = 65_535) -> Stream:
    made = Stream(1, send_window, LIMIT)
    made.head_received = True
    return made


class TestReceived:
    def test_window(self) -> None:
        made = stream()
        made.count_received(WINDOW)
        assert (made.receive_window, made.owed) == (0, WINDOW)
        made.count_received(0)
        with pytest.raises(StreamError, match="beyond the stream's window") as caught:
            made.count_received(1)
        assert caught.value.code is ErrorCode.FLOW_CONTROL_ERROR

    def test_grant(self) -> None:
        made = stream()
        made.count_received(700)
        assert made.grant() == 700
        assert (made.receive_window, made.owed) == (WINDOW, 0)
        assert made.grant() == 0

    def test_after_the_end(self) -> None:
        made = stream()
        made.remote_ended = True
        with pytest.raises(StreamError, match="after END_STREAM") as caught:
            made.count_received(0)
        assert caught.value.code is ErrorCode.STREAM_CLOSED

    def test_before_the_head(self) -> None:
        made = stream()
        made.head_received = False
        with pytest.raises(StreamError, match="DATA before HEADERS") as caught:
            made.count_received(0)
        assert caught.value.code is ErrorCode.PROTOCOL_ERROR

    @pytest.mark.parametrize(
        ("declared", "frames", "good"),
        [
            (None, [(5, False), (7, True)], True),
            (12, [(5, False), (7, True)], True),
            (12, [(5, False), (7, False), (0, True)], True),
            (0, [(0, True)], True),
            (12, [(5, False), (6, True)], False),
            (12, [(13, False)], False),
            (12, [(5, False), (8, True)], False),
            (0, [(1, False)], False),
        ],
    )
    def test_declared_length(self, declared: int | None, frames: list[tuple[int, bool]], good: bool) -> None:
        made = stream()
        made.content_left = declared
        *first, (length, last) = frames
        for earlier, ends in first:
            made.count_content(earlier, last=ends)
        if good:
            made.count_content(length, last=last)
            return
        with pytest.raises(StreamError, match="content-length"):
            made.count_content(length, last=last)


class TestSent:
    def test_widen(self) -> None:
        made = stream(10)
        made.widen(MAX_STREAM - 10)
        assert made.send_window == MAX_STREAM
        with pytest.raises(StreamError, match="more than 2") as caught:
            made.widen(1)
        assert caught.value.code is ErrorCode.FLOW_CONTROL_ERROR

    def test_a_window_may_become_negative(self) -> None:
        """RFC 9113 section 6.9.2."""
        made = stream(10)
        made.widen(-100)
        made.keep(b"message")
        assert list(made.payloads(1000, 1000)) == []
        made.widen(91)
        assert [b"".join(parts) for parts in made.payloads(1000, 1000)] == [b"\0"]

    @given(
        st.lists(st.binary(max_size=60), max_size=6),
        st.lists(st.tuples(st.integers(0, 50), st.integers(0, 50)), max_size=12),
        st.integers(1, 40),
    )
    def test_what_waits_goes_out_in_order(
        self, messages: list[bytes], turns: list[tuple[int, int]], frame_size: int
    ) -> None:
        made = stream(0)
        for message in messages:
            made.keep(message)
        whole = b"".join(MESSAGE_PREFIX.pack(0, len(message)) + message for message in messages)
        sent = b""
        for room, increment in turns:
            made.widen(increment)
            before = made.send_window
            payloads = [b"".join(parts) for parts in made.payloads(room, frame_size)]
            assert all(0 < len(payload) <= frame_size for payload in payloads)
            assert len(b"".join(payloads)) == min(room, before, len(whole) - len(sent))
            assert made.send_window == before - len(b"".join(payloads))
            sent += b"".join(payloads)
        assert whole.startswith(sent)
        assert bool(made.waiting) == (sent != whole)

    def test_small_messages_share_a_frame(self) -> None:
        made = stream(1000)
        for _ in range(10):
            made.keep(b"m")
        (parts,) = made.payloads(1000, 1000)
        assert b"".join(parts) == (b"\0\0\0\0\1m") * 10

    def test_payloads_are_not_copied(self) -> None:
        message = bytes(500)
        made = stream(1000)
        made.keep(message)
        parts = list(chain.from_iterable(made.payloads(1000, 200)))
        assert all(part.obj is message for part in parts if len(part) > MESSAGE_PREFIX.size)
