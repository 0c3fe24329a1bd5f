"""Floods of frames that cost a peer nothing: what exceeds a rate ends the connection, and that one alone.

GOAWAY says ENHANCE_YOUR_CALM (RFC 9113 sections 7 and 10.5). What a peer may do, it may do for
ever: half the permitted rate is not punished, however many frames that makes in the end.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.http2.conformance import response_on
from tests.http2.listening import Place, listening, undisturbed
from tests.http2.rawframes import (
    CLIENT_STREAM,
    SETTINGS_ACK,
    Error,
    Flag,
    Kind,
    block,
    continuation,
    data,
    frame,
    goaway,
    headers,
    health_call,
    integer,
    literal,
    message,
    ping,
    priority,
    request,
    rst_stream,
    settings,
    unknown,
    window_update,
)
from tests.http2.rawpeer import RawPeer
from tests.loopback.running import background, until
from tunneler.http2 import limits

AT_ONCE = 200

Make = Callable[[int], bytes]
"""The n-th frame, or frames, of a flood; stream 1 is a link."""


class Flood(NamedTuple):
    name: str
    frames: Make
    permitted: limits.Frequency

    def __str__(self) -> str:
        return self.name


def stream(number: int) -> int:
    """A stream that was not used yet."""
    return 3 + 2 * number


def whole(number: int, block_: bytes, *, end: bool = False) -> bytes:
    """HEADERS of a stream that was not used yet."""
    return headers(stream(number), block_, end=end)


LINK = request(CLIENT_STREAM)

FLOODS = [
    Flood("SETTINGS", lambda _: settings((3, 100)), limits.SETTINGS),
    Flood("SETTINGS acknowledged", lambda _: SETTINGS_ACK, limits.SETTINGS),
    Flood("PING", lambda _: ping(), limits.PINGS),
    Flood("PING acknowledged", lambda _: ping(ack=True), limits.PINGS),
    Flood("rapid reset", lambda n: whole(n, request()) + rst_stream(stream(n)), limits.RESETS),
    Flood("rapid reset of links", lambda n: whole(n, LINK) + rst_stream(stream(n)), limits.RESETS),
    Flood("malformed requests", lambda n: whole(n, block([(":method", "POST")]), end=True), limits.FAULTS),
    Flood("broken timeouts", lambda n: whole(n, request(grpc_timeout="x"), end=True), limits.FAULTS),
    Flood("WINDOW_UPDATE on the connection", lambda _: window_update(0, 1), limits.WINDOW_UPDATES),
    Flood("WINDOW_UPDATE on a stream", lambda _: window_update(1, 1), limits.WINDOW_UPDATES),
    Flood("PRIORITY", lambda n: priority(stream(n)), limits.IDLE_FRAMES),
    Flood("empty DATA", lambda _: data(1), limits.IDLE_FRAMES),
    Flood("DATA that is all padding", lambda _: data(1, padding=0), limits.IDLE_FRAMES),
    Flood("unknown type", lambda _: unknown(payload=b""), limits.IDLE_FRAMES),
    Flood("unknown type on a stream", lambda _: unknown(1), limits.IDLE_FRAMES),
    Flood("GOAWAY", lambda _: goaway(), limits.IDLE_FRAMES),
]  # fmt: skip


async def pour(peer: RawPeer, frames: Make) -> None:
    """Send as fast as it goes, until the listener has left."""
    with suppress(ConnectionError, ssl.SSLError):
        for sent in count(0, AT_ONCE):
            await peer.send(*(frames(sent + at) for at in range(AT_ONCE)))


async def drowned(certificates: Path | None, frames: Make) -> None:
    """A flood ends the connection that it comes by, and no other."""
    async with listening(certificates) as place, undisturbed(place), place.started() as peer:
        await peer.send(headers(1, LINK))
        await until(lambda: place.open_links == 2)
        async with background(pour(peer, frames)):
            assert await peer.goaway() is Error.ENHANCE_YOUR_CALM
        peer.close()
        await until(lambda: place.open_links == 1)


@pytest.mark.parametrize("flood", FLOODS, ids=str)
async def test_flood(certificates: Path | None, flood: Flood) -> None:
    await drowned(certificates, flood.frames)


@pytest.mark.parametrize("flood", FLOODS, ids=str)
async def test_within_the_burst(flood: Flood) -> None:
    """What is permitted at once is permitted in one piece."""
    async with listening(None) as place, place.started() as peer:
        await peer.send(headers(1, LINK))
        await peer.answers_ping()
        number = int(flood.permitted.burst) - 10
        await peer.send(*(flood.frames(at) for at in range(number)))
        async with asyncio.timeout(10):
            frames = await peer.answers_ping(b"the last")
        assert not [each for each in frames if each.kind == Kind.GOAWAY]


async def test_half_the_permitted_rate_for_ever() -> None:
    """After the burst is used up: half the rate, until there were more frames than any total would allow."""
    async with listening(None) as place, undisturbed(place), asyncio.TaskGroup() as floods:
        for flood in FLOODS:
            floods.create_task(patient(place, flood))


async def patient(place: Place, flood: Flood) -> None:
    """Use up the burst, and go on for three seconds."""
    async with place.started() as peer:
        await peer.send(headers(1, LINK))
        await peer.answers_ping()
        at_once = int(flood.permitted.burst - flood.permitted.per_second / 4)
        await peer.send(*(flood.frames(at) for at in range(at_once)))
        later = int(1.5 * flood.permitted.per_second)
        for at in range(at_once, at_once + later):
            await peer.send(flood.frames(at))
            await asyncio.sleep(2 / flood.permitted.per_second)
        assert at_once + later > flood.permitted.burst + flood.permitted.per_second
        for each in await peer.answers_ping(b"patience"):
            assert each.kind != Kind.GOAWAY, f"{flood}: {each.code}"


# Header blocks.


async def calm_down(certificates: Path | None, *octets: bytes) -> None:
    """These bytes end the connection that sent them, and no other."""
    async with listening(certificates) as place, undisturbed(place), place.started() as peer:

        async def send() -> None:
            with suppress(ConnectionError, ssl.SSLError):
                for part in octets:
                    await peer.send(part)

        async with background(send()):
            assert await peer.goaway() is Error.ENHANCE_YOUR_CALM


async def test_continuation_flood(certificates: Path | None) -> None:
    """CVE-2024-27316: a block without end."""
    begin = headers(1, request()[:20], whole=False)
    await calm_down(certificates, begin, *[continuation(1, literal("x", "y" * 1000), whole=False)] * 2000)


async def test_flood_of_empty_continuations(certificates: Path | None) -> None:
    """CVE-2019-9518: nor one that does not grow."""
    await calm_down(
        certificates, headers(1, request(), whole=False), *[continuation(1, b"", whole=False) * 100] * 100
    )


async def test_block_that_grows_without_end(certificates: Path | None) -> None:
    """It is not kept until END_HEADERS to be found too large."""
    part = literal("x", "y" * 12_000)
    await calm_down(certificates, headers(1, part, whole=False), *[continuation(1, part, whole=False)] * 2)


async def test_header_list_that_is_too_long(certificates: Path | None) -> None:
    """More than SETTINGS_MAX_HEADER_LIST_SIZE."""
    await calm_down(certificates, headers(1, request() + literal("x", "y" * limits.MAX_HEADER_LIST)))


async def test_header_list_just_short_enough(certificates: Path | None) -> None:
    async with listening(certificates) as place, place.started() as peer:
        room = limits.MAX_HEADER_LIST - 1000
        await peer.send(headers(1, request() + literal("x", "y" * room)) + data(1, message(), end=True))
        assert (await response_on(peer)).grpc_status == "0"


@pytest.mark.parametrize("size", [4000, 1000, 0])
async def test_hpack_bomb(certificates: Path | None, size: int) -> None:
    """One entry of the table, named thousands of times by one byte each: CVE-2016-1544."""
    bomb = request() + literal("x", "y" * size, 0x40) + integer(62, 7, 0x80) * 12_000
    await calm_down(certificates, headers(1, bomb))


async def test_bomb_in_trailers(certificates: Path | None) -> None:
    bomb = literal("x", "y" * 4000, 0x40) + integer(62, 7, 0x80) * 12_000
    await calm_down(certificates, headers(1, request(CLIENT_STREAM)), headers(1, bomb, end=True))


@pytest.mark.parametrize(
    "kind", [Kind.HEADERS, Kind.SETTINGS, Kind.GOAWAY, Kind.CONTINUATION, Kind.PUSH_PROMISE]
)
async def test_frame_that_is_large_without_need(certificates: Path | None, kind: Kind) -> None:
    """Nothing but DATA may be a megabyte, although SETTINGS_MAX_FRAME_SIZE is: refused by its head."""
    async with listening(certificates) as place, undisturbed(place), place.started() as peer:
        await peer.send(frame(kind, Flag.END_HEADERS, 0, bytes(100), length=999_996))
        assert await peer.goaway() in (Error.ENHANCE_YOUR_CALM, Error.FRAME_SIZE)


# Streams.


async def test_more_streams_than_allowed_for_ever(certificates: Path | None) -> None:
    """Refused streams are streams that were tried; a peer that does nothing else is sent away."""
    await drowned(certificates, lambda n: whole(n, LINK))


@pytest.mark.parametrize(
    "call",
    [request("/nothing/here"), request(content_type="text/html"), request(method="GET")],
    ids=["unknown method", "not gRPC", "GET"],
)
async def test_calls_that_lead_nowhere(certificates: Path | None, call: bytes) -> None:
    """Each is answered, whether or not it was ended; too many of them are a flood."""
    await drowned(certificates, lambda n: whole(n, call))


async def test_honest_calls_are_no_flood(certificates: Path | None) -> None:
    """Thousands of health checks, one after the other, by one peer."""
    async with listening(certificates) as place, place.started() as peer:
        for number in range(0, 2000, 4):
            await peer.send(*(health_call(stream(number + at)) for at in range(4)))
            for _ in range(4):
                await peer.until(lambda each: each.ends_stream)
        assert not [each for each in peer.heard if each.kind in (Kind.RST_STREAM, Kind.GOAWAY)]
