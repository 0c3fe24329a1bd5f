"""A peer that breaks the rules: what costs it a call, and what the connection."""

from __future__ import annotations

import pytest

from tests.unit.http2.pair import (
    LIMIT,
    PATH,
    PING,
    REQUEST,
    RESPONSE,
    block,
    called,
    data,
    fails,
    greeted,
    headers,
    trailers,
)
from tests.unit.http2.reading import Raw, cuts, fields_of, receive, receive_all, taken
from tunneler.http2 import frames, limits
from tunneler.http2.codes import ErrorCode, Http2Error, Status
from tunneler.http2.events import (
    CallEnded,
    HalfClosed,
    MessageReceived,
    RequestReceived,
    StreamReset,
)
from tunneler.http2.frames import frame
from tunneler.http2.settings import DEFAULT_WINDOW

CALM = ErrorCode.ENHANCE_YOUR_CALM
PROTOCOL = ErrorCode.PROTOCOL_ERROR
SIZE = ErrorCode.FRAME_SIZE_ERROR
FLOW = ErrorCode.FLOW_CONTROL_ERROR
CLOSED = ErrorCode.STREAM_CLOSED
COMPRESSION = ErrorCode.COMPRESSION_ERROR


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
        events = receive_all(connection, chunks)
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
        events = receive_all(connection, chunks)
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
        (event,) = receive_all(connection, chunks)
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


@pytest.mark.parametrize("client_side", [True, False])
def test_declared_lengths_and_trailers(client_side: bool) -> None:
    """Of a response, or a request; and what comes beyond, cut anywhere."""
    length = ("content-length", "10")
    for content, good in ((b"\0\0\0\0\5right", True), (b"\0\0\0\0\4less", False), (b"", False)):
        connection = greeted(client_side=client_side)
        if client_side:
            connection.request(PATH, "server", secure=True)
        receive(connection, headers(1, [*(RESPONSE if client_side else REQUEST), length]))
        receive(connection, frame(frames.DATA, 0, 1, content))
        (event,) = receive(connection, trailers(1))
        assert isinstance(event, CallEnded | HalfClosed if good else StreamReset)
        assert connection.is_open(1) == (good and not client_side)


def test_a_request_without_the_content_it_declares() -> None:
    connection = greeted(client_side=False)
    begun, lost = receive(connection, headers(1, [*REQUEST, ("content-length", "1")], ends=True))
    assert isinstance(begun, RequestReceived)
    assert isinstance(lost, StreamReset)


def test_declared_lengths() -> None:
    for content, good in ((b"\0\0\0\0\0", True), (b"\0\0\0\0\1x", False), (b"\0\0\0", False)):
        for chunks in cuts(frame(frames.DATA, 1, 1, content)):
            connection = greeted(client_side=False)
            receive(connection, headers(1, [*REQUEST, ("content-length", "5")]))
            events = receive_all(connection, chunks)
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
    fails(called(client_side=client_side), hostile, code=code)
    fails(called(client_side=client_side), *(bytes((byte,)) for byte in hostile), code=code)


def test_headers_of_a_closed_stream() -> None:
    connection = called(client_side=False)
    receive(connection, headers(5, REQUEST))
    fails(connection, headers(3, REQUEST), code=CLOSED)


def test_data_of_a_closed_stream() -> None:
    connection = called(client_side=False)
    receive(connection, frames.rst_stream(1, 8))
    fails(connection, data(1, b"x"), code=CLOSED)


def test_a_server_may_not_call() -> None:
    fails(called(client_side=True), headers(3, REQUEST), code=PROTOCOL)


def test_windows_that_settings_make_too_large() -> None:
    connection = called(client_side=False)
    receive(connection, frames.window_update(1, frames.MAX_STREAM - DEFAULT_WINDOW))
    fails(connection, frames.settings([(4, DEFAULT_WINDOW + 1)]), code=FLOW)


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
