"""What each side told the other about itself: RFC 9113 section 6.5."""

from __future__ import annotations

from typing import Final

from tunneler.http2.codes import ErrorCode, Http2Error
from tunneler.http2.frames import (
    LARGEST_FRAME_LIMIT,
    MAX_STREAM,
    SETTING,
    SMALLEST_FRAME_LIMIT,
)
from tunneler.http2.limits import MAX_HEADER_LIST, MAX_STREAMS, WINDOW

HEADER_TABLE_SIZE: Final = 0x1
ENABLE_PUSH: Final = 0x2
MAX_CONCURRENT_STREAMS: Final = 0x3
INITIAL_WINDOW_SIZE: Final = 0x4
MAX_FRAME_SIZE: Final = 0x5
MAX_HEADER_LIST_SIZE: Final = 0x6

DEFAULT_WINDOW: Final = 65_535
"""Initial window of a connection, always, and of a stream unless SETTINGS say otherwise."""

DEFAULT_TABLE: Final = 4096
"""Bytes of a header table unless SETTINGS say otherwise; ours never grow beyond."""


def our_settings(*, client_side: bool, frame_limit: int) -> tuple[tuple[int, int], ...]:
    """What this side declares."""
    side = (ENABLE_PUSH, 0) if client_side else (MAX_CONCURRENT_STREAMS, MAX_STREAMS)
    return (
        side,
        (INITIAL_WINDOW_SIZE, WINDOW),
        (MAX_FRAME_SIZE, frame_limit),
        (MAX_HEADER_LIST_SIZE, MAX_HEADER_LIST),
    )


class PeerSettings:
    """What the peer declared, as far as it concerns what we send.

    Args:
        frame_limit: we never send larger frames than this, whatever the peer takes.
    """

    __slots__ = ("_frame_limit", "_push_allowed", "frame_size", "initial_window", "table_size")

    def __init__(self, *, from_server: bool, frame_limit: int) -> None:
        self._frame_limit = frame_limit
        self._push_allowed = not from_server
        self.frame_size = SMALLEST_FRAME_LIMIT
        self.initial_window = DEFAULT_WINDOW
        self.table_size = DEFAULT_TABLE

    def update(self, payload: memoryview) -> None:
        """Take a SETTINGS frame's payload; unknown settings are ignored (section 6.5.2).

        Raises:
            Http2Error: a value that is out of range.
        """
        for identifier, value in SETTING.iter_unpack(payload):
            if identifier == INITIAL_WINDOW_SIZE:
                if value > MAX_STREAM:
                    raise Http2Error(f"an initial window of {value}", ErrorCode.FLOW_CONTROL_ERROR)
                self.initial_window = value
            elif identifier == MAX_FRAME_SIZE:
                if not SMALLEST_FRAME_LIMIT <= value <= LARGEST_FRAME_LIMIT:
                    raise Http2Error(f"a frame size limit of {value}")
                self.frame_size = min(value, self._frame_limit)
            elif identifier == HEADER_TABLE_SIZE:
                self.table_size = min(value, DEFAULT_TABLE)
            elif identifier == ENABLE_PUSH and (value > 1 or (value and not self._push_allowed)):
                raise Http2Error(f"an ENABLE_PUSH of {value}")
