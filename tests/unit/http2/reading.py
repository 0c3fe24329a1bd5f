"""What a connection wrote, frame by frame, and bytes cut at every place."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from hpack import Decoder

from tunneler.http2 import frames
from tunneler.http2.connection import Connection
from tunneler.http2.events import Event

PATH = "/tunnel.Tunnel/ClientStream"


class Raw(NamedTuple):
    kind: int
    flags: int
    stream: int
    payload: bytes


def parsed(written: bytes) -> list[Raw]:
    """Whole frames, and nothing after them."""
    found: list[Raw] = []
    position = 0
    while position < len(written):
        high, low, kind, flags, stream = frames.HEAD.unpack_from(written, position)
        end = position + frames.HEAD.size + (high << 16 | low)
        assert end <= len(written), "half a frame"
        found.append(Raw(kind, flags, stream, written[position + frames.HEAD.size : end]))
        position = end
    return found


def taken(connection: Connection) -> list[Raw]:
    """What the connection has for its peer, without a client's preface."""
    return parsed(b"".join(connection.output.take()).removeprefix(frames.PREFACE))


def kinds(found: list[Raw]) -> list[int]:
    return [raw.kind for raw in found]


def fields_of(raw: Raw, decoder: Decoder | None = None) -> dict[bytes, bytes]:
    """The fields of a block that needs no more of the table than ``decoder`` has."""
    assert raw.flags & frames.END_HEADERS
    return dict((decoder or Decoder()).decode(raw.payload, raw=True))


def cuts(data: bytes) -> Iterator[list[bytes]]:
    """Whole, byte by byte, and cut in two at every place."""
    yield [data]
    yield [data[place : place + 1] for place in range(len(data))]
    for place in range(1, len(data)):
        yield [data[:place], data[place:]]


def receive(connection: Connection, data: bytes, *, now: float = 0.0) -> list[Event]:
    """Hand bytes over in a buffer that is overwritten afterwards, as a socket's is."""
    buffer = bytearray(data)
    try:
        return connection.receive(memoryview(buffer), now)
    finally:
        buffer[:] = b"\xee" * len(buffer)


def receive_all(connection: Connection, chunks: Iterable[bytes], *, pause: float = 0.0) -> list[Event]:
    """Receive one after the other, with so many seconds between them."""
    return [
        event for place, chunk in enumerate(chunks) for event in receive(connection, chunk, now=place * pause)
    ]
