"""Header blocks in several frames: RFC 9113 sections 6.2 and 6.10."""

from __future__ import annotations

import pytest

from tunneler.http2 import frames
from tunneler.http2.blocks import HeaderBlock
from tunneler.http2.codes import ErrorCode, Http2Error
from tunneler.http2.limits import MAX_CONTINUATIONS, MAX_HEADER_LIST
from tunneler.http2.reader import Frame


def headers(payload: bytes, flags: int = 0, stream: int = 1) -> Frame:
    return Frame(frames.HEADERS, flags, stream, memoryview(payload))


def continuation(payload: bytes) -> Frame:
    return Frame(frames.CONTINUATION, 0, 1, memoryview(payload))


@pytest.mark.parametrize(
    ("flags", "payload", "fragment"),
    [
        (0, b"block", b"block"),
        (0, b"", b""),
        (frames.PADDED, b"\x00block", b"block"),
        (frames.PADDED, b"\x03block\0\0\0", b"block"),
        (frames.PADDED, b"\x03\0\0\0", b""),  # all of it may be padding: section 6.2
        (frames.PRIORITISED, b"12345block", b"block"),
        (frames.PRIORITISED, b"12345", b""),
        (frames.PADDED | frames.PRIORITISED, b"\x0212345block\0\0", b"block"),
    ],
)
def test_fragment(flags: int, payload: bytes, fragment: bytes) -> None:
    block = HeaderBlock.begun_by(headers(payload, flags, 7))
    assert (bytes(block.fragments), block.stream, block.ends) == (fragment, 7, False)


def test_ends() -> None:
    assert HeaderBlock.begun_by(headers(b"", frames.END_STREAM)).ends
    assert not HeaderBlock.begun_by(headers(b"", frames.END_HEADERS)).ends


@pytest.mark.parametrize(
    ("flags", "payload", "code"),
    [
        (frames.PADDED, b"\x06block", ErrorCode.PROTOCOL_ERROR),
        (frames.PADDED, b"\x01", ErrorCode.PROTOCOL_ERROR),
        (frames.PRIORITISED, b"1234", ErrorCode.FRAME_SIZE_ERROR),
        (frames.PADDED | frames.PRIORITISED, b"\x0212345\0", ErrorCode.FRAME_SIZE_ERROR),
    ],
)
def test_malformed(flags: int, payload: bytes, code: ErrorCode) -> None:
    with pytest.raises(Http2Error) as caught:
        HeaderBlock.begun_by(headers(payload, flags))
    assert caught.value.code is code


def test_on_stream_0() -> None:
    with pytest.raises(Http2Error, match="HEADERS on stream 0"):
        HeaderBlock.begun_by(headers(b"", stream=0))


def test_continuations() -> None:
    block = HeaderBlock.begun_by(headers(b"0"))
    for number in range(MAX_CONTINUATIONS):
        block.take_continuation(continuation(b"%d" % (number + 1)))
    assert block.fragments == b"012345678"
    with pytest.raises(Http2Error, match="in too many parts") as caught:
        block.take_continuation(continuation(b""))
    assert caught.value.code is ErrorCode.ENHANCE_YOUR_CALM


def test_size() -> None:
    block = HeaderBlock.begun_by(headers(bytes(MAX_HEADER_LIST)))
    block.take_continuation(continuation(b""))
    with pytest.raises(Http2Error, match="too large") as caught:
        block.take_continuation(continuation(b"x"))
    assert caught.value.code is ErrorCode.ENHANCE_YOUR_CALM
    with pytest.raises(Http2Error, match="too large"):
        HeaderBlock.begun_by(headers(bytes(MAX_HEADER_LIST + 1)))
