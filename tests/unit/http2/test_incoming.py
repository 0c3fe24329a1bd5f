"""The short way for a whole message in a whole frame takes no more than the long way would.

Bytes that are cut in two go the long way; whatever is special about a call, the events, the
answers and the windows must come out the same.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.unit.http2.pair import LIMIT, REQUEST, called, data, greeted, headers
from tests.unit.http2.reading import PATH, Raw, receive, taken
from tunneler.http2 import frames
from tunneler.http2.codes import Http2Error
from tunneler.http2.connection import Connection
from tunneler.http2.events import Event, MessageReceived

MESSAGE = data(1, b"message")


def half_closed(connection: Connection) -> None:
    receive(connection, data(1, ends=True))


def declared(length: int) -> Callable[[Connection], None]:
    def declare(connection: Connection) -> None:
        connection._table.streams[1].content_left = length

    return declare


def in_the_middle(connection: Connection) -> None:
    receive(connection, frames.frame(frames.DATA, 0, 1, b"\0\0\0\0\x20half"))


def in_a_prefix(connection: Connection) -> None:
    receive(connection, frames.frame(frames.DATA, 0, 1, b"\0\0"))


def in_a_block(connection: Connection) -> None:
    receive(connection, frames.frame(frames.HEADERS, 0, 1))


def in_a_frame(connection: Connection) -> None:
    receive(connection, frames.head(frames.DATA, 0, 1, 100) + frames.MESSAGE_PREFIX.pack(0, 95))


def in_padding(connection: Connection) -> None:
    receive(connection, frames.head(frames.DATA, frames.PADDED, 1, 101) + b"\x64")


def in_an_unknown_frame(connection: Connection) -> None:
    receive(connection, frames.head(0xBE, 0, 1, 100))


def limited(connection: Connection) -> None:
    connection.limit_messages(1, 6)


def just_limited(connection: Connection) -> None:
    connection.limit_messages(1, 7)


def little_room(room: int) -> Callable[[Connection], None]:
    def narrow(connection: Connection) -> None:
        connection._table.streams[1].receive_window = room

    return narrow


def little_room_for_all(room: int) -> Callable[[Connection], None]:
    def narrow(connection: Connection) -> None:
        connection._incoming._window = room

    return narrow


def much_owed(connection: Connection) -> None:
    for _ in range(20):
        receive(connection, data(1, bytes(LIMIT)))
    connection._incoming._owed += 97_041 - len(MESSAGE)
    connection._table.streams[1].owed += 97_041 - len(MESSAGE)


def reset(connection: Connection) -> None:
    connection.reset(1)


def was_reset(connection: Connection) -> None:
    receive(connection, frames.rst_stream(1, 8))


def nothing(connection: Connection) -> None:
    pass


SPECIAL = [
    nothing,
    half_closed,
    declared(12),
    declared(11),
    declared(100),
    in_the_middle,
    in_a_prefix,
    in_a_block,
    in_a_frame,
    in_padding,
    in_an_unknown_frame,
    limited,
    just_limited,
    little_room(12),
    little_room(11),
    little_room_for_all(12),
    little_room_for_all(11),
    much_owed,
    reset,
    was_reset,
]


def outcome(connection: Connection, chunks: list[bytes]) -> tuple[list[Event], str, list[Raw], list[int]]:
    events: list[Event] = []
    fault = ""
    connection.output.take()
    try:
        for chunk in chunks:
            events += receive(connection, chunk)
    except Http2Error as error:
        fault = f"{error.code.name}: {error}"
    incoming = connection._incoming
    windows = [incoming._window, incoming._owed]
    for stream in connection._table.streams.values():
        windows += [stream.receive_window, stream.owed, len(stream.messages.held)]
    return events, fault, taken(connection), windows


@pytest.mark.parametrize("special", SPECIAL)
@pytest.mark.parametrize("client_side", [True, False])
@pytest.mark.parametrize(
    "message",
    [
        MESSAGE,
        data(1, b""),
        data(1, b"message", ends=True),
        data(3, b"message"),
        data(1, b"two", b"messages"),
        frames.frame(frames.DATA, 0, 1, b"\1\0\0\0\7message"),
        frames.frame(frames.DATA, 0, 1, b"\0\0\0\0\6message"),
        frames.frame(frames.DATA, 0, 1, b"\0\0\0\0\10message"),
        frames.frame(frames.DATA, frames.PADDED, 1, b"\0\0\0\0\7message"),
        frames.frame(frames.DATA, 0x40, 1, b"\0\0\0\0\7message"),
        frames.frame(frames.HEADERS, 0, 1, b"\0\0\0\0\7message"),
        MESSAGE[:5] + b"\x80" + MESSAGE[6:],
    ],
)
def test_the_short_way_is_no_other(
    special: Callable[[Connection], None], client_side: bool, message: bytes
) -> None:
    found = []
    for chunks in ([message], [message[:9], message[9:]], [message[:1], message[1:]]):
        connection = called(client_side=client_side)
        special(connection)
        found.append(outcome(connection, chunks))
    assert found[0] == found[1] == found[2]


def test_before_the_answer() -> None:
    found = []
    for chunks in ([MESSAGE], [MESSAGE[:9], MESSAGE[9:]]):
        connection = greeted(client_side=True)
        connection.request(PATH, "server", secure=True)
        found.append(outcome(connection, chunks))
    assert found[0] == found[1]
    assert found[0][0], "the call is lost"


def test_before_the_settings() -> None:
    connection = Connection(client_side=True, message_limit=LIMIT, now=0.0)
    connection.request(PATH, "server", secure=True)
    with pytest.raises(Http2Error):
        receive(connection, MESSAGE)


def test_both_ways_alternate() -> None:
    connection = called(client_side=False)
    events: list[Event] = []
    chunks = (MESSAGE, MESSAGE[:7], MESSAGE[7:], MESSAGE, headers(3, REQUEST), MESSAGE + MESSAGE[:20])
    for chunk in (*chunks, MESSAGE[20:], MESSAGE):
        events += [event for event in receive(connection, chunk) if isinstance(event, MessageReceived)]
    assert events == [MessageReceived(1, b"message")] * 6


@pytest.mark.parametrize("place", range(1, len(MESSAGE)))
def test_a_frame_that_looks_whole_inside_another(place: int) -> None:
    """What arrives may begin like a frame and be the middle of one."""
    connection = called(client_side=True)
    outer = data(1, bytes(40) + MESSAGE + bytes(40))
    start = outer.index(MESSAGE)
    events = receive(connection, outer[:start])
    events += receive(connection, outer[start : start + len(MESSAGE)])
    events += receive(connection, outer[start + len(MESSAGE) :] + MESSAGE[:place])
    events += receive(connection, MESSAGE[place:])
    assert events == [MessageReceived(1, bytes(40) + MESSAGE + bytes(40)), MessageReceived(1, b"message")]
