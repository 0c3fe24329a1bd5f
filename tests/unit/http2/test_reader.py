"""Every kind of frame, cut at every byte; and lengths that no frame may have."""

from __future__ import annotations

from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.http2.reading import cuts
from tunneler.http2 import frames
from tunneler.http2.codes import ErrorCode, Http2Error
from tunneler.http2.frames import frame
from tunneler.http2.limits import MAX_CONTROL_FRAME
from tunneler.http2.reader import Frame, FrameReader, Piece

FRAME_LIMIT = 1 << 15
UNKNOWN = 0xBE


class Read(NamedTuple):
    """A frame, with DATA put together again."""

    kind: int
    flags: int
    stream: int
    payload: bytes
    length: int = -1


def reader(*, expect_preface: bool = False) -> FrameReader:
    return FrameReader(expect_preface=expect_preface, frame_limit=FRAME_LIMIT)


def read(reader: FrameReader, chunks: list[bytes]) -> list[Read]:
    found: list[Read] = []
    coming: list[Piece] = []
    for chunk in chunks:
        buffer = bytearray(chunk)
        for item in reader.read(memoryview(buffer)):
            if isinstance(item, Frame):
                found.append(Read(item.kind, item.flags, item.stream, bytes(item.payload)))
                continue
            # Its bytes are copied at once: the buffer is used again.
            coming.append(item._replace(content=memoryview(bytes(item.content))))
            if not item.left:
                found.append(joined(coming))
                coming = []
        buffer[:] = b"\xee" * len(buffer)
    assert not coming
    return found


def joined(pieces: list[Piece]) -> Read:
    first, *rest = pieces
    assert first.length >= 0, "flow control counts a frame when it begins"
    assert all(piece.length == -1 for piece in rest), "and once"
    assert len({(piece.stream, piece.ends) for piece in pieces}) == 1
    content = b"".join(piece.content for piece in pieces)
    for piece in pieces:
        content_so_far = sum(len(earlier.content) for earlier in pieces[: pieces.index(piece) + 1])
        assert piece.left == len(content) - content_so_far
    return Read(frames.DATA, int(first.ends), first.stream, content, first.length)


KINDS = [
    (frame(frames.DATA, 0, 1, b"content"), Read(frames.DATA, 0, 1, b"content", 7)),
    (frame(frames.DATA, 1, 3, b"content"), Read(frames.DATA, 1, 3, b"content", 7)),
    (frame(frames.DATA, 0, 1), Read(frames.DATA, 0, 1, b"", 0)),
    (frame(frames.DATA, 1, 1), Read(frames.DATA, 1, 1, b"", 0)),
    (frame(frames.DATA, 8, 1, b"\x03content\0\0\0"), Read(frames.DATA, 0, 1, b"content", 11)),
    (frame(frames.DATA, 9, 1, b"\x00content"), Read(frames.DATA, 1, 1, b"content", 8)),
    (frame(frames.DATA, 9, 1, b"\x04\0\0\0\0"), Read(frames.DATA, 1, 1, b"", 5)),
    (frame(frames.DATA, 8, 1, b"\x00"), Read(frames.DATA, 0, 1, b"", 1)),
    (frame(frames.HEADERS, 5, 1, b"block"), Read(frames.HEADERS, 5, 1, b"block")),
    (frame(frames.HEADERS, 0, 1), Read(frames.HEADERS, 0, 1, b"")),
    (frame(frames.PRIORITY, 0, 1, b"12345"), Read(frames.PRIORITY, 0, 1, b"12345")),
    (frames.rst_stream(9, 8), Read(frames.RST_STREAM, 0, 9, b"\0\0\0\x08")),
    (frames.settings([(4, 5)]), Read(frames.SETTINGS, 0, 0, b"\0\x04\0\0\0\x05")),
    (frames.SETTINGS_ACK, Read(frames.SETTINGS, 1, 0, b"")),
    (frame(frames.PUSH_PROMISE, 4, 1, b"12345"), Read(frames.PUSH_PROMISE, 4, 1, b"12345")),
    (frame(frames.PING, 1, 0, b"12345678"), Read(frames.PING, 1, 0, b"12345678")),
    (frame(frames.GOAWAY, 0, 0, bytes(8) + b"why"), Read(frames.GOAWAY, 0, 0, bytes(8) + b"why")),
    (frames.window_update(0, 17), Read(frames.WINDOW_UPDATE, 0, 0, b"\0\0\0\x11")),
    (frame(frames.CONTINUATION, 4, 1, b"block"), Read(frames.CONTINUATION, 4, 1, b"block")),
    (frame(UNKNOWN, 255, 2, b"skipped"), Read(UNKNOWN, 255, 2, b"")),
    (frame(UNKNOWN, 0, 2), Read(UNKNOWN, 0, 2, b"")),
]


@pytest.mark.parametrize(("written", "expected"), KINDS)
def test_every_kind_cut_at_every_byte(written: bytes, expected: Read) -> None:
    # A PING after it shows that nothing of it is left, and nothing of what follows lost.
    ping = frame(frames.PING, 0, 0, b"finished")
    for chunks in cuts(written + ping):
        each = reader()
        assert read(each, chunks) == [expected, Read(frames.PING, 0, 0, b"finished")]
        assert each.between_frames


@pytest.mark.parametrize(("written", "expected"), KINDS)
def test_between_frames(written: bytes, expected: Read) -> None:
    each = reader()
    for byte in written[:-1]:
        list(each.read(memoryview(bytes((byte,)))))
        assert not each.between_frames
    list(each.read(memoryview(written[-1:])))
    assert each.between_frames


@given(st.lists(st.sampled_from(KINDS), max_size=8), st.lists(st.integers(0, 40), max_size=40))
def test_any_frames_cut_anywhere(chosen: list[tuple[bytes, Read]], sizes: list[int]) -> None:
    written = b"".join(each for each, _ in chosen)
    chunks: list[bytes] = []
    for size in sizes:
        chunks.append(written[:size])
        written = written[size:]
    assert read(reader(), [*chunks, written]) == [expected for _, expected in chosen]


def test_a_data_frame_is_told_of_with_its_head() -> None:
    """Flow control and the end of a stream are known before any content has come."""
    head = frames.head(frames.DATA, frames.END_STREAM, 1, 700)
    (piece,) = reader().read(memoryview(head))
    assert isinstance(piece, Piece)
    assert (bytes(piece.content), piece.left, piece.length, piece.ends) == (b"", 700, 700, True)


def test_an_unknown_frame_is_told_of_with_its_head() -> None:
    (announced,) = reader().read(memoryview(frames.head(UNKNOWN, 0, 0, 700)))
    assert isinstance(announced, Frame)


@pytest.mark.parametrize("kind", [frames.DATA, frames.HEADERS, UNKNOWN])
def test_the_reserved_bit_is_ignored(kind: int) -> None:
    """RFC 9113 section 4.1."""
    written = bytearray(frame(kind, 0, 5))
    written[5] |= 0x80
    for chunks in cuts(bytes(written)):
        assert [found.stream for found in read(reader(), chunks)] == [5]


class TestPreface:
    def test_cut_at_every_byte(self) -> None:
        for chunks in cuts(frames.PREFACE + frames.SETTINGS_ACK):
            assert read(reader(expect_preface=True), chunks) == [Read(frames.SETTINGS, 1, 0, b"")]

    @pytest.mark.parametrize("place", range(len(frames.PREFACE)))
    def test_wrong_at_every_byte(self, place: int) -> None:
        wrong = bytearray(frames.PREFACE)
        wrong[place] ^= 1
        for chunks in ([bytes(wrong)], [wrong[:place], wrong[place : place + 1]]):
            with pytest.raises(Http2Error, match="not a client's HTTP/2 preface") as caught:
                read(reader(expect_preface=True), [bytes(chunk) for chunk in chunks])
            assert caught.value.code is ErrorCode.PROTOCOL_ERROR

    def test_none_is_expected_of_a_server(self) -> None:
        with pytest.raises(Http2Error):
            read(reader(), [frames.PREFACE])

    def test_not_between_frames_before_it(self) -> None:
        each = reader(expect_preface=True)
        assert not each.between_frames
        assert read(each, [frames.PREFACE]) == []
        assert each.between_frames


WRONG_LENGTHS = [
    (frames.PRIORITY, 0, 4, ErrorCode.FRAME_SIZE_ERROR),
    (frames.PRIORITY, 0, 6, ErrorCode.FRAME_SIZE_ERROR),
    (frames.RST_STREAM, 0, 3, ErrorCode.FRAME_SIZE_ERROR),
    (frames.RST_STREAM, 0, 5, ErrorCode.FRAME_SIZE_ERROR),
    (frames.PING, 0, 7, ErrorCode.FRAME_SIZE_ERROR),
    (frames.PING, 1, 9, ErrorCode.FRAME_SIZE_ERROR),
    (frames.WINDOW_UPDATE, 0, 0, ErrorCode.FRAME_SIZE_ERROR),
    (frames.WINDOW_UPDATE, 0, 5, ErrorCode.FRAME_SIZE_ERROR),
    (frames.GOAWAY, 0, 7, ErrorCode.FRAME_SIZE_ERROR),
    (frames.PUSH_PROMISE, 0, 3, ErrorCode.FRAME_SIZE_ERROR),
    (frames.PUSH_PROMISE, frames.PADDED, 4, ErrorCode.FRAME_SIZE_ERROR),
    (frames.SETTINGS, 0, 5, ErrorCode.FRAME_SIZE_ERROR),
    (frames.SETTINGS, 0, 13, ErrorCode.FRAME_SIZE_ERROR),
    (frames.HEADERS, frames.PADDED, 0, ErrorCode.FRAME_SIZE_ERROR),
    (frames.DATA, frames.PADDED, 0, ErrorCode.FRAME_SIZE_ERROR),
    (frames.DATA, 0, FRAME_LIMIT + 1, ErrorCode.FRAME_SIZE_ERROR),
    (frames.HEADERS, 0, FRAME_LIMIT + 1, ErrorCode.FRAME_SIZE_ERROR),
    (UNKNOWN, 0, FRAME_LIMIT + 1, ErrorCode.FRAME_SIZE_ERROR),
    (UNKNOWN, 0, (1 << 24) - 1, ErrorCode.FRAME_SIZE_ERROR),
    (frames.HEADERS, 0, MAX_CONTROL_FRAME + 1, ErrorCode.ENHANCE_YOUR_CALM),
    (frames.CONTINUATION, 0, MAX_CONTROL_FRAME + 1, ErrorCode.ENHANCE_YOUR_CALM),
    (frames.SETTINGS, 0, 6 * (MAX_CONTROL_FRAME // 6 + 1), ErrorCode.ENHANCE_YOUR_CALM),
    (frames.GOAWAY, 0, MAX_CONTROL_FRAME + 1, ErrorCode.ENHANCE_YOUR_CALM),
]


@pytest.mark.parametrize(("kind", "flags", "length", "code"), WRONG_LENGTHS)
def test_a_wrong_length_is_seen_in_the_head(kind: int, flags: int, length: int, code: ErrorCode) -> None:
    for chunks in cuts(frames.head(kind, flags, 1, length)):
        with pytest.raises(Http2Error) as caught:
            read(reader(), chunks)
        assert caught.value.code is code


@pytest.mark.parametrize(
    ("kind", "length"),
    [
        (frames.DATA, FRAME_LIMIT),
        (UNKNOWN, FRAME_LIMIT),
        (frames.HEADERS, MAX_CONTROL_FRAME),
        (frames.SETTINGS, MAX_CONTROL_FRAME // 6 * 6),
    ],
)
def test_the_longest_there_may_be(kind: int, length: int) -> None:
    (found,) = read(reader(), [frame(kind, 0, 1, bytes(length))])
    assert found.length == (length if kind == frames.DATA else -1)


@pytest.mark.parametrize("length", [1, 2, 7, 200])
def test_more_padding_than_payload(length: int) -> None:
    written = frame(frames.DATA, frames.PADDED, 1, bytes((length,)) + bytes(length - 1))
    for chunks in cuts(written):
        with pytest.raises(Http2Error, match="more padding than payload") as caught:
            read(reader(), chunks)
        assert caught.value.code is ErrorCode.PROTOCOL_ERROR


def test_a_frame_is_held_no_longer_than_it_may_be() -> None:
    each = reader()
    written = frame(frames.HEADERS, 0, 1, bytes(MAX_CONTROL_FRAME))
    for byte in written[:-1]:
        assert not list(each.read(memoryview(bytes((byte,)))))
        assert len(each._held) < frames.HEAD.size + MAX_CONTROL_FRAME
