"""Starting, frames and errors: RFC 9113 sections 3, 4, 6 and 7.

See conformance.py for what the tables are, and what they leave out.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.http2.conformance import (
    Case,
    Made,
    Way,
    answered,
    connection_error,
    data_came,
    data_in_pieces,
    either_error,
    every_way,
    ignored,
    play,
    settings_acknowledged,
    still_there,
    stream_ended,
    stream_error,
)
from tests.http2.listening import listening
from tests.http2.rawframes import (
    CLIENT_STREAM,
    DEFAULT_WINDOW,
    MAX_WINDOW,
    PREFACE,
    SETTINGS_ACK,
    SMALLEST_FRAME_LIMIT,
    Error,
    Flag,
    Kind,
    Setting,
    block,
    check,
    continuation,
    data,
    frame,
    goaway,
    headers,
    health_call,
    message,
    ping,
    priority_fields,
    request,
    rst_stream,
    settings,
    unknown,
    window_update,
)
from tests.http2.rawpeer import RawPeer

OPEN = headers(1, request(CLIENT_STREAM))
"""A call that stays open."""
BLOCK = request()
CALL = headers(1, BLOCK)
REST = data(1, check(), end=True)
CUT = len(BLOCK) // 3


def window(size: int) -> bytes:
    return settings((Setting.INITIAL_WINDOW_SIZE, size))


def limit_of(peer: RawPeer) -> int:
    return peer.settings.get(Setting.MAX_FRAME_SIZE, SMALLEST_FRAME_LIMIT)


CASES = [
    Case("3.4", "a call", (health_call(),), answered()),
    # 4.1 Frame format.
    Case("4.1", "unknown type", (unknown(),), ignored),
    Case("4.1", "unknown type on an open stream", (CALL, unknown(1), REST), answered()),
    Case("4.1", "undefined flags", (frame(Kind.PING, 0xFE, 0, b"whatever"),), ignored),
    Case(
        "4.1",
        "undefined flags of DATA",
        (CALL, frame(Kind.DATA, 0xF6 | Flag.END_STREAM, 1, check())),
        answered(),
    ),
    Case("4.1", "reserved bit", (frame(Kind.PING, 0, 1 << 31, b"whatever"),), ignored),
    Case("4.1", "reserved bit of DATA", (CALL, data(1 | 1 << 31, check()), data(1, end=True)), answered()),
    # 4.2 Frame size.
    Case(
        "4.2",
        "2^14 bytes of DATA",
        (CALL, data(1, message(b"\x0a\xf8\x7f" + bytes(16_376))[:16_384])),
        ignored,
    ),
    Case(
        "4.2",
        "DATA over the limit",
        (CALL, Made(lambda peer: frame(Kind.DATA, 0, 1, length=limit_of(peer) + 1))),
        either_error(Error.FRAME_SIZE),
    ),
    Case(
        "4.2",
        "HEADERS over the limit",
        (Made(lambda peer: frame(Kind.HEADERS, Flag.END_HEADERS, 1, length=limit_of(peer) + 1)),),
        connection_error(Error.FRAME_SIZE),
    ),
    Case(
        "4.2",
        "SETTINGS over the limit",
        (Made(lambda peer: frame(Kind.SETTINGS, 0, 0, length=limit_of(peer) + 2)),),
        connection_error(Error.FRAME_SIZE),
    ),
    Case(
        "4.2",
        "unknown type over the limit",
        (Made(lambda peer: frame(Kind.UNKNOWN, 0, 0, length=limit_of(peer) + 1)),),
        connection_error(Error.FRAME_SIZE),
    ),
    # 4.3 Field section compression.
    Case(
        "4.3",
        "not a header block",
        (headers(1, b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff"),),
        connection_error(Error.COMPRESSION),
    ),
    Case(
        "4.3", "a block that ends too early", (headers(1, BLOCK[:-3]),), connection_error(Error.COMPRESSION)
    ),
    Case(
        "4.3",
        "PRIORITY inside a block",
        (headers(1, BLOCK[:CUT], whole=False) + frame(Kind.PRIORITY, 0, 1, priority_fields()),),
        connection_error(Error.PROTOCOL),
    ),
    Case(
        "4.3",
        "another stream's HEADERS inside a block",
        (headers(1, BLOCK[:CUT], whole=False) + headers(3, BLOCK),),
        connection_error(Error.PROTOCOL),
    ),
    # 6.1 DATA.
    Case("6.1", "DATA", (CALL, REST), answered()),
    Case(
        "6.1",
        "several DATA",
        (CALL, *(data(1, check()[at : at + 1]) for at in range(5)), data(1, end=True)),
        answered(),
    ),
    Case("6.1", "padded DATA", (CALL, data(1, check(), padding=100, end=True)), answered()),
    Case("6.1", "DATA with padding of no length", (CALL, data(1, check(), padding=0, end=True)), answered()),
    Case("6.1", "DATA that is all padding", (CALL, data(1, padding=255), REST), answered()),
    Case("6.1", "DATA on stream 0", (data(0, b"test"),), connection_error(Error.PROTOCOL)),
    Case(
        "6.1",
        "more padding than payload",
        (CALL, frame(Kind.DATA, Flag.PADDED, 1, b"\x06test")),
        connection_error(Error.PROTOCOL),
    ),
    Case(
        "6.1",
        "as much padding as payload",
        (CALL, frame(Kind.DATA, Flag.PADDED, 1, b"\x05test")),
        connection_error(Error.PROTOCOL),
    ),
    Case(
        "6.1",
        "padded DATA without pad length",
        (CALL, frame(Kind.DATA, Flag.PADDED, 1)),
        connection_error(Error.FRAME_SIZE, Error.PROTOCOL),
    ),
    # 6.2 HEADERS.
    Case("6.2", "HEADERS", (CALL, REST), answered()),
    Case(
        "6.2", "padded HEADERS", (headers(1, b"\x20" + BLOCK + bytes(32), more=Flag.PADDED), REST), answered()
    ),
    Case(
        "6.2",
        "HEADERS with priority",
        (headers(1, priority_fields() + BLOCK, more=Flag.PRIORITY), REST),
        answered(),
    ),
    Case(
        "6.2",
        "padded HEADERS with priority",
        (
            headers(
                1,
                b"\x05" + priority_fields(3, 256, exclusive=True) + BLOCK + bytes(5),
                more=Flag.PADDED | Flag.PRIORITY,
            ),
            REST,
        ),
        answered(),
    ),
    Case(
        "6.2",
        "PRIORITY inside a block",
        (headers(1, BLOCK, whole=False) + frame(Kind.PRIORITY, 0, 1, priority_fields()),),
        connection_error(Error.PROTOCOL),
    ),
    Case(
        "6.2",
        "HEADERS inside a block",
        (headers(1, BLOCK, whole=False) + headers(3, BLOCK),),
        connection_error(Error.PROTOCOL),
    ),
    Case("6.2", "HEADERS on stream 0", (headers(0, BLOCK),), connection_error(Error.PROTOCOL)),
    Case(
        "6.2",
        "more padding than payload",
        (headers(1, bytes([len(BLOCK) + 1]) + BLOCK, more=Flag.PADDED),),
        connection_error(Error.PROTOCOL),
    ),
    Case(
        "6.2",
        "padding into the priority",
        (headers(1, b"\x04" + priority_fields() + b"\x82", more=Flag.PADDED | Flag.PRIORITY),),
        connection_error(Error.PROTOCOL, Error.FRAME_SIZE),
    ),
    Case(
        "6.2",
        "priority that is cut short",
        (headers(1, b"\x00\x00\x00", more=Flag.PRIORITY),),
        connection_error(Error.FRAME_SIZE, Error.PROTOCOL),
    ),
    Case(
        "6.2",
        "padded HEADERS without pad length",
        (frame(Kind.HEADERS, Flag.PADDED | Flag.END_HEADERS, 1),),
        connection_error(Error.FRAME_SIZE, Error.PROTOCOL),
    ),
    # 6.3 PRIORITY; what it says is ignored.
    Case("6.3", "weight 1", (frame(Kind.PRIORITY, 0, 1, priority_fields(0, 1)), health_call()), answered()),
    Case(
        "6.3", "weight 256", (frame(Kind.PRIORITY, 0, 1, priority_fields(0, 256)), health_call()), answered()
    ),
    Case("6.3", "dependency", (frame(Kind.PRIORITY, 0, 1, priority_fields(7)), health_call()), answered()),
    Case(
        "6.3",
        "exclusive",
        (frame(Kind.PRIORITY, 0, 1, priority_fields(7, exclusive=True)), health_call()),
        answered(),
    ),
    Case(
        "6.3",
        "on a higher stream before a call",
        (frame(Kind.PRIORITY, 0, 5, priority_fields()), health_call(3)),
        answered(3),
    ),
    Case(
        "6.3",
        "PRIORITY on stream 0",
        (frame(Kind.PRIORITY, 0, 0, priority_fields()),),
        connection_error(Error.PROTOCOL),
    ),
    Case("6.3", "4 bytes", (CALL, frame(Kind.PRIORITY, 0, 1, bytes(4))), either_error(Error.FRAME_SIZE)),
    Case("6.3", "6 bytes", (CALL, frame(Kind.PRIORITY, 0, 1, bytes(6))), either_error(Error.FRAME_SIZE)),
    # 6.4 RST_STREAM.
    Case("6.4", "RST_STREAM", (OPEN, rst_stream(1)), still_there),
    Case("6.4", "RST_STREAM on stream 0", (rst_stream(0),), connection_error(Error.PROTOCOL)),
    Case("6.4", "RST_STREAM on an idle stream", (rst_stream(1),), connection_error(Error.PROTOCOL)),
    Case(
        "6.4", "3 bytes", (OPEN, frame(Kind.RST_STREAM, 0, 1, bytes(3))), connection_error(Error.FRAME_SIZE)
    ),
    Case(
        "6.4", "5 bytes", (OPEN, frame(Kind.RST_STREAM, 0, 1, bytes(5))), connection_error(Error.FRAME_SIZE)
    ),
    # 6.5 SETTINGS.
    Case(
        "6.5",
        "ACK with payload",
        (frame(Kind.SETTINGS, Flag.ACK, 0, bytes(6)),),
        connection_error(Error.FRAME_SIZE),
    ),
    Case(
        "6.5",
        "ACK with one byte",
        (frame(Kind.SETTINGS, Flag.ACK, 0, b"\0"),),
        connection_error(Error.FRAME_SIZE),
    ),
    Case(
        "6.5",
        "SETTINGS on a stream",
        (frame(Kind.SETTINGS, 0, 1, bytes(6)),),
        connection_error(Error.PROTOCOL),
    ),
    Case("6.5", "3 bytes", (frame(Kind.SETTINGS, 0, 0, bytes(3)),), connection_error(Error.FRAME_SIZE)),
    Case("6.5", "an ACK too many", (SETTINGS_ACK,), ignored),
    Case("6.5.2", "ENABLE_PUSH 2", (settings((Setting.ENABLE_PUSH, 2)),), connection_error(Error.PROTOCOL)),
    Case("6.5.2", "ENABLE_PUSH 1", (settings((Setting.ENABLE_PUSH, 1)), health_call()), answered()),
    Case("6.5.2", "INITIAL_WINDOW_SIZE 2^31", (window(2**31),), connection_error(Error.FLOW_CONTROL)),
    Case("6.5.2", "INITIAL_WINDOW_SIZE 2^31-1", (window(MAX_WINDOW), health_call()), answered()),
    Case(
        "6.5.2",
        "MAX_FRAME_SIZE 2^14-1",
        (settings((Setting.MAX_FRAME_SIZE, 2**14 - 1)),),
        connection_error(Error.PROTOCOL),
    ),
    Case(
        "6.5.2",
        "MAX_FRAME_SIZE 2^24",
        (settings((Setting.MAX_FRAME_SIZE, 2**24)),),
        connection_error(Error.PROTOCOL),
    ),
    Case(
        "6.5.2",
        "MAX_FRAME_SIZE 2^24-1",
        (settings((Setting.MAX_FRAME_SIZE, 2**24 - 1)), health_call()),
        answered(),
    ),
    Case(
        "6.5.2",
        "unknown setting",
        (settings((Setting.UNKNOWN, 1)), settings_acknowledged, health_call()),
        answered(),
    ),
    Case(
        "6.5.2",
        "MAX_CONCURRENT_STREAMS 0",
        (settings((Setting.MAX_CONCURRENT_STREAMS, 0)), health_call()),
        answered(),
    ),
    Case(
        "6.5.3",
        "settings take effect in their order",
        (
            settings((Setting.INITIAL_WINDOW_SIZE, 100), (Setting.INITIAL_WINDOW_SIZE, 1)),
            settings_acknowledged,
            health_call(),
        ),
        data_in_pieces(1),
    ),
    Case(
        "6.5.3",
        "each SETTINGS is acknowledged",
        (settings(), settings_acknowledged, settings((Setting.ENABLE_PUSH, 0)), settings_acknowledged),
        ignored,
    ),
    # 6.6 PUSH_PROMISE.
    Case(
        "8.4",
        "PUSH_PROMISE of a client",
        (OPEN, frame(Kind.PUSH_PROMISE, Flag.END_HEADERS, 1, b"\0\0\0\2" + BLOCK)),
        connection_error(Error.PROTOCOL),
    ),
    # 6.7 PING.
    Case("6.7", "PING", (ping(b"contents"), lambda frame: frame.is_ack(Kind.PING, b"contents")), ignored),
    Case("6.7", "an ACK is not answered", (ping(b"contents", ack=True),), ignored),
    Case("6.7", "PING on a stream", (frame(Kind.PING, 0, 1, bytes(8)),), connection_error(Error.PROTOCOL)),
    Case("6.7", "6 bytes", (frame(Kind.PING, 0, 0, bytes(6)),), connection_error(Error.FRAME_SIZE)),
    Case("6.7", "9 bytes", (frame(Kind.PING, 0, 0, bytes(9)),), connection_error(Error.FRAME_SIZE)),
    # 6.8 GOAWAY.
    Case(
        "6.8", "GOAWAY on a stream", (frame(Kind.GOAWAY, 0, 1, bytes(8)),), connection_error(Error.PROTOCOL)
    ),
    Case("6.8", "7 bytes", (frame(Kind.GOAWAY, 0, 0, bytes(7)),), connection_error(Error.FRAME_SIZE)),
    # 6.9 WINDOW_UPDATE.
    Case("6.9", "on the connection", (window_update(0, 1), health_call()), answered()),
    Case("6.9", "on a stream", (CALL, window_update(1, 1), REST), answered()),
    Case("6.9", "0 on the connection", (window_update(0, 0),), connection_error(Error.PROTOCOL)),
    Case("6.9", "0 on a stream", (OPEN, window_update(1, 0)), stream_error(Error.PROTOCOL)),
    Case(
        "6.9",
        "the reserved bit is no increment",
        (OPEN, window_update(1, 1 << 31)),
        stream_error(Error.PROTOCOL),
    ),
    Case("6.9", "3 bytes", (frame(Kind.WINDOW_UPDATE, 0, 0, bytes(3)),), connection_error(Error.FRAME_SIZE)),
    Case(
        "6.9",
        "5 bytes on a stream",
        (OPEN, frame(Kind.WINDOW_UPDATE, 0, 1, bytes(5))),
        connection_error(Error.FRAME_SIZE),
    ),
    Case("6.9.1", "a window of 1", (window(1), settings_acknowledged, health_call()), data_in_pieces(1)),
    Case(
        "6.9.1",
        "a window that grows byte by byte",
        (
            window(1),
            settings_acknowledged,
            health_call(),
            data_came,
            *(window_update(1, 1) for _ in range(6)),
            stream_ended,
        ),
        data_in_pieces(*[1] * 7),
    ),
    Case(
        "6.9.1",
        "connection window over 2^31-1",
        (window_update(0, MAX_WINDOW), window_update(0, MAX_WINDOW)),
        connection_error(Error.FLOW_CONTROL),
    ),
    Case(
        "6.9.1",
        "stream window over 2^31-1",
        (OPEN, window_update(1, MAX_WINDOW), window_update(1, MAX_WINDOW)),
        stream_error(Error.FLOW_CONTROL),
    ),
    Case(
        "6.9.1",
        "stream window of 2^31-1",
        (CALL, window_update(1, MAX_WINDOW - DEFAULT_WINDOW), REST),
        answered(),
    ),
    Case(
        "6.9.2",
        "the initial window changes",
        (window(0), settings_acknowledged, health_call(), window(1), data_came),
        data_in_pieces(1),
    ),
    Case(
        "6.9.2",
        "a negative window",
        (
            window(3),
            settings_acknowledged,
            health_call(),
            data_came,
            window(2),
            settings_acknowledged,
            window_update(1, 2),
            data_came,
        ),
        data_in_pieces(3, 1),
    ),
    Case(
        "6.9.2",
        "a window that stays negative",
        (
            window(3),
            settings_acknowledged,
            health_call(),
            data_came,
            window(0),
            settings_acknowledged,
            window_update(1, 3),
        ),
        data_in_pieces(3),
    ),
    Case(
        "6.9.2",
        "a change that lifts a stream's window over 2^31-1",
        (OPEN, window_update(1, MAX_WINDOW - DEFAULT_WINDOW), window(DEFAULT_WINDOW + 1)),
        connection_error(Error.FLOW_CONTROL),
    ),
    Case(
        "6.9",
        "the connection's window is another",
        (window(MAX_WINDOW), settings_acknowledged, health_call()),
        answered(),
    ),
    # 6.10 CONTINUATION.
    Case(
        "6.10",
        "CONTINUATION",
        (headers(1, BLOCK[:CUT], whole=False), continuation(1, BLOCK[CUT:]), REST),
        answered(),
    ),
    Case(
        "6.10",
        "several CONTINUATION",
        (
            headers(1, BLOCK[:CUT], whole=False),
            continuation(1, BLOCK[CUT : 2 * CUT], whole=False),
            continuation(1, b"", whole=False),
            continuation(1, BLOCK[2 * CUT :]),
            REST,
        ),
        answered(),
    ),
    Case(
        "6.10",
        "HEADERS without a block",
        (headers(1, b"", whole=False), continuation(1, BLOCK), REST),
        answered(),
    ),
    Case(
        "6.10",
        "END_STREAM is of HEADERS",
        (headers(1, BLOCK, whole=False, end=True), continuation(1, b""), data(1, b"late")),
        either_error(Error.STREAM_CLOSED),
    ),
    Case(
        "6.10",
        "DATA instead",
        (headers(1, BLOCK[:CUT], whole=False), data(1, b"test")),
        connection_error(Error.PROTOCOL),
    ),
    Case(
        "6.10",
        "PING instead",
        (headers(1, BLOCK[:CUT], whole=False), ping()),
        connection_error(Error.PROTOCOL),
    ),
    Case(
        "6.10",
        "SETTINGS instead",
        (headers(1, BLOCK[:CUT], whole=False), settings()),
        connection_error(Error.PROTOCOL),
    ),
    Case(
        "6.10",
        "on stream 0",
        (headers(1, BLOCK[:CUT], whole=False), continuation(0, BLOCK[CUT:])),
        connection_error(Error.PROTOCOL),
    ),
    Case(
        "6.10",
        "on another stream",
        (headers(1, BLOCK[:CUT], whole=False), continuation(3, BLOCK[CUT:])),
        connection_error(Error.PROTOCOL),
    ),
    Case(
        "6.10",
        "after the end of the block",
        (OPEN, continuation(1, block([("x", "y")]))),
        connection_error(Error.PROTOCOL),
    ),
    Case(
        "6.10",
        "after the end of the block in CONTINUATION",
        (
            headers(1, BLOCK[:CUT], whole=False),
            continuation(1, BLOCK[CUT:]),
            continuation(1, block([("x", "y")])),
        ),
        connection_error(Error.PROTOCOL),
    ),
    Case(
        "6.10",
        "after DATA",
        (OPEN, data(1, message(b"x")), continuation(1, block([("x", "y")]))),
        connection_error(Error.PROTOCOL),
    ),
    Case(
        "6.10",
        "a message instead",
        (OPEN, headers(3, BLOCK[:CUT], whole=False), data(1, message(b"test"))),
        connection_error(Error.PROTOCOL),
    ),
    # 7 Error codes.
    Case("7", "RST_STREAM with an unknown code", (OPEN, rst_stream(1, 0xFF)), still_there),
]


@every_way
@pytest.mark.parametrize("case", CASES, ids=str)
async def test_case(pki: Path, way: Way, case: Case) -> None:
    await play(case, way, pki)


# What does not fit a table: what comes before the handshake, or has two right answers.


async def test_settings_come_first(certificates: Path | None) -> None:
    """3.4: the server's preface is a SETTINGS frame, and nothing may come before it."""
    async with listening(certificates) as place, place.peer() as peer:
        await peer.handshake()
        await peer.send(PREFACE + settings())
        first = await peer.receive()
    assert first is not None
    assert (first.kind, first.flags, first.stream) == (Kind.SETTINGS, 0, 0)


@pytest.mark.parametrize(
    "octets",
    [
        b"INVALID CONNECTION PREFACE\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
        PREFACE[:-1] + b"\r",
        PREFACE.lower(),
        health_call(),
    ],
    ids=["anything", "HTTP/1.1", "last byte", "lower case", "frames"],
)
async def test_invalid_preface(certificates: Path | None, octets: bytes) -> None:
    """3.4: a connection error of type PROTOCOL_ERROR; GOAWAY may be omitted, as there is no HTTP/2 yet."""
    async with listening(certificates) as place, place.peer() as peer:
        await peer.handshake()
        await peer.send(octets)
        assert await peer.goaway() in (Error.PROTOCOL, None)


@pytest.mark.parametrize(
    "octets", [ping(), health_call(), SETTINGS_ACK, window_update(0, 1), unknown()],
    ids=["PING", "HEADERS", "an acknowledgement", "WINDOW_UPDATE", "unknown type"],
)  # fmt: skip
async def test_settings_must_come_first(certificates: Path | None, octets: bytes) -> None:
    """3.4: the client's preface includes SETTINGS."""
    async with listening(certificates) as place, place.peer() as peer:
        await peer.handshake()
        await peer.send(PREFACE + octets)
        assert await peer.goaway() is Error.PROTOCOL


async def test_requests_may_follow_at_once(certificates: Path | None) -> None:
    """3.4: a client need not wait for the server's SETTINGS."""
    async with listening(certificates) as place, place.peer() as peer:
        await peer.handshake()
        await peer.send(PREFACE + settings() + health_call() + ping())
        await peer.until(stream_ended)


@pytest.mark.parametrize("code", [Error.NO_ERROR, Error.PROTOCOL, 0xFF])
async def test_goaway_lets_calls_finish(certificates: Path | None, code: int) -> None:
    """6.8 and 7: what was begun goes on; an unknown code triggers nothing special."""
    async with listening(certificates) as place, place.started() as peer:
        await peer.send(CALL + goaway(code, text=b"whatever"))
        try:
            await peer.send(REST)
            await peer.until(stream_ended)
        except (AssertionError, ConnectionError):
            assert code != Error.NO_ERROR
            assert await peer.goaway() in (None, Error.NO_ERROR)


async def test_connection_error_closes(certificates: Path | None) -> None:
    """5.4.1: GOAWAY names the last stream that was acted on; then the connection is closed."""
    async with listening(certificates) as place, place.started() as peer:
        await peer.send(health_call(1) + headers(3, request(CLIENT_STREAM)) + frame(Kind.PING, 0, 0, b""))
        frames = await peer.to_the_end()
    (farewell,) = [frame for frame in frames if frame.kind == Kind.GOAWAY]
    assert (farewell.code, farewell.number, farewell.stream) == (Error.FRAME_SIZE, 3, 0)
    assert frames[-1] == farewell
