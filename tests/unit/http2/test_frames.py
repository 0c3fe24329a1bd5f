"""The builders, against the layouts of RFC 9113 sections 4.1 and 6, in hexadecimal."""

from __future__ import annotations

import pytest

from tunneler.http2 import frames


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        (frames.head(frames.DATA, frames.END_STREAM, 5, 0x01_02_03), "010203 00 01 00000005"),
        (frames.frame(frames.PING, frames.ACK, 0, b"12345678"), "000008 06 01 00000000 3132333435363738"),
        (frames.frame(frames.HEADERS, 4, frames.MAX_STREAM), "000000 01 04 7fffffff"),
        (frames.settings([]), "000000 04 00 00000000"),
        (
            frames.settings([(4, 65_536), (5, 16_384)]),
            "00000c 04 00 00000000 0004 00010000 0005 00004000",
        ),
        (frames.window_update(3, 0x7FFFFFFF), "000004 08 00 00000003 7fffffff"),
        (frames.rst_stream(7, 8), "000004 03 00 00000007 00000008"),
        (frames.goaway(9, 11), "000008 07 00 00000000 00000009 0000000b"),
        (frames.SETTINGS_ACK, "000000 04 01 00000000"),
    ],
)
def test_layout(written: bytes, expected: str) -> None:
    assert written == bytes.fromhex(expected)


def test_preface() -> None:
    assert frames.PREFACE.hex() == "505249202a20485454502f322e300d0a0d0a534d0d0a0d0a"


def test_a_message_head_is_a_frame_head_and_a_prefix() -> None:
    total = frames.MESSAGE_PREFIX.size + 70_000
    joined = frames.MESSAGE_HEAD.pack(total >> 16, total & 0xFFFF, frames.DATA, 0, 3, 0, 70_000)
    assert joined == frames.head(frames.DATA, 0, 3, total) + frames.MESSAGE_PREFIX.pack(0, 70_000)
