"""Frames as bytes: RFC 9113 sections 4.1 and 6."""

from __future__ import annotations

import struct
from collections.abc import Iterable
from typing import Final

PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
"""What a client says first: RFC 9113 section 3.4."""

# Types of frames. Plain integers: they are compared with what struct unpacks.
DATA: Final = 0x0
HEADERS: Final = 0x1
PRIORITY: Final = 0x2
RST_STREAM: Final = 0x3
SETTINGS: Final = 0x4
PUSH_PROMISE: Final = 0x5
PING: Final = 0x6
GOAWAY: Final = 0x7
WINDOW_UPDATE: Final = 0x8
CONTINUATION: Final = 0x9

# Flags.
ACK: Final = 0x01
END_STREAM: Final = 0x01
END_HEADERS: Final = 0x04
PADDED: Final = 0x08
PRIORITISED: Final = 0x20

MAX_STREAM: Final = (1 << 31) - 1
"""Largest stream identifier, and largest window."""

SMALLEST_FRAME_LIMIT: Final = 1 << 14
LARGEST_FRAME_LIMIT: Final = (1 << 24) - 1

HEAD: Final = struct.Struct("!BHBBI")
"""Length (high byte, low 16 bits), type, flags, stream."""

MESSAGE_HEAD: Final = struct.Struct("!BHBBIBI")
"""The head of a DATA frame that starts with a message: gRPC's compressed flag and length follow."""

MESSAGE_PREFIX: Final = struct.Struct("!BI")
"""Compressed flag, length: grpc/doc/PROTOCOL-HTTP2.md, "Length-Prefixed-Message"."""

U32: Final = struct.Struct("!I")
SETTING: Final = struct.Struct("!HI")
GOAWAY_HEAD: Final = struct.Struct("!II")
"""Last stream, error code; whatever follows is for debugging."""


def head(kind: int, flags: int, stream: int, length: int) -> bytes:
    """The nine bytes before a payload."""
    return HEAD.pack(length >> 16, length & 0xFFFF, kind, flags, stream)


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    return head(kind, flags, stream, len(payload)) + payload


def settings(values: Iterable[tuple[int, int]]) -> bytes:
    return frame(SETTINGS, 0, 0, b"".join(SETTING.pack(*value) for value in values))


def window_update(stream: int, increment: int) -> bytes:
    return frame(WINDOW_UPDATE, 0, stream, U32.pack(increment))


def rst_stream(stream: int, code: int) -> bytes:
    return frame(RST_STREAM, 0, stream, U32.pack(code))


def goaway(last_stream: int, code: int) -> bytes:
    return frame(GOAWAY, 0, 0, GOAWAY_HEAD.pack(last_stream, code))


SETTINGS_ACK: Final = frame(SETTINGS, ACK, 0)
