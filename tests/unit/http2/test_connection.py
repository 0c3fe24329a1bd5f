"""One connection and a peer that says anything: what costs it nothing, a call, or the connection."""

from __future__ import annotations

import pytest

from tests.unit.http2.pair import (
    LIMIT,
    PATH,
    REQUEST,
    RESPONSE,
    block,
    called,
    data,
    greeted,
    headers,
    trailers,
)
from tests.unit.http2.reading import Raw, cuts, fields_of, kinds, receive, taken
from tunneler.http2 import frames, limits
from tunneler.http2.codes import ErrorCode, Http2Error, Status
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

CALM = ErrorCode.ENHANCE_YOUR_CALM
PROTOCOL = ErrorCode.PROTOCOL_ERROR
SIZE = ErrorCode.FRAME_SIZE_ERROR
FLOW = ErrorCode.FLOW_CONTROL_ERROR
CLOSED = ErrorCode.STREAM_CLOSED
COMPRESSION = ErrorCode.COMPRESSION_ERROR
PING = frame(frames.PING, 0, 0, b"8 bytes.")
FULL = limits.WINDOW // 4
"""What is to be received before window is given back."""


def fails(connection: Connection, hostile: bytes, code: ErrorCode, now: float = 0.0) -> None:
    """The peer loses the connection by this."""
    connection.output.take()
    with pytest.raises(Http2Error) as caught:
        receive(connection, hostile, now=now)
    assert caught.value.code is code
    assert str(caught.value).isprintable()
    last = taken(connection)[-1]
    assert last.kind == frames.GOAWAY, "nothing is said after GOAWAY"
    assert int.from_bytes(last.payload[4:], "big") == code
    assert receive(connection, PING) == []
    assert taken(connection) == [], "what comes afterwards is not looked at"


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
    assert not connection.settled
    receive(connection, frames.settings([]))
    assert connection.settled
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
    fails(connection, (b"" if client_side else frames.PREFACE) + first, PROTOCOL)


def test_http_1() -> None:
    connection = Connection(client_side=False, message_limit=LIMIT, now=0.0)
    fails(connection, b"GET / HTTP/1.1\r\n", PROTOCOL)


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
    fails(connection, data(1, b""), FLOW)


# -------------------------------------------------------------------- what costs a peer its call


BROKEN_BY_A_CLIENT = [
    ("malformed trailers", headers(1, [(":path", "/")], ends=True), PROTOCOL),
    ("trailers that end nothing", headers(1, [("x", "y")]), PROTOCOL),
    ("no window", frames.window_update(1, 0), PROTOCOL),
    ("too much window", frames.window_update(1, frames.MAX_STREAM), FLOW),
]


@pytest.mark.parametrize(("name", "hostile", "code"), BROKEN_BY_A_CLIENT)
def test_what_costs_a_client_its_call(name: str, hostile: bytes, code: ErrorCode) -> None:
    for chunks in cuts(hostile):
        connection = called(client_side=False)
        events = [event for chunk in chunks for event in receive(connection, chunk)]
        (event,) = events
        assert isinstance(event, StreamReset)
        assert (event.stream, event.code) == (1, code)
        assert event.fault
        assert taken(connection) == [Raw(frames.RST_STREAM, 0, 1, frames.U32.pack(code))]
        assert not connection.is_open(1)


def test_after_the_end() -> None:
    for late in (data(1, b"late"), headers(1, [], ends=True)):
        connection = called(client_side=False)
        assert receive(connection, data(1, ends=True)) == [HalfClosed(1)]
        (event,) = receive(connection, late)
        assert isinstance(event, StreamReset)
        assert event.code is CLOSED


@pytest.mark.parametrize(
    ("hostile", "status"),
    [
        (frame(frames.DATA, 0, 1, b"\1\0\0\0\0"), Status.INTERNAL),
        (frame(frames.DATA, 0, 1, frames.MESSAGE_PREFIX.pack(0, LIMIT + 1)), Status.RESOURCE_EXHAUSTED),
        (frame(frames.DATA, 1, 1, b"\0\0\0\0\5half"), Status.INTERNAL),
        (frame(frames.DATA, 0, 1, b"\0") + headers(1, [], ends=True), Status.INTERNAL),
    ],
)
@pytest.mark.parametrize("answered", [True, False])
def test_what_costs_a_client_its_call_with_a_status(hostile: bytes, status: Status, answered: bool) -> None:
    for chunks in cuts(hostile):
        connection = greeted(client_side=False)
        receive(connection, headers(1, REQUEST))
        if answered:
            connection.respond(1)
            connection.output.take()
        events = [event for chunk in chunks for event in receive(connection, chunk)]
        (event,) = events
        assert isinstance(event, StreamReset)
        assert (event.stream, event.code) == (1, ErrorCode.NO_ERROR)
        end, reset = taken(connection)
        assert fields_of(end)[b"grpc-status"] == str(int(status)).encode()
        assert (b":status" in fields_of(end)) == (not answered)
        assert (reset.kind, reset.payload) == (frames.RST_STREAM, bytes(4))


@pytest.mark.parametrize(
    ("hostile", "code"),
    [
        (frame(frames.DATA, 0, 1, b"\1\0\0\0\0"), ErrorCode.CANCEL),
        (frame(frames.DATA, 1, 1, b"\0\0\0\0\5half"), ErrorCode.CANCEL),
        (headers(1, [("grpc-status", "0"), (":status", "200")], ends=True), PROTOCOL),
        (headers(1, [("grpc-status", "0")]), PROTOCOL),
    ],
)
def test_what_costs_a_server_our_call(hostile: bytes, code: ErrorCode) -> None:
    for chunks in cuts(hostile):
        connection = called(client_side=True)
        (event,) = (event for chunk in chunks for event in receive(connection, chunk))
        assert isinstance(event, StreamReset)
        assert (event.stream, event.code) == (1, code)
        assert taken(connection) == [Raw(frames.RST_STREAM, 0, 1, frames.U32.pack(code))]


@pytest.mark.parametrize(
    ("first", "code"),
    [
        (data(1, b"x"), PROTOCOL),
        (headers(1, [("x", "y")]), PROTOCOL),
        (headers(1, [(":status", "ok")]), PROTOCOL),
        (headers(1, [(":status", "100")], ends=True), PROTOCOL),
        (headers(1, [*RESPONSE, ("content-length", "ten")]), PROTOCOL),
    ],
)
def test_first_answers_that_are_none(first: bytes, code: ErrorCode) -> None:
    connection = greeted(client_side=True)
    connection.request(PATH, "server", secure=True)
    (event,) = receive(connection, first)
    assert isinstance(event, StreamReset)
    assert event.code is code


def test_declared_lengths() -> None:
    for content, good in ((b"\0\0\0\0\0", True), (b"\0\0\0\0\1x", False), (b"\0\0\0", False)):
        for chunks in cuts(frame(frames.DATA, 1, 1, content)):
            connection = greeted(client_side=False)
            receive(connection, headers(1, [*REQUEST, ("content-length", "5")]))
            events = [event for chunk in chunks for event in receive(connection, chunk)]
            if good:
                assert events == [MessageReceived(1, b""), HalfClosed(1)]
            else:
                fault = "DATA of another length than content-length says"
                assert events == [StreamReset(1, PROTOCOL, fault)]


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ([("grpc-encoding", "gzip")], Status.UNIMPLEMENTED),
        ([("grpc-timeout", "soon")], Status.INTERNAL),
    ],
)
@pytest.mark.parametrize("ends", [True, False])
def test_requests_that_are_refused(fields: list[tuple[str, str]], status: Status, ends: bool) -> None:
    connection = greeted(client_side=False)
    assert receive(connection, headers(1, [*REQUEST, *fields], ends=ends)) == []
    answer, reset = taken(connection)
    assert fields_of(answer)[b"grpc-status"] == str(int(status)).encode()
    assert fields_of(answer)[b":status"] == b"200"
    assert (reset.kind, reset.payload) == (frames.RST_STREAM, bytes(4))
    assert connection.streams == 0
    assert receive(connection, headers(3, REQUEST))


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ([(":method", "GET"), *REQUEST[1:]], b"405"),
        ([field for field in REQUEST if field[0] != "content-type"], b"415"),
    ],
)
@pytest.mark.parametrize("ends", [True, False])
def test_requests_that_are_not_grpc(fields: list[tuple[str, str]], status: bytes, ends: bool) -> None:
    connection = greeted(client_side=False)
    assert receive(connection, headers(1, fields, ends=ends)) == []
    answer, *reset = taken(connection)
    assert fields_of(answer) == {b":status": status}
    assert answer.flags & frames.END_STREAM
    assert reset == ([] if ends else [Raw(frames.RST_STREAM, 0, 1, bytes(4))])


@pytest.mark.parametrize("fields", [REQUEST[1:], [*REQUEST, ("connection", "close")], []])
def test_malformed_requests(fields: list[tuple[str, str]]) -> None:
    connection = greeted(client_side=False)
    assert receive(connection, headers(1, fields)) == []
    assert taken(connection) == [Raw(frames.RST_STREAM, 0, 1, frames.U32.pack(PROTOCOL))]
    assert connection.streams == 0
    assert receive(connection, headers(3, REQUEST))


def test_too_many_calls() -> None:
    connection = greeted(client_side=False)
    for place in range(limits.MAX_STREAMS):
        assert receive(connection, headers(2 * place + 1, REQUEST))
    number = 2 * limits.MAX_STREAMS + 1
    assert receive(connection, headers(number, REQUEST)) == []
    assert taken(connection) == [Raw(frames.RST_STREAM, 0, number, frames.U32.pack(ErrorCode.REFUSED_STREAM))]
    connection.reset(1)
    assert receive(connection, headers(number + 2, REQUEST))


# -------------------------------------------------------------- what costs a peer the connection


OF_EITHER = [
    ("CONTINUATION alone", frame(frames.CONTINUATION, 4, 1, b""), PROTOCOL),
    ("PUSH_PROMISE", frame(frames.PUSH_PROMISE, 4, 1, bytes(4)), PROTOCOL),
    ("SETTINGS on a stream", frame(frames.SETTINGS, 0, 1), PROTOCOL),
    ("SETTINGS acknowledged with a payload", frame(frames.SETTINGS, 1, 0, bytes(6)), SIZE),
    ("SETTINGS out of range", frames.settings([(4, 1 << 31)]), FLOW),
    ("PING on a stream", frame(frames.PING, 0, 1, bytes(8)), PROTOCOL),
    ("GOAWAY on a stream", frame(frames.GOAWAY, 0, 1, bytes(8)), PROTOCOL),
    ("PRIORITY on stream 0", frame(frames.PRIORITY, 0, 0, bytes(5)), PROTOCOL),
    ("HEADERS on stream 0", headers(0, REQUEST), PROTOCOL),
    ("DATA on stream 0", data(0, b"x"), PROTOCOL),
    ("DATA on an even stream", data(2, b"x"), PROTOCOL),
    ("DATA on an idle stream", data(3, b"x"), PROTOCOL),
    ("RST_STREAM on stream 0", frames.rst_stream(0, 8), PROTOCOL),
    ("RST_STREAM on an idle stream", frames.rst_stream(3, 8), PROTOCOL),
    ("WINDOW_UPDATE on an idle stream", frames.window_update(3, 8), PROTOCOL),
    ("WINDOW_UPDATE of nothing", frames.window_update(0, 0), PROTOCOL),
    ("WINDOW_UPDATE of too much", frames.window_update(0, frames.MAX_STREAM), FLOW),
    ("HEADERS on an even stream", headers(2, REQUEST), PROTOCOL),
    ("a block that cannot be read", frame(frames.HEADERS, 4, 1, b"\x80"), COMPRESSION),
    ("another frame in a block", frame(frames.HEADERS, 0, 1) + PING, PROTOCOL),
    ("DATA in a block", frame(frames.HEADERS, 0, 1) + data(1, b"x"), PROTOCOL),
    ("an unknown frame in a block", frame(frames.HEADERS, 0, 1) + frame(0xBE, 0, 1), PROTOCOL),
    ("a block of another stream", frame(frames.HEADERS, 0, 1) + frame(frames.CONTINUATION, 4, 3), PROTOCOL),
    ("a wrong length", frame(frames.PING, 0, 0, bytes(7)), SIZE),
    ("more padding than DATA", frame(frames.DATA, frames.PADDED, 1, b"\x01"), PROTOCOL),
    ("a block too large", frame(frames.HEADERS, 4, 1, bytes(limits.MAX_HEADER_LIST + 1)), CALM),
]


@pytest.mark.parametrize("client_side", [True, False])
@pytest.mark.parametrize(("name", "hostile", "code"), OF_EITHER)
def test_what_costs_the_connection(client_side: bool, name: str, hostile: bytes, code: ErrorCode) -> None:
    fails(called(client_side=client_side), hostile, code)
    connection = called(client_side=client_side)
    with pytest.raises(Http2Error) as caught:
        for place in range(len(hostile)):
            receive(connection, hostile[place : place + 1])
    assert caught.value.code is code


def test_headers_of_a_closed_stream() -> None:
    connection = called(client_side=False)
    receive(connection, headers(5, REQUEST))
    fails(connection, headers(3, REQUEST), CLOSED)


def test_data_of_a_closed_stream() -> None:
    connection = called(client_side=False)
    receive(connection, frames.rst_stream(1, 8))
    fails(connection, data(1, b"x"), CLOSED)


def test_a_server_may_not_call() -> None:
    fails(called(client_side=True), headers(3, REQUEST), PROTOCOL)


def test_windows_that_settings_make_too_large() -> None:
    connection = called(client_side=False)
    receive(connection, frames.window_update(1, frames.MAX_STREAM - DEFAULT_WINDOW))
    fails(connection, frames.settings([(4, DEFAULT_WINDOW + 1)]), FLOW)


def test_the_goaway_of_an_error_names_the_last_call() -> None:
    connection = called(client_side=False)
    receive(connection, headers(7, REQUEST))
    connection.output.take()
    with pytest.raises(Http2Error):
        receive(connection, frames.rst_stream(9, 0))
    assert taken(connection)[-1].payload[:4] == frames.U32.pack(7)


def test_blocks_in_parts() -> None:
    whole = block(REQUEST)
    for place in range(len(whole)):
        connection = greeted(client_side=False)
        begun = frame(frames.HEADERS, frames.END_STREAM, 1, whole[:place])
        assert receive(connection, begun) == []
        rest = frame(frames.CONTINUATION, frames.END_HEADERS, 1, whole[place:])
        assert len(receive(connection, rest)) == 2, "END_STREAM counts once the block is whole"


def test_late_blocks_are_read_for_their_table() -> None:
    """RFC 9113 section 4.3: else the next one could not be."""
    from hpack import Encoder

    connection = called(client_side=False)
    connection.reset(1)
    encoder = Encoder()
    late = encoder.encode([("x-kept", "value")])
    receive(connection, frame(frames.HEADERS, 5, 1, late))
    fields = encoder.encode([*REQUEST, ("x-kept", "value")])
    assert receive(connection, frame(frames.HEADERS, 4, 3, fields))


# --------------------------------------------------------------------- without effect, and floods


@pytest.mark.parametrize("client_side", [True, False])
@pytest.mark.parametrize(
    "harmless",
    [
        frame(0xBE, 255, 5, b"unknown"),
        frame(frames.PRIORITY, 0, 1, bytes(5)),
        frame(frames.PRIORITY, 0, 77, bytes(5)),
        frame(frames.DATA, 0, 1),
        frame(frames.PING, frames.ACK, 0, bytes(8)),
        frames.SETTINGS_ACK,
        frames.window_update(1, 1),
        frames.window_update(0, 1),
        frame(frames.SETTINGS, 0x40, 0, b"\xab\xcd\0\0\0\1"),
    ],
)
def test_what_has_no_effect(client_side: bool, harmless: bytes) -> None:
    connection = called(client_side=client_side)
    assert receive(connection, harmless) == []
    assert connection.is_open(1)
    assert [raw for raw in taken(connection) if raw != Raw(frames.SETTINGS, frames.ACK, 0, b"")] == []


def test_pings_are_answered() -> None:
    connection = called(client_side=False)
    receive(connection, PING)
    assert taken(connection) == [Raw(frames.PING, frames.ACK, 0, b"8 bytes.")]


def test_our_ping() -> None:
    connection = called(client_side=False)
    connection.ping()
    (ping,) = taken(connection)
    assert (ping.kind, ping.flags, len(ping.payload)) == (frames.PING, 0, 8)


def with_a_lost_call(*, client_side: bool) -> Connection:
    """The call 1, and the call 3, which we have reset."""
    connection = called(client_side=client_side)
    if client_side:
        connection.request(PATH, "server", secure=True)
    else:
        receive(connection, headers(3, REQUEST))
    connection.reset(3)
    connection.output.take()
    return connection


FLOODS = [
    ("SETTINGS", frames.settings([]), limits.SETTINGS),
    ("acknowledgements", frames.SETTINGS_ACK, limits.SETTINGS),
    ("PING", PING, limits.PINGS),
    ("answers to PING", frame(frames.PING, 1, 0, bytes(8)), limits.PINGS),
    ("PRIORITY", frame(frames.PRIORITY, 0, 1, bytes(5)), limits.IDLE_FRAMES),
    ("GOAWAY", frames.goaway(1, 0), limits.IDLE_FRAMES),
    ("unknown", frame(0xBE, 0, 0, bytes(9)), limits.IDLE_FRAMES),
    ("empty DATA", frame(frames.DATA, 0, 1), limits.IDLE_FRAMES),
    ("DATA that is all padding", frame(frames.DATA, 8, 1, b"\x04" + bytes(4)), limits.IDLE_FRAMES),
    ("late field lists", headers(3, [("x", "y")], ends=True), limits.IDLE_FRAMES),
    ("WINDOW_UPDATE", frames.window_update(1, 1), limits.WINDOW_UPDATES),
]


@pytest.mark.parametrize(("name", "one", "frequency"), FLOODS)
@pytest.mark.parametrize("client_side", [True, False])
def test_floods(client_side: bool, name: str, one: bytes, frequency: limits.Frequency) -> None:
    connection = called(client_side=client_side)
    if name == "late field lists":
        connection = with_a_lost_call(client_side=client_side)
    spent = 2 if one[3] == frames.SETTINGS else 0  # by the greeting
    for _ in range(int(frequency.burst) - spent):
        receive(connection, one)
        connection.output.take()
    fails(connection, one, CALM)


@pytest.mark.parametrize(("name", "one", "frequency"), FLOODS)
def test_what_may_go_on_for_ever(name: str, one: bytes, frequency: limits.Frequency) -> None:
    connection = with_a_lost_call(client_side=False)
    for number in range(5000):
        receive(connection, one, now=number / frequency.per_second)
        connection.output.take()


def test_interim_responses_for_ever() -> None:
    connection = greeted(client_side=True)
    connection.request(PATH, "server", secure=True)
    interim = headers(1, [(":status", "103")])
    for _ in range(int(limits.IDLE_FRAMES.burst)):
        assert receive(connection, interim) == []
    fails(connection, interim, CALM)


def test_rapid_reset() -> None:
    """CVE-2023-44487."""
    connection = greeted(client_side=False)
    with pytest.raises(Http2Error) as caught:
        for number in range(1, 10_000, 2):
            receive(connection, headers(number, REQUEST) + frames.rst_stream(number, 8))
            assert number < 2 * limits.RESETS.burst + 2
    assert caught.value.code is CALM


@pytest.mark.parametrize(
    "fields",
    [
        REQUEST[1:],
        [*REQUEST, ("grpc-encoding", "gzip")],
        [(":method", "GET"), *REQUEST[1:]],
    ],
)
def test_calls_that_lead_nowhere(fields: list[tuple[str, str]]) -> None:
    connection = greeted(client_side=False)
    with pytest.raises(Http2Error) as caught:
        for number in range(1, 10_000, 2):
            receive(connection, headers(number, fields, ends=True))
            connection.output.take()
            assert number < 2 * limits.FAULTS.burst + 2
    assert caught.value.code is CALM


def test_a_peer_that_does_not_read() -> None:
    """Its rate is fair, but it never takes the answers."""
    connection = called(client_side=False)
    with pytest.raises(Http2Error, match="answers are not read") as caught:
        for number in range(10_000):
            receive(connection, PING, now=number)
    assert caught.value.code is CALM


def test_messages_that_are_only_begun() -> None:
    connection = greeted(client_side=False)
    frame_limit = LIMIT + frames.MESSAGE_PREFIX.size
    for number in range(1, 2 * limits.MAX_STREAMS, 2):
        receive(connection, headers(number, REQUEST))
    begun = frames.MESSAGE_PREFIX.pack(0, LIMIT) + bytes(LIMIT - 1)
    receive(connection, frame(frames.DATA, 0, 1, begun))
    receive(connection, frame(frames.DATA, 0, 3, begun))
    assert 2 * len(begun) <= 2 * frame_limit
    fails(connection, frame(frames.DATA, 0, 5, begun), CALM)


def test_smaller_messages_for_one_call() -> None:
    connection = called(client_side=False)
    connection.limit_messages(1, 10)
    assert receive(connection, data(1, bytes(10))) == [MessageReceived(1, bytes(10))]
    (event,) = receive(connection, data(1, bytes(11)))
    assert isinstance(event, StreamReset)
    assert event.fault == "a message of 11 bytes exceeds 10"


def test_what_comes_is_not_referred_to() -> None:
    """``receive`` gets a shared buffer; :func:`receive` overwrites it, and so shows."""
    connection = called(client_side=False)
    events: list[Event] = []
    for chunk in (data(1, b"first")[:12], data(1, b"first")[12:], data(1, b"second", b"third")):
        events += receive(connection, chunk)
    assert [event.message for event in events if isinstance(event, MessageReceived)] == [
        b"first",
        b"second",
        b"third",
    ]
