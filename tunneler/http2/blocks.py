"""Header blocks, which may come in several frames: RFC 9113 sections 4.3, 6.2 and 6.10."""

from __future__ import annotations

from typing import Final, Self

from tunneler.http2 import frames
from tunneler.http2.codes import ErrorCode, Http2Error
from tunneler.http2.limits import MAX_CONTINUATIONS, MAX_HEADER_LIST
from tunneler.http2.reader import Frame

_PRIORITY_BYTES: Final = 5
"""Deprecated, and skipped: section 5.3.2."""


class HeaderBlock:
    """A block that is coming in.

    Attributes:
        ends: whether the stream ends with it.
    """

    __slots__ = ("_continuations", "ends", "fragments", "stream")

    def __init__(self, stream: int, *, ends: bool) -> None:
        self.stream = stream
        self.ends = ends
        self.fragments = bytearray()
        self._continuations = 0

    @classmethod
    def begun_by(cls, frame: Frame) -> Self:
        """Take HEADERS.

        Raises:
            Http2Error: it is malformed, or too large.
        """
        if not frame.stream:
            raise Http2Error("HEADERS on stream 0")
        fragment = _unpadded(frame)
        if frame.flags & frames.PRIORITISED:
            if len(fragment) < _PRIORITY_BYTES:
                raise Http2Error("HEADERS too short for its priority", ErrorCode.FRAME_SIZE_ERROR)
            fragment = fragment[_PRIORITY_BYTES:]
        block = cls(frame.stream, ends=bool(frame.flags & frames.END_STREAM))
        block._take(fragment)
        return block

    def take_continuation(self, frame: Frame) -> None:
        """Take CONTINUATION.

        Raises:
            Http2Error: there are too many, or the block is too large.
        """
        self._continuations += 1
        if self._continuations > MAX_CONTINUATIONS:
            raise Http2Error("a header block in too many parts", ErrorCode.ENHANCE_YOUR_CALM)
        self._take(frame.payload)

    def _take(self, fragment: memoryview) -> None:
        self.fragments += fragment
        if len(self.fragments) > MAX_HEADER_LIST:
            raise Http2Error("a header block that is too large", ErrorCode.ENHANCE_YOUR_CALM)


def _unpadded(frame: Frame) -> memoryview:
    payload = frame.payload
    if not frame.flags & frames.PADDED:
        return payload
    padding = payload[0]
    if padding >= len(payload):
        raise Http2Error("more padding than payload")
    return payload[1 : len(payload) - padding]
