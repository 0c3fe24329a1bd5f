"""HTTP/2 frames as bytes, right or wrong as a test wants them; nothing here is shared with the product.

Header blocks are made of literals without indexing (RFC 7541 section 6.2.2), so that a block
is the same bytes on every connection and a case can be written down as a constant.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from enum import IntEnum
from typing import NamedTuple

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

MAX_WINDOW = 2**31 - 1
SMALLEST_FRAME_LIMIT = 2**14
DEFAULT_WINDOW = 65_535


class Kind(IntEnum):
    DATA = 0
    HEADERS = 1
    PRIORITY = 2
    RST_STREAM = 3
    SETTINGS = 4
    PUSH_PROMISE = 5
    PING = 6
    GOAWAY = 7
    WINDOW_UPDATE = 8
    CONTINUATION = 9
    UNKNOWN = 0x16


class Flag(IntEnum):
    NONE = 0
    ACK = 1
    END_STREAM = 1
    END_HEADERS = 4
    PADDED = 8
    PRIORITY = 0x20


class Setting(IntEnum):
    HEADER_TABLE_SIZE = 1
    ENABLE_PUSH = 2
    MAX_CONCURRENT_STREAMS = 3
    INITIAL_WINDOW_SIZE = 4
    MAX_FRAME_SIZE = 5
    MAX_HEADER_LIST_SIZE = 6
    UNKNOWN = 0x5A5A


class Error(IntEnum):
    """RFC 9113 section 7."""

    NO_ERROR = 0
    PROTOCOL = 1
    INTERNAL = 2
    FLOW_CONTROL = 3
    SETTINGS_TIMEOUT = 4
    STREAM_CLOSED = 5
    FRAME_SIZE = 6
    REFUSED_STREAM = 7
    CANCEL = 8
    COMPRESSION = 9
    CONNECT = 10
    ENHANCE_YOUR_CALM = 11


class Frame(NamedTuple):
    """A frame that arrived; ``fields`` is what the payload of HEADERS says."""

    kind: int
    flags: int
    stream: int
    payload: bytes
    fields: tuple[tuple[str, str], ...] = ()

    @property
    def ends_stream(self) -> bool:
        return self.kind in (Kind.DATA, Kind.HEADERS) and bool(self.flags & Flag.END_STREAM)

    @property
    def code(self) -> int:
        """The error code of RST_STREAM or GOAWAY."""
        assert self.kind in (Kind.RST_STREAM, Kind.GOAWAY)
        (code,) = struct.unpack_from("!I", self.payload, 4 if self.kind == Kind.GOAWAY else 0)
        return int(code)

    @property
    def number(self) -> int:
        """The first 31 bits: an increment, or the last stream of GOAWAY."""
        (number,) = struct.unpack_from("!I", self.payload)
        return int(number) & MAX_WINDOW

    def is_ack(self, kind: Kind, payload: bytes = b"") -> bool:
        return self.kind == kind and bool(self.flags & Flag.ACK) and self.payload == payload


# Frames.


def frame(kind: int, flags: int, stream: int, payload: bytes = b"", *, length: int | None = None) -> bytes:
    """Any frame; ``length`` is what its head claims, if that is to be a lie."""
    size = len(payload) if length is None else length
    return struct.pack("!I", size)[1:] + struct.pack("!BBI", kind, flags, stream) + payload


def data(stream: int, content: bytes = b"", *, end: bool = False, padding: int | None = None) -> bytes:
    flags = Flag.END_STREAM if end else 0
    if padding is None:
        return frame(Kind.DATA, flags, stream, content)
    return frame(Kind.DATA, flags | Flag.PADDED, stream, bytes([padding]) + content + bytes(padding))


def headers(stream: int, block: bytes, *, end: bool = False, whole: bool = True, more: int = 0) -> bytes:
    """HEADERS; ``whole`` sets END_HEADERS, ``more`` are further flags."""
    flags = (Flag.END_STREAM if end else 0) | (Flag.END_HEADERS if whole else 0) | more
    return frame(Kind.HEADERS, flags, stream, block)


def continuation(stream: int, block: bytes, *, whole: bool = True) -> bytes:
    return frame(Kind.CONTINUATION, Flag.END_HEADERS if whole else 0, stream, block)


def priority_fields(dependency: int = 0, weight: int = 16, *, exclusive: bool = False) -> bytes:
    """RFC 7540 section 6.3, which RFC 9113 deprecates; ``weight`` is from 1 to 256."""
    return struct.pack("!IB", dependency | exclusive << 31, weight - 1)


def priority(stream: int, fields: bytes = priority_fields()) -> bytes:
    return frame(Kind.PRIORITY, 0, stream, fields)


def rst_stream(stream: int, code: int = Error.CANCEL) -> bytes:
    return frame(Kind.RST_STREAM, 0, stream, struct.pack("!I", code))


def settings(*values: tuple[int, int]) -> bytes:
    return frame(Kind.SETTINGS, 0, 0, b"".join(struct.pack("!HI", *value) for value in values))


SETTINGS_ACK = frame(Kind.SETTINGS, Flag.ACK, 0)


def ping(payload: bytes = b"raw peer", *, ack: bool = False) -> bytes:
    return frame(Kind.PING, Flag.ACK if ack else 0, 0, payload)


def goaway(code: int = Error.NO_ERROR, last_stream: int = 0, text: bytes = b"") -> bytes:
    return frame(Kind.GOAWAY, 0, 0, struct.pack("!II", last_stream, code) + text)


def window_update(stream: int, increment: int) -> bytes:
    return frame(Kind.WINDOW_UPDATE, 0, stream, struct.pack("!I", increment))


def unknown(stream: int = 0, payload: bytes = bytes(8), flags: int = 0xFF) -> bytes:
    return frame(Kind.UNKNOWN, flags, stream, payload)


# Header blocks: RFC 7541.

Fields = Iterable[tuple[str | bytes, str | bytes]]


def integer(value: int, bits: int, first: int = 0) -> bytes:
    """Section 5.1: an integer with a prefix of so many bits; ``first`` holds the bits before it."""
    limit = (1 << bits) - 1
    if value < limit:
        return bytes([first | value])
    encoded = bytearray([first | limit])
    value -= limit
    while value >= 0x80:
        encoded.append(0x80 | value & 0x7F)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)


def string(value: str | bytes) -> bytes:
    """Section 5.2, as it is."""
    octets = value.encode("latin-1") if isinstance(value, str) else value
    return integer(len(octets), 7) + octets


def literal(name: str | bytes, value: str | bytes, first: int = 0x00) -> bytes:
    """A field with its name: 0x00 without indexing, 0x10 never indexed, 0x40 into the table."""
    return bytes([first]) + string(name) + string(value)


def block(fields: Fields) -> bytes:
    return b"".join(literal(name, value) for name, value in fields)


def table_size(size: int) -> bytes:
    """Section 6.3."""
    return integer(size, 5, 0x20)


# gRPC: grpc/doc/PROTOCOL-HTTP2.md.

HEALTH = "/grpc.health.v1.Health/Check"
CLIENT_STREAM = "/tunneler.v1.Tunnel/ClientStream"
PROXY_STREAM = "/tunneler.v1.Tunnel/ProxyStream"
SERVING = b"\x08\x01"
"""HealthCheckResponse.status, the first value."""


def request(path: str = HEALTH, /, *more: tuple[str | bytes, str | bytes], **changed: str | None) -> bytes:
    """The block of a call; ``changed`` replaces fields by name (``_`` for ``-``), None leaves one out.

    A pseudo-field is changed by its name without the colon.
    """
    fields: dict[str, str | None] = {
        ":method": "POST",
        ":scheme": "http",
        ":path": path,
        ":authority": "localhost",
        "te": "trailers",
        "content-type": "application/grpc",
    }
    for name, value in changed.items():
        wanted = name.replace("_", "-")
        fields[f":{wanted}" if f":{wanted}" in fields else wanted] = value
    return block([(name, value) for name, value in fields.items() if value is not None] + list(more))


def message(content: bytes = b"", *, compressed: int = 0, length: int | None = None) -> bytes:
    """A length-prefixed message; ``length`` is what the prefix claims, if that is to be a lie."""
    return struct.pack("!BI", compressed, len(content) if length is None else length) + content


def check(service: str = "") -> bytes:
    """The message of a health check."""
    return message(b"\x0a" + string(service) if service else b"")


def health_call(stream: int = 1) -> bytes:
    """A whole call that is answered with SERVING."""
    return headers(stream, request()) + data(stream, check(), end=True)
