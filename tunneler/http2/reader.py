"""Bytes to frames. What arrives may be cut anywhere.

DATA is handed on as it comes, in pieces, so that nothing of it waits here; any other frame
waits until it is whole, and is small (``MAX_CONTROL_FRAME``). Frames of unknown types are
announced and skipped.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple

from tunneler.http2.codes import ErrorCode, Http2Error
from tunneler.http2.frames import (
    CONTINUATION,
    DATA,
    END_STREAM,
    GOAWAY,
    HEAD,
    HEADERS,
    MAX_STREAM,
    PADDED,
    PING,
    PREFACE,
    PRIORITY,
    PUSH_PROMISE,
    RST_STREAM,
    SETTINGS,
    WINDOW_UPDATE,
)
from tunneler.http2.limits import MAX_CONTROL_FRAME

_HEAD_BYTES: Final = HEAD.size
_LAST_KNOWN: Final = CONTINUATION
_EXACT_LENGTHS: Final = {PRIORITY: 5, RST_STREAM: 4, PING: 8, WINDOW_UPDATE: 4}


class Frame(NamedTuple):
    """Any frame but DATA; ``payload`` is valid until the next one is asked for."""

    kind: int
    flags: int
    stream: int
    payload: memoryview


class Piece(NamedTuple):
    """Some bytes of a DATA frame, without its padding.

    Attributes:
        left: bytes of the frame's content that are still to come.
        length: of the whole payload, in the frame's first piece, which is when flow control
            counts it (padding and all, RFC 9113 section 6.9.1); -1 in others.
        ends: whether the stream ends with this frame.
    """

    stream: int
    content: memoryview
    left: int
    length: int
    ends: bool


class FrameReader:
    """Cuts what one peer sends.

    Args:
        expect_preface: whether the peer is a client.
        frame_limit: our SETTINGS_MAX_FRAME_SIZE.
    """

    def __init__(self, *, expect_preface: bool, frame_limit: int) -> None:
        self._frame_limit = frame_limit
        self._preface_left = PREFACE if expect_preface else b""
        self._held = bytearray()
        self._skip = 0
        # The DATA frame that is coming in:
        self._stream = 0
        self._left = 0
        self._padding = 0
        self._pad_length_comes = False
        self._unannounced = -1
        self._ends = False

    @property
    def between_frames(self) -> bool:
        """Whether the next byte begins a frame."""
        return not (self._held or self._left or self._skip or self._padding or self._preface_left)

    def read(self, data: memoryview) -> Iterator[Frame | Piece]:
        """Yield what is complete.

        Raises:
            Http2Error: the peer does not speak HTTP/2, or a frame has a length that it may not have.
        """
        position, end = 0, len(data)
        if self._preface_left:
            position = self._read_preface(data)
        while position < end or (self._unannounced >= 0 and not self._pad_length_comes):
            if self._left or self._unannounced >= 0:
                piece, position = self._read_data(data, position)
                yield piece
            elif self._skip or self._padding:
                position = self._pass_over(end, position)
            elif self._held:
                frame, position = self._read_held(data, position)
                if frame is not None:
                    yield frame
            else:
                frame, position = self._read_frame(data, position)
                if frame is not None:
                    yield frame

    def _read_preface(self, data: memoryview) -> int:
        wanted = self._preface_left
        length = min(len(wanted), len(data))
        if data[:length] != wanted[:length]:
            raise Http2Error("this is not a client's HTTP/2 preface")
        self._preface_left = wanted[length:]
        return length

    def _read_frame(self, data: memoryview, position: int) -> tuple[Frame | None, int]:
        """Read a frame that lies whole in ``data``, or keep what there is of it."""
        if len(data) - position < _HEAD_BYTES:
            self._held += data[position:]
            return None, len(data)
        high, low, kind, flags, stream = HEAD.unpack_from(data, position)
        length = high << 16 | low
        start = position + _HEAD_BYTES
        if self._begin(kind, flags, stream & MAX_STREAM, length):
            return self._announcement(kind, flags, stream & MAX_STREAM), start
        if len(data) - start < length:
            self._held += data[position:]
            return None, len(data)
        return Frame(kind, flags, stream & MAX_STREAM, data[start : start + length]), start + length

    def _read_held(self, data: memoryview, position: int) -> tuple[Frame | None, int]:
        """Complete a frame, or the head of one, that came in parts."""
        held = self._held
        if len(held) < _HEAD_BYTES:
            take = min(_HEAD_BYTES - len(held), len(data) - position)
            held += data[position : position + take]
            position += take
            if len(held) < _HEAD_BYTES:
                return None, position
            high, low, kind, flags, stream = HEAD.unpack_from(held)
            if self._begin(kind, flags, stream & MAX_STREAM, high << 16 | low):
                self._held = bytearray()
                return self._announcement(kind, flags, stream & MAX_STREAM), position
        high, low, kind, flags, stream = HEAD.unpack_from(held)
        missing = _HEAD_BYTES + (high << 16 | low) - len(held)
        take = min(missing, len(data) - position)
        held += data[position : position + take]
        if take < missing:
            return None, position + take
        self._held = bytearray()
        return Frame(kind, flags, stream & MAX_STREAM, memoryview(held)[_HEAD_BYTES:]), position + take

    def _begin(self, kind: int, flags: int, stream: int, length: int) -> bool:
        """Look at a head; return whether its payload is read in passing (DATA, unknown types).

        Raises:
            Http2Error: the length is wrong for this type.
        """
        if length > self._frame_limit:
            raise Http2Error(
                f"a frame of {length} bytes exceeds {self._frame_limit}", ErrorCode.FRAME_SIZE_ERROR
            )
        if kind == DATA:
            self._begin_data(flags, stream, length)
            return True
        if kind > _LAST_KNOWN:
            self._skip = length
            return True
        if length != _EXACT_LENGTHS.get(kind, length):
            raise Http2Error(f"{length} bytes in a frame of type {kind}", ErrorCode.FRAME_SIZE_ERROR)
        if length > MAX_CONTROL_FRAME:
            raise Http2Error(f"{length} bytes in a frame of type {kind}", ErrorCode.ENHANCE_YOUR_CALM)
        shortest = 8 if kind == GOAWAY else 4 if kind == PUSH_PROMISE else 0
        shortest += flags & PADDED == PADDED and kind in (HEADERS, PUSH_PROMISE)
        if length < shortest or (kind == SETTINGS and length % 6):
            raise Http2Error(f"{length} bytes in a frame of type {kind}", ErrorCode.FRAME_SIZE_ERROR)
        return False

    @staticmethod
    def _announcement(kind: int, flags: int, stream: int) -> Frame | None:
        """An unknown frame is told of at once, without its payload; DATA comes in pieces."""
        return None if kind == DATA else Frame(kind, flags, stream, memoryview(b""))

    def _begin_data(self, flags: int, stream: int, length: int) -> None:
        self._stream = stream
        self._left = length
        self._padding = 0
        self._unannounced = length
        self._ends = flags & END_STREAM == END_STREAM
        self._pad_length_comes = flags & PADDED == PADDED
        if self._pad_length_comes and not length:
            raise Http2Error("a padded DATA frame without a pad length", ErrorCode.FRAME_SIZE_ERROR)

    def _read_data(self, data: memoryview, position: int) -> tuple[Piece, int]:
        if self._pad_length_comes:
            self._padding = data[position]
            self._pad_length_comes = False
            self._left -= 1 + self._padding
            if self._left < 0:
                raise Http2Error("more padding than payload")
            position += 1
        take = min(self._left, len(data) - position)
        length, self._unannounced = self._unannounced, -1
        self._left -= take
        content = data[position : position + take]
        return Piece(self._stream, content, self._left, length, self._ends), position + take

    def _pass_over(self, end: int, position: int) -> int:
        skipped = min(self._skip or self._padding, end - position)
        if self._skip:
            self._skip -= skipped
        else:
            self._padding -= skipped
        return position + skipped
