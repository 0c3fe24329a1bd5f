"""Connections that are ready to be tried: greeted ones, and two back to back by a fake link."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hpack import Encoder

from tests.unit.http2.reading import receive, receive_all, taken
from tunneler.http2 import frames
from tunneler.http2.codes import ErrorCode, Http2Error, Status
from tunneler.http2.connection import Connection
from tunneler.http2.events import (
    CallEnded,
    Event,
    GoawayReceived,
    HalfClosed,
    MessageReceived,
    RequestReceived,
    StreamReset,
)
from tunneler.http2.grpc import RESPONSE_FIELDS, request_fields, trailer_fields

LIMIT = 100_000
"""Bytes of a message, here."""

PATH = "/tunnel.Tunnel/ClientStream"

PING = frames.frame(frames.PING, 0, 0, b"8 bytes.")

Fields = list[tuple[str, str]]

REQUEST: Fields = request_fields(PATH, "server", secure=True)
RESPONSE: Fields = RESPONSE_FIELDS


def headers(stream: int, fields: Fields, *, ends: bool = False) -> bytes:
    """HEADERS that use no table."""
    flags = frames.END_HEADERS | (frames.END_STREAM if ends else 0)
    return frames.frame(frames.HEADERS, flags, stream, block(fields))


def trailers(stream: int, status: Status = Status.OK) -> bytes:
    return headers(stream, trailer_fields(status), ends=True)


def block(fields: Fields) -> bytes:
    return Encoder().encode([(name, value, True) for name, value in fields])


def data(stream: int, *messages: bytes, ends: bool = False) -> bytes:
    content = b"".join(frames.MESSAGE_PREFIX.pack(0, len(message)) + message for message in messages)
    return frames.frame(frames.DATA, frames.END_STREAM if ends else 0, stream, content)


def greeted(*, client_side: bool, settings: list[tuple[int, int]] | None = None) -> Connection:
    """A connection whose peer has said its SETTINGS; the output is empty."""
    connection = Connection(client_side=client_side, message_limit=LIMIT, now=0.0)
    preface = b"" if client_side else frames.PREFACE
    assert receive(connection, preface + frames.settings(settings or []) + frames.SETTINGS_ACK) == []
    connection.output.take()
    return connection


def called(*, client_side: bool, settings: list[tuple[int, int]] | None = None) -> Connection:
    """A greeted connection with the call 1, which has been answered."""
    connection = greeted(client_side=client_side, settings=settings)
    if client_side:
        assert connection.request(PATH, "server", secure=True) == 1
        receive(connection, headers(1, RESPONSE))
    else:
        receive(connection, headers(1, REQUEST))
        connection.respond(1)
    connection.output.take()
    return connection


def fails(connection: Connection, *hostile: bytes, code: ErrorCode) -> None:
    """The peer loses the connection by the last of these, if not before."""
    connection.output.take()
    with pytest.raises(Http2Error) as caught:
        receive_all(connection, hostile)
    assert caught.value.code is code
    assert str(caught.value).isprintable()
    last = taken(connection)[-1]
    assert last.kind == frames.GOAWAY, "nothing is said after GOAWAY"
    assert int.from_bytes(last.payload[4:], "big") == code
    assert receive(connection, PING) == []
    assert taken(connection) == [], "what comes afterwards is not looked at"


class Seen:
    """What one side has been told, by stream; checks that each call is told of in order."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.messages: dict[int, list[bytes]] = {}
        self.half_closed: set[int] = set()
        self.ended: dict[int, Event] = {}
        self.goaways: list[GoawayReceived] = []

    def note(self, events: list[Event]) -> None:
        for event in events:
            self.events.append(event)
            if isinstance(event, GoawayReceived):
                self.goaways.append(event)
                continue
            assert event.stream not in self.ended, f"{event} of a call that is over"
            match event:
                case MessageReceived(stream, message):
                    assert stream not in self.half_closed
                    self.messages.setdefault(stream, []).append(message)
                case HalfClosed(stream):
                    assert stream not in self.half_closed
                    self.half_closed.add(stream)
                case CallEnded(stream) | StreamReset(stream):
                    self.ended[stream] = event
                case RequestReceived(stream):
                    self.messages[stream] = []
                case _:
                    pass


class Side:
    """One of the two, and what is on its way to it."""

    def __init__(self, *, client_side: bool) -> None:
        self.connection = Connection(client_side=client_side, message_limit=LIMIT, now=0.0)
        self.seen = Seen()
        self.under_way = bytearray()

    def arrive(self, size: int, now: float) -> None:
        """Receive so many of the bytes that are under way."""
        chunk = bytes(self.under_way[:size])
        del self.under_way[:size]
        self.seen.note(receive(self.connection, chunk, now=now))


class Pair:
    """A client and a server.

    Args:
        cut: returns how many of so many bytes arrive at once.
    """

    def __init__(self, cut: Callable[[int], int] = lambda size: size) -> None:
        self.client = Side(client_side=True)
        self.server = Side(client_side=False)
        self.now = 0.0
        self._cut = cut

    def other(self, side: Side) -> Side:
        return self.server if side is self.client else self.client

    def flush(self, side: Side) -> None:
        """What a side wrote is on its way."""
        self.other(side).under_way += b"".join(side.connection.output.take())

    def deliver(self, side: Side) -> None:
        """All that is under way to a side arrives, in pieces."""
        while side.under_way:
            side.arrive(self._cut(len(side.under_way)), self.now)

    def settle(self) -> None:
        """Let all arrive that is said, and the answers to it."""
        for _ in range(10_000):
            for side in (self.client, self.server):
                self.flush(side)
            if not self.client.under_way and not self.server.under_way:
                return
            for side in (self.client, self.server):
                self.deliver(side)
            self.now += 0.01
        raise AssertionError("the two talk for ever")
