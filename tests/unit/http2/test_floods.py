"""Frames that have no effect, and how many of them a peer may send; what it may make us hold."""

from __future__ import annotations

import pytest

from tests.unit.http2.pair import (
    PATH,
    PING,
    REQUEST,
    called,
    data,
    fails,
    greeted,
    headers,
)
from tests.unit.http2.reading import Raw, receive, receive_all, taken
from tunneler.http2 import frames, limits
from tunneler.http2.codes import ErrorCode, Http2Error
from tunneler.http2.connection import Connection
from tunneler.http2.events import (
    Event,
    MessageReceived,
    StreamReset,
)
from tunneler.http2.frames import frame

CALM = ErrorCode.ENHANCE_YOUR_CALM


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
    fails(connection, one, code=CALM)


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
    fails(connection, interim, code=CALM)


def test_rapid_reset() -> None:
    """CVE-2023-44487."""
    connection = greeted(client_side=False)
    for place in range(int(limits.RESETS.burst)):
        number = 2 * place + 1
        receive(connection, headers(number, REQUEST) + frames.rst_stream(number, 8))
    number = 2 * int(limits.RESETS.burst) + 1
    fails(connection, headers(number, REQUEST) + frames.rst_stream(number, 8), code=CALM)


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
    for place in range(int(limits.FAULTS.burst)):
        receive(connection, headers(2 * place + 1, fields, ends=True))
        connection.output.take()
    fails(connection, headers(2 * int(limits.FAULTS.burst) + 1, fields, ends=True), code=CALM)


def test_calls_beyond_the_limit() -> None:
    connection = greeted(client_side=False)
    for place in range(limits.MAX_STREAMS + int(limits.REFUSALS.burst)):
        receive(connection, headers(2 * place + 1, REQUEST))
        connection.output.take()
    assert connection.streams == limits.MAX_STREAMS
    number = 2 * (limits.MAX_STREAMS + int(limits.REFUSALS.burst)) + 1
    fails(connection, headers(number, REQUEST), code=CALM)


def test_a_peer_that_does_not_read() -> None:
    """Its rate is fair, but it never takes the answers."""
    connection = called(client_side=False)
    with pytest.raises(Http2Error, match="answers are not read") as caught:
        receive_all(connection, [PING] * 10_000, pause=1.0)
    assert caught.value.code is CALM


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
