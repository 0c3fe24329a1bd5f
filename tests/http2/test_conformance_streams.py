"""Streams: RFC 9113 section 5.

See conformance.py for what the tables are, and what they leave out.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.http2.conformance import (
    Case,
    Way,
    answered,
    connection_error,
    data_in_pieces,
    either_error,
    every_way,
    ignored,
    play,
    response_on,
    settings_acknowledged,
    still_there,
    stream_ended,
)
from tests.http2.listening import listening
from tests.http2.rawframes import (
    CLIENT_STREAM,
    Error,
    Flag,
    Kind,
    Setting,
    block,
    continuation,
    data,
    frame,
    headers,
    health_call,
    message,
    ping,
    priority,
    priority_fields,
    request,
    rst_stream,
    settings,
    unknown,
    window_update,
)
from tests.http2.rawpeer import RawPeer

OPEN = headers(1, request(CLIENT_STREAM))
MORE = block([("x-more", "of it")])
MESSAGE = message(b"a whole one")
"""Nearly all that a link brings is DATA with one message: it may not be let through where others are not."""

HALF_CLOSED = (settings((Setting.INITIAL_WINDOW_SIZE, 0)), settings_acknowledged, health_call())
"""Stream 1 has had END_STREAM of ours, and has something to send that it may not."""
ENDED = (health_call(), stream_ended)
"""Stream 1 has had END_STREAM both ways."""
RESET = (OPEN, rst_stream(1))


def one_too_many(peer: RawPeer) -> bytes:
    """As many calls as are allowed, and one."""
    allowed = peer.settings[Setting.MAX_CONCURRENT_STREAMS]
    return b"".join(headers(1 + 2 * number, request()) for number in range(allowed + 1))


CASES = [
    # 5.1, idle: anything but HEADERS and PRIORITY is a connection error.
    Case(
        "5.1",
        "idle: DATA",
        (data(1, b"test", end=True),),
        connection_error(Error.PROTOCOL, Error.STREAM_CLOSED),
    ),
    Case("5.1", "idle: empty DATA", (data(1),), connection_error(Error.PROTOCOL, Error.STREAM_CLOSED)),
    Case("5.1", "idle: RST_STREAM", (rst_stream(1),), connection_error(Error.PROTOCOL)),
    Case("5.1", "idle: WINDOW_UPDATE", (window_update(1, 100),), connection_error(Error.PROTOCOL)),
    Case("5.1", "idle: CONTINUATION", (continuation(1, request()),), connection_error(Error.PROTOCOL)),
    Case("5.1", "idle: PRIORITY", (priority(1),), ignored),
    Case(
        "5.1", "idle: RST_STREAM above an open one", (OPEN, rst_stream(3)), connection_error(Error.PROTOCOL)
    ),
    # 5.1, half-closed (remote).
    Case(
        "5.1",
        "half-closed: DATA",
        (*HALF_CLOSED, data(1, b"test", end=True)),
        either_error(Error.STREAM_CLOSED),
    ),
    Case(
        "5.1",
        "half-closed: HEADERS",
        (*HALF_CLOSED, headers(1, request(), end=True)),
        either_error(Error.STREAM_CLOSED),
    ),
    Case(
        "5.1",
        "half-closed: trailers",
        (*HALF_CLOSED, headers(1, MORE, end=True)),
        either_error(Error.STREAM_CLOSED),
    ),
    Case(
        "5.1",
        "half-closed: CONTINUATION",
        (*HALF_CLOSED, continuation(1, MORE)),
        connection_error(Error.STREAM_CLOSED, Error.PROTOCOL),
    ),
    Case("5.1", "half-closed: WINDOW_UPDATE", (*HALF_CLOSED, window_update(1, 1)), data_in_pieces(1)),
    Case(
        "5.1", "half-closed: a message", (*HALF_CLOSED, data(1, MESSAGE)), either_error(Error.STREAM_CLOSED)
    ),
    Case("5.1", "half-closed: PRIORITY", (*HALF_CLOSED, priority(1), window_update(1, 1)), data_in_pieces(1)),
    Case(
        "5.1", "half-closed: RST_STREAM", (*HALF_CLOSED, rst_stream(1), window_update(1, 1)), data_in_pieces()
    ),
    # 5.1, closed by RST_STREAM of ours.
    Case("5.1", "reset: DATA", (*RESET, data(1, b"test", end=True)), either_error(Error.STREAM_CLOSED)),
    Case(
        "5.1", "reset: HEADERS", (*RESET, headers(1, request(), end=True)), either_error(Error.STREAM_CLOSED)
    ),
    Case(
        "5.1",
        "reset: CONTINUATION",
        (*RESET, continuation(1, MORE)),
        connection_error(Error.STREAM_CLOSED, Error.PROTOCOL),
    ),
    Case("5.1", "reset: a message", (*RESET, data(1, MESSAGE)), either_error(Error.STREAM_CLOSED)),
    Case("5.1", "reset: PRIORITY", (*RESET, priority(1)), still_there),
    Case(
        "5.1", "reset: WINDOW_UPDATE, RST_STREAM", (*RESET, window_update(1, 1), rst_stream(1)), still_there
    ),
    # 5.1, closed by END_STREAM both ways.
    Case("5.1", "closed: a message", (*ENDED, data(1, MESSAGE)), either_error(Error.STREAM_CLOSED)),
    Case("5.1", "closed: DATA", (*ENDED, data(1, b"test", end=True)), either_error(Error.STREAM_CLOSED)),
    Case(
        "5.1",
        "closed: HEADERS",
        (*ENDED, headers(1, request(), end=True)),
        connection_error(Error.PROTOCOL, Error.STREAM_CLOSED),
    ),
    Case(
        "5.1",
        "closed: CONTINUATION",
        (*ENDED, continuation(1, MORE)),
        connection_error(Error.STREAM_CLOSED, Error.PROTOCOL),
    ),
    Case("5.1", "closed: PRIORITY", (*ENDED, priority(1), health_call(3)), answered(3)),
    Case(
        "5.1",
        "closed: WINDOW_UPDATE, RST_STREAM",
        (*ENDED, window_update(1, 1), rst_stream(1), health_call(3)),
        answered(3),
    ),
    # 5.1.1 Stream identifiers. One that was passed over is closed: both codes fit.
    Case("5.1.1", "even", (headers(2, request(), end=True),), connection_error(Error.PROTOCOL)),
    Case(
        "5.1.1",
        "smaller than an earlier one",
        (health_call(5), headers(3, request(), end=True)),
        connection_error(Error.PROTOCOL, Error.STREAM_CLOSED),
    ),
    Case("5.1.1", "gaps", (health_call(2**31 - 1),), answered(2**31 - 1)),
    Case(
        "5.1.1",
        "DATA on one that was passed over",
        (health_call(5), data(3, b"test")),
        either_error(Error.STREAM_CLOSED, Error.PROTOCOL, stream=3),
    ),
    Case("5.1.1", "RST_STREAM on an even one", (rst_stream(2),), connection_error(Error.PROTOCOL)),
    Case("5.1.1", "WINDOW_UPDATE on an even one", (window_update(2, 1),), connection_error(Error.PROTOCOL)),
    Case(
        "5.1.1",
        "DATA on an even one",
        (data(2, b"test"),),
        connection_error(Error.PROTOCOL, Error.STREAM_CLOSED),
    ),
    # 5.3.2 Priorities are ignored.
    Case(
        "5.3.2",
        "HEADERS that depends on itself",
        (headers(1, priority_fields(1) + request(), more=Flag.PRIORITY), data(1, message(), end=True)),
        answered(),
    ),
    Case(
        "5.3.2",
        "PRIORITY that depends on itself",
        (priority(1, priority_fields(1)), health_call()),
        answered(),
    ),
    # 5.4.1 Connection errors.
    Case(
        "5.4.1", "GOAWAY comes first", (frame(Kind.PING, 0, 1, bytes(8)),), connection_error(Error.PROTOCOL)
    ),
    # 5.5 Extensions.
    Case("5.5", "an unknown frame", (unknown(),), ignored),
    Case("5.5", "an unknown frame on an idle stream", (unknown(7), health_call()), answered()),
    Case(
        "5.5",
        "an unknown frame inside a block",
        (headers(1, request(), whole=False), unknown(1)),
        connection_error(Error.PROTOCOL),
    ),
    Case(
        "5.5",
        "an unknown frame on stream 0 inside a block",
        (headers(1, request(), whole=False), unknown()),
        connection_error(Error.PROTOCOL),
    ),
]


@every_way
@pytest.mark.parametrize("case", CASES, ids=str)
async def test_case(pki: Path, way: Way, case: Case) -> None:
    await play(case, way, pki)


async def test_more_streams_than_allowed(certificates: Path | None) -> None:
    """5.1.2: the one too many is refused, which says that it can be tried again; the others stay."""
    async with listening(certificates) as place, place.started() as peer:
        allowed = peer.settings[Setting.MAX_CONCURRENT_STREAMS]
        await peer.send(one_too_many(peer))
        reset = await peer.until(lambda frame: frame.kind == Kind.RST_STREAM)
        assert (reset.stream, reset.code) == (1 + 2 * allowed, Error.REFUSED_STREAM)
        await peer.answers_ping()
        # One ends, and there is room for another.
        await peer.send(rst_stream(1), health_call(3 + 2 * allowed))
        assert (await response_on(peer, 3 + 2 * allowed)).grpc_status == "0"


async def test_refused_block_keeps_the_table(certificates: Path | None) -> None:
    """4.3: a block of a stream that is refused is decoded all the same: the next may refer to it."""
    insert = b"\x40\x0bx-remember\x61\x01y"  # RFC 7541 section 6.2.1
    async with listening(certificates) as place, place.started() as peer:
        allowed = peer.settings[Setting.MAX_CONCURRENT_STREAMS]
        await peer.send(*(headers(1 + 2 * at, request()) for at in range(allowed)))
        await peer.send(headers(1 + 2 * allowed, request() + insert))
        await peer.until(lambda frame: frame.kind == Kind.RST_STREAM)
        await peer.send(rst_stream(1), headers(3 + 2 * allowed, request() + b"\xbe"))
        await peer.send(data(3 + 2 * allowed, message(), end=True))
        assert (await response_on(peer, 3 + 2 * allowed)).grpc_status == "0"


async def test_frames_that_crossed_a_reset(certificates: Path | None) -> None:
    """5.1, closed: frames that were under way when the listener reset a stream are discarded."""
    async with listening(certificates) as place, place.started() as peer:
        await peer.send(OPEN, window_update(1, 0))
        await peer.send(
            data(1, message(b"late")), window_update(1, 1), headers(1, MORE, end=True), rst_stream(1)
        )
        await peer.until(lambda frame: frame.kind == Kind.RST_STREAM)
        for frame_ in await peer.answers_ping():
            assert frame_.kind in (Kind.WINDOW_UPDATE, Kind.PING)


async def test_calls_at_once_do_not_mix(certificates: Path | None) -> None:
    """5: frames of streams may alternate."""
    first, second = headers(1, request(CLIENT_STREAM)), headers(3, request(CLIENT_STREAM))
    async with listening(certificates) as place, place.started() as peer:
        await peer.send(first, second, data(1, message(b"one")[:6]), data(3, message(b"three")[:3]))
        await peer.send(data(1, message(b"one")[6:]), health_call(5), data(3, message(b"three")[3:]), ping())
        assert (await response_on(peer, 5)).grpc_status == "0"
        await peer.answers_ping()
    assert [link.batches for link in place.links] == [[b"one"], [b"three"]]
