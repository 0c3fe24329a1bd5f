"""One connection and a peer that says anything: what costs it nothing, a call, or the connection."""

from __future__ import annotations

import pytest

from tests.unit.http2.pair import (
    LIMIT,
    PATH,
    PING,
    REQUEST,
    RESPONSE,
    called,
    data,
    fails,
    greeted,
    headers,
    trailers,
)
from tests.unit.http2.reading import Raw, fields_of, kinds, receive, taken
from tunneler.http2 import frames, limits
from tunneler.http2.codes import ErrorCode, Status
from tunneler.http2.connection import Connection
from tunneler.http2.events import (
    CallEnded,
    Event,
    GoawayReceived,
    HalfClosed,
    MessageReceived,
    RequestReceived,
    ResponseReceived,
    RoomMade,
    StreamReset,
)
from tunneler.http2.frames import frame
from tunneler.http2.grpc import Outcome, Request
from tunneler.http2.settings import DEFAULT_WINDOW

PROTOCOL = ErrorCode.PROTOCOL_ERROR
FLOW = ErrorCode.FLOW_CONTROL_ERROR
FULL = limits.WINDOW // 4
"""What is to be received before window is given back."""


# ------------------------------------------------------------------------------------- greeting


def test_what_a_client_says_first() -> None:
    connection = Connection(client_side=True, message_limit=LIMIT, now=0.0)
    written = b"".join(connection.output.take())
    assert written.startswith(frames.PREFACE)
    assert written.endswith(frames.window_update(0, limits.WINDOW - DEFAULT_WINDOW))


def test_what_a_server_says_first() -> None:
    connection = Connection(client_side=False, message_limit=LIMIT, now=0.0)
    settings, update = taken(connection)
    assert (settings.kind, settings.flags, settings.stream) == (frames.SETTINGS, 0, 0)
    assert update == Raw(frames.WINDOW_UPDATE, 0, 0, frames.U32.pack(limits.WINDOW - DEFAULT_WINDOW))


@pytest.mark.parametrize("client_side", [True, False])
def test_settled(client_side: bool) -> None:
    connection = Connection(client_side=client_side, message_limit=LIMIT, now=0.0)
    connection.output.take()
    if not client_side:
        receive(connection, frames.PREFACE)
    before = connection.settled
    receive(connection, frames.settings([]))
    assert (before, connection.settled) == (False, True)
    assert taken(connection) == [Raw(frames.SETTINGS, frames.ACK, 0, b"")]


@pytest.mark.parametrize("client_side", [True, False])
@pytest.mark.parametrize(
    "first",
    [
        PING,
        frames.SETTINGS_ACK,
        headers(1, REQUEST),
        data(1, b"x"),
        frames.window_update(0, 1),
        frame(0xBE, 0, 0),
        frames.goaway(0, 0),
    ],
)
def test_settings_come_first(client_side: bool, first: bytes) -> None:
    connection = Connection(client_side=client_side, message_limit=LIMIT, now=0.0)
    fails(connection, (b"" if client_side else frames.PREFACE) + first, code=PROTOCOL)


def test_http_1() -> None:
    connection = Connection(client_side=False, message_limit=LIMIT, now=0.0)
    fails(connection, b"GET / HTTP/1.1\r\n", code=PROTOCOL)


# ---------------------------------------------------------------------------------------- calls


def test_a_call_as_the_server_sees_it() -> None:
    connection = greeted(client_side=False)
    fields = [*REQUEST, ("grpc-timeout", "5S"), ("content-length", "12")]
    assert receive(connection, headers(1, fields)) == [RequestReceived(1, Request(PATH, 5.0, 12))]
    assert connection.streams == 1
    connection.respond(1)
    connection.respond(1)
    assert receive(connection, data(1, b"message", ends=True)) == [
        MessageReceived(1, b"message"),
        HalfClosed(1),
    ]
    assert connection.send_message(1, b"answer")
    connection.end(1, Status.NOT_FOUND)
    assert not connection.is_open(1)
    response, answer, end = taken(connection)
    assert fields_of(response) == {b":status": b"200", b"content-type": b"application/grpc"}
    assert answer == Raw(frames.DATA, 0, 1, b"\0\0\0\0\6answer")
    assert end.flags & frames.END_STREAM


def test_a_call_as_the_client_sees_it() -> None:
    connection = greeted(client_side=True)
    assert connection.request(PATH, "server:443", secure=False) == 1
    connection.half_close(1)
    request, end = taken(connection)
    assert fields_of(request)[b":path"] == PATH.encode()
    assert fields_of(request)[b":authority"] == b"server:443"
    assert end == Raw(frames.DATA, frames.END_STREAM, 1, b"")
    assert receive(connection, headers(1, RESPONSE)) == [ResponseReceived(1)]
    assert receive(connection, data(1, b"answer")) == [MessageReceived(1, b"answer")]
    ended = CallEnded(1, Outcome(Status.NOT_FOUND, ""))
    assert receive(connection, trailers(1, Status.NOT_FOUND)) == [ended]
    assert not connection.is_open(1)
    assert taken(connection) == [], "both halves have ended"
    assert connection.request(PATH, "server", secure=True) == 3


def test_a_request_that_is_all_there_is() -> None:
    connection = greeted(client_side=False)
    request = RequestReceived(1, Request(PATH, None, None))
    assert receive(connection, headers(1, REQUEST, ends=True)) == [request, HalfClosed(1)]
    connection.end(1, Status.OK)
    assert kinds(taken(connection)) == [frames.HEADERS]


def test_a_server_that_ends_first_asks_the_client_to_stop() -> None:
    connection = called(client_side=False)
    connection.end(1, Status.OK)
    end, reset = taken(connection)
    assert end.kind == frames.HEADERS
    assert reset == Raw(frames.RST_STREAM, 0, 1, bytes(4))
    late = data(1, b"late", ends=True) + headers(1, [], ends=True) + frames.rst_stream(1, 0)
    assert receive(connection, late) == []
    assert taken(connection) == []


def test_a_client_whose_call_has_ended_stops() -> None:
    connection = called(client_side=True)
    assert receive(connection, trailers(1)) == [CallEnded(1, Outcome(Status.OK, ""))]
    assert taken(connection) == [Raw(frames.RST_STREAM, 0, 1, frames.U32.pack(ErrorCode.CANCEL))]
    assert receive(connection, frames.rst_stream(1, 0)) == [], "RFC 9113 section 8.1"


def test_a_response_of_nothing_but_trailers() -> None:
    connection = greeted(client_side=True)
    connection.request(PATH, "server", secure=True)
    only = headers(1, [*RESPONSE, ("grpc-status", "12"), ("grpc-message", "no")], ends=True)
    assert receive(connection, only) == [CallEnded(1, Outcome(Status.UNIMPLEMENTED, "no"))]


def test_a_response_that_is_no_grpc() -> None:
    connection = greeted(client_side=True)
    connection.request(PATH, "server", secure=True)
    ended = CallEnded(1, Outcome(Status.UNAVAILABLE, "HTTP status 503"))
    assert receive(connection, headers(1, [(":status", "503")])) == [ended]
    assert not connection.is_open(1)
    assert receive(connection, frame(frames.DATA, 1, 1, b"<html>")) == []


def test_interim_responses() -> None:
    connection = greeted(client_side=True)
    connection.request(PATH, "server", secure=True)
    interim = headers(1, [(":status", "103"), ("link", "x")])
    assert receive(connection, interim * 3) == []
    assert receive(connection, headers(1, RESPONSE)) == [ResponseReceived(1)]


def test_a_response_without_a_status() -> None:
    connection = called(client_side=True)
    outcome = Outcome(Status.UNKNOWN, "the response ended without a status")
    assert receive(connection, data(1, b"m", ends=True)) == [MessageReceived(1, b"m"), CallEnded(1, outcome)]


def test_trailers_of_a_request() -> None:
    """gRPC has none, but HTTP does."""
    connection = called(client_side=False)
    assert receive(connection, headers(1, [("x", "y")], ends=True)) == [HalfClosed(1)]


def test_resetting() -> None:
    for client_side in (True, False):
        connection = called(client_side=client_side)
        connection.reset(1)
        connection.reset(1)
        connection.reset(77)
        assert taken(connection) == [Raw(frames.RST_STREAM, 0, 1, frames.U32.pack(ErrorCode.CANCEL))]
        assert not connection.is_open(1)
        late = data(1, b"late") + frames.window_update(1, 5) + trailers(1)
        assert receive(connection, late) == []
        assert connection.send_message(1, b"nobody listens")
        assert taken(connection) == []


@pytest.mark.parametrize("code", [ErrorCode.CANCEL, 0xBEEF])
@pytest.mark.parametrize("client_side", [True, False])
def test_being_reset(client_side: bool, code: int) -> None:
    connection = called(client_side=client_side)
    assert receive(connection, frames.rst_stream(1, code) * 2) == [StreamReset(1, code, "")]
    assert not connection.is_open(1)
    assert taken(connection) == []


def test_nothing_after_our_end() -> None:
    connection = called(client_side=True)
    connection.half_close(1)
    connection.half_close(1)
    assert connection.send_message(1, b"late")
    assert taken(connection) == [Raw(frames.DATA, frames.END_STREAM, 1, b"")]


def test_calls_that_are_not_there() -> None:
    connection = greeted(client_side=False)
    connection.respond(1)
    connection.end(1, Status.OK)
    connection.limit_messages(1, 10)
    assert connection.send_message(1, b"m")
    assert not connection.waits(1)
    assert taken(connection) == []


# ------------------------------------------------------------------------------- going away


def test_going_away() -> None:
    connection = called(client_side=False)
    receive(connection, headers(3, REQUEST))
    connection.go_away()
    assert taken(connection)[-1] == Raw(frames.GOAWAY, 0, 0, frames.GOAWAY_HEAD.pack(3, 0))
    assert receive(connection, headers(5, REQUEST)) == []
    assert taken(connection) == [Raw(frames.RST_STREAM, 0, 5, frames.U32.pack(ErrorCode.REFUSED_STREAM))]
    assert receive(connection, data(1, b"goes on")) == [MessageReceived(1, b"goes on")]


def test_being_left_by_a_server() -> None:
    connection = greeted(client_side=True)
    for _ in range(3):
        connection.request(PATH, "server", secure=True)
    events = receive(connection, frames.goaway(3, ErrorCode.NO_ERROR))
    refused = StreamReset(5, ErrorCode.REFUSED_STREAM, "")
    assert events == [GoawayReceived(3, ErrorCode.NO_ERROR), refused]
    assert [number for number in (1, 3, 5) if connection.is_open(number)] == [1, 3]


def test_being_left_by_a_client() -> None:
    connection = called(client_side=False)
    left = frame(frames.GOAWAY, 0, 0, frames.GOAWAY_HEAD.pack(0x80000000, 0xBEEF) + b"why")
    assert receive(connection, left) == [GoawayReceived(0, 0xBEEF)]
    assert connection.is_open(1)


# ------------------------------------------------------------------------- flow control, sending


def test_messages_wait_for_the_peers_window() -> None:
    connection = called(client_side=True, settings=[(4, 10)])
    assert not connection.send_message(1, b"0123456789")
    assert connection.waits(1)
    connection.half_close(1)
    assert receive(connection, frames.window_update(1, 4)) == []
    assert receive(connection, frames.window_update(1, 1)) == [RoomMade(1)]
    assert not connection.waits(1)
    first, second, third, end = taken(connection)
    assert first.payload + second.payload + third.payload == b"\0\0\0\0\n0123456789"
    assert end == Raw(frames.DATA, frames.END_STREAM, 1, b"")


def test_the_connections_window_is_shared() -> None:
    connection = greeted(client_side=True, settings=[(4, 1 << 20)])
    for _ in range(2):
        connection.request(PATH, "server", secure=True)
    assert connection.send_message(1, bytes(50_000))
    assert not connection.send_message(3, bytes(50_000))
    connection.output.take()
    assert receive(connection, frames.window_update(0, 50_000)) == [RoomMade(3)]
    assert sum(len(raw.payload) for raw in taken(connection)) == 100_010 - DEFAULT_WINDOW


def test_settings_make_room() -> None:
    connection = called(client_side=True, settings=[(4, 0)])
    assert not connection.send_message(1, b"message")
    assert receive(connection, frames.settings([(4, 12)])) == [RoomMade(1)]
    acknowledgement, message = taken(connection)
    assert acknowledgement.kind == frames.SETTINGS, "the peer must know first that it may come"
    assert message.payload == b"\0\0\0\0\7message"


def test_a_server_ends_when_all_is_sent() -> None:
    connection = called(client_side=False, settings=[(4, 3)])
    assert not connection.send_message(1, b"message")
    connection.end(1, Status.OK)
    assert kinds(taken(connection)) == [frames.DATA]
    assert receive(connection, frames.window_update(1, 100)) == [RoomMade(1)]
    assert kinds(taken(connection)) == [frames.DATA, frames.HEADERS, frames.RST_STREAM]


def test_frames_as_large_as_the_peer_takes() -> None:
    connection = called(client_side=True, settings=[(5, 20_000), (4, 1 << 20)])
    receive(connection, frames.window_update(0, 1 << 20))
    connection.send_message(1, bytes(50_000))
    assert [len(raw.payload) for raw in taken(connection)] == [20_000, 20_000, 10_005]


# ----------------------------------------------------------------------- flow control, receiving


@pytest.mark.parametrize("client_side", [True, False])
def test_window_is_given_back(client_side: bool) -> None:
    connection = called(client_side=client_side)
    size = LIMIT
    count = FULL // (size + 5)
    for _ in range(count):
        receive(connection, data(1, bytes(size)))
    assert taken(connection) == []
    receive(connection, data(1, bytes(size)))
    given = frames.U32.pack((count + 1) * (size + 5))
    assert sorted(taken(connection)) == [
        Raw(frames.WINDOW_UPDATE, 0, 0, given),
        Raw(frames.WINDOW_UPDATE, 0, 1, given),
    ]


def test_padding_is_given_back_too() -> None:
    connection = called(client_side=False)
    padded = frame(frames.DATA, frames.PADDED, 1, b"\xff" + b"\0\0\0\0\1m" + bytes(255))
    for number in range(limits.WINDOW // 262 * 2):
        assert receive(connection, padded, now=float(number)) == [MessageReceived(1, b"m")]


@pytest.mark.parametrize("how", ["reset", "lost"])
def test_window_of_a_call_that_is_gone_is_given_back(how: str) -> None:
    """Else an honest peer's other calls stand still."""
    connection = called(client_side=False)
    receive(connection, headers(3, REQUEST))
    if how == "reset":
        connection.reset(1)
    else:
        receive(connection, frame(frames.DATA, 0, 1, b"\1\0\0\0\0"))
    connection.output.take()
    given = 0
    for _ in range(3 * limits.WINDOW // LIMIT):
        assert receive(connection, data(1, bytes(LIMIT))) == []
        given += sum(int.from_bytes(raw.payload, "big") for raw in taken(connection))
    assert given > 2 * limits.WINDOW
    assert receive(connection, data(3, b"fine")) == [MessageReceived(3, b"fine")]


def test_faults_give_the_window_back() -> None:
    """Each of these calls ends with the first bytes of a frame that is most of the window."""
    size = limits.WINDOW // 2
    connection = Connection(client_side=False, message_limit=size, now=0.0)
    receive(connection, frames.PREFACE + frames.settings([]))
    given = 0
    for number in range(1, 9, 2):
        receive(connection, headers(number, REQUEST))
        receive(connection, frame(frames.DATA, 0, number, b"\1" + bytes(size - 1)))
        given += sum(
            int.from_bytes(raw.payload, "big")
            for raw in taken(connection)
            if raw[::2] == (frames.WINDOW_UPDATE, 0)
        )
    assert given >= 4 * size


def test_the_end_of_a_call_needs_no_window() -> None:
    connection = called(client_side=True)
    content = frames.MESSAGE_PREFIX.pack(0, LIMIT) + bytes(LIMIT)
    events: list[Event] = []
    for _ in range(FULL // len(content)):
        receive(connection, frame(frames.DATA, 0, 1, content))
    for chunks in ([frame(frames.DATA, 1, 1, content)],):
        for chunk in chunks:
            events += receive(connection, chunk)
    assert isinstance(events[-1], CallEnded)
    assert 1 not in {raw.stream for raw in taken(connection) if raw.kind == frames.WINDOW_UPDATE}


def test_beyond_a_streams_window() -> None:
    connection = called(client_side=False)
    connection._table.streams[1].receive_window = 10
    assert receive(connection, data(1, b"67890")) == [MessageReceived(1, b"67890")]
    (reset,) = receive(connection, data(1, b""))
    assert reset == StreamReset(1, FLOW, "DATA beyond the stream's window")


def test_beyond_the_connections_window() -> None:
    connection = called(client_side=False)
    connection._incoming._window = 10
    assert receive(connection, data(1, b"67890")) == [MessageReceived(1, b"67890")]
    fails(connection, data(1, b""), code=FLOW)
