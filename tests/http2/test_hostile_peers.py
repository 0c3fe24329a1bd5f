"""Peers that made it to a call, and then read nothing, say what is not true, or take what is not theirs.

Each costs itself its connection or its call; what it makes the listener hold is bounded; and an
honest link on the same listener goes on with its data unchanged.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from itertools import count
from pathlib import Path

import pytest

from tests.http2.conformance import Response, response_on, still_there
from tests.http2.listening import MUCH, Place, listening, undisturbed
from tests.http2.rawframes import (
    CLIENT_STREAM,
    MAX_WINDOW,
    Error,
    Flag,
    Frame,
    Kind,
    Setting,
    check,
    data,
    frame,
    headers,
    message,
    ping,
    request,
    rst_stream,
    settings,
    window_update,
)
from tests.http2.rawpeer import RawPeer
from tests.loopback.running import background, eventually, until
from tunneler.http2.codes import Status
from tunneler.transport.native.guest import MAX_LINKS

MEBIBYTE = 1024 * 1024
SMALL = 70_000
"""Bytes of a window that one frame can exceed; no connection's is smaller than 65,535."""

OPEN = headers(1, request(CLIENT_STREAM))


@asynccontextmanager
async def a_peer(
    certificates: Path | None, *declared: tuple[int, int]
) -> AsyncIterator[tuple[Place, RawPeer]]:
    """A peer that has shaken hands, beside an honest link."""
    async with listening(certificates) as place, undisturbed(place), place.started(*declared) as peer:
        yield place, peer


# Windows.


@pytest.fixture
def _small_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Smaller than one frame: otherwise the listener gives back faster than a test can send."""
    for module in ("incoming", "streams", "settings", "connection"):
        monkeypatch.setattr(f"tunneler.http2.{module}.WINDOW", SMALL)
    monkeypatch.setattr("tunneler.http2.incoming.GRANTED_FROM", SMALL // 4)


@pytest.mark.usefixtures("_small_windows")
@pytest.mark.parametrize("path", [CLIENT_STREAM, "/nothing/here"])
async def test_more_than_the_window(certificates: Path | None, path: str) -> None:
    """RFC 9113 section 6.9.1: FLOW_CONTROL_ERROR, whatever has become of the stream."""
    async with listening(certificates) as place, undisturbed(place), place.started() as peer:
        assert peer.settings[Setting.INITIAL_WINDOW_SIZE] == SMALL
        with suppress(ConnectionError, ssl.SSLError):
            await peer.send(headers(1, request(path)), data(1, message(bytes(SMALL + 1))))
        assert await peer.goaway() is Error.FLOW_CONTROL


@pytest.mark.usefixtures("_small_windows")
async def test_more_than_is_left_of_the_window(certificates: Path | None) -> None:
    """The second message is in one frame, and in one read: there is no other way around the check."""
    async with listening(certificates) as place, undisturbed(place), place.started() as peer:
        await peer.send(OPEN)
        await peer.answers_ping()
        await peer.send(data(1, message(bytes(SMALL // 4 - 100))))
        await peer.answers_ping()
        await peer.send(data(1, message(bytes(SMALL * 3 // 4 + 1000))))
        assert await peer.goaway() is Error.FLOW_CONTROL


@pytest.mark.usefixtures("_small_windows")
async def test_padding_counts(certificates: Path | None) -> None:
    """6.9.1: the whole payload is flow-controlled, pad length and padding included."""
    async with listening(certificates) as place, place.started() as peer:
        await peer.send(OPEN, data(1, message(bytes(SMALL - 12))), data(1, padding=6))
        assert await peer.answers_ping()
    async with listening(certificates) as place, place.started() as peer:
        content = message(bytes(SMALL))[: SMALL - 100]
        await peer.send(OPEN, data(1, content, padding=100))
        assert await peer.goaway() is Error.FLOW_CONTROL


@pytest.mark.usefixtures("_small_windows")
async def test_windows_are_given_back(certificates: Path | None) -> None:
    """The honest link sends many times the window, so does a peer whose streams end in the middle."""
    async with a_peer(certificates) as (_, peer):
        for number in range(30):
            stream = 1 + 2 * number
            lost = headers(stream, request("/nothing/here")) + data(stream, message(bytes(SMALL // 2)))
            await peer.send(lost, rst_stream(stream))
            await peer.answers_ping()


async def test_window_of_zero(certificates: Path | None) -> None:
    """Nothing of a message is sent; control frames are; and when there is a window again, all of it."""
    async with a_peer(certificates, (Setting.INITIAL_WINDOW_SIZE, 0)) as (place, peer):
        await peer.send(OPEN, data(1, message(b"held back")))
        await until(lambda: len(place.links) == 2)
        for _ in range(3):
            await still_there(peer)
        assert not [each for each in peer.heard if each.kind == Kind.DATA]
        assert place.links[1].stream.congested
        await peer.send(settings((Setting.INITIAL_WINDOW_SIZE, 3)), window_update(1, 100))
        received = b""
        while len(received) < 14:
            received += (await peer.until(lambda each: each.kind == Kind.DATA)).payload
        assert received == message(b"held back")
        await until(lambda: not place.links[1].stream.congested)


async def test_one_byte_windows(certificates: Path | None) -> None:
    """A window that opens by a byte each time: slow, and nobody else's business."""
    async with a_peer(certificates, (Setting.INITIAL_WINDOW_SIZE, 0)) as (_, peer):
        whole = message(b"x" * 200)
        await peer.send(OPEN, data(1, whole))
        received = b""
        while len(received) < len(whole):
            await peer.send(window_update(1, 1))
            received += (await peer.until(lambda each: each.kind == Kind.DATA)).payload
        assert received == whole


async def test_windows_that_are_lies(certificates: Path | None) -> None:
    """More than 2^31-1 on a stream costs the stream; what waited on it is dropped."""
    async with a_peer(certificates, (Setting.INITIAL_WINDOW_SIZE, 0)) as (place, peer):
        await peer.send(OPEN, data(1, message(b"waits")), window_update(1, MAX_WINDOW), window_update(1, 1))
        reset = await peer.until(lambda each: each.kind == Kind.RST_STREAM)
        assert reset.code == Error.FLOW_CONTROL
        await still_there(peer)
        await until(lambda: place.open_links == 1)


# Reading nothing.


def resident() -> int:
    """Bytes of memory of this process that are in use: proc(5), statm."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


async def test_peers_that_never_read(certificates: Path | None) -> None:
    """The link is congested, and holds the one batch that it was given, however long that lasts."""
    declared = ((Setting.INITIAL_WINDOW_SIZE, MAX_WINDOW), (Setting.MAX_FRAME_SIZE, 2**24 - 1))
    async with listening(certificates) as place, undisturbed(place), AsyncExitStack() as stack:
        before = resident()
        for links in range(2, 22):
            peer = await stack.enter_async_context(place.started(*declared))
            await peer.send(window_update(0, MAX_WINDOW - 65_535), OPEN)
            await peer.send(*(data(1, message(MUCH)) for _ in range(50)))
            await until(lambda links=links: len(place.links) == links)  # type: ignore[misc]
            await until(lambda: len(place.links[-1].batches) == 50)
        unread = place.links[1:]
        assert all(link.stream.congested for link in unread)
        assert all(len(link.waiting) > 30 for link in unread)  # and none of it with the transport
        assert resident() - before < 20 * 10 * MEBIBYTE


async def test_answers_that_nobody_reads() -> None:
    """Calls that are answered with HEADERS alone, which no window holds back: what waits has a bound."""

    def calls(number: int) -> bytes:
        streams = range(1 + 8 * number, 9 + 8 * number, 2)
        return b"".join(headers(at, request()) + data(at, check("x"), end=True) for at in streams)

    async with listening(None, send_buffer=4096) as place, undisturbed(place), AsyncExitStack() as stack:
        peer = stack.enter_context(await RawPeer.connect(place.address, receive_buffer=2048))
        await peer.start()
        before = resident()

        async def ask() -> None:
            with suppress(ConnectionError, ssl.SSLError):
                for number in count():
                    await peer.send(calls(number))
                    await asyncio.sleep(0)  # more than eight at once would be refused

        async with background(ask()) as (asking,):
            await until(asking.done, 20)
        assert resident() - before < 16 * MEBIBYTE
        assert await peer.goaway() in (Error.ENHANCE_YOUR_CALM, None)


async def test_reader_that_is_slow(certificates: Path | None) -> None:
    """It gets everything, in the end, unchanged; nobody waits for it."""
    async with a_peer(certificates) as (place, peer):
        contents = [bytes([number]) * 30_000 for number in range(20)]
        await peer.send(window_update(0, MEBIBYTE), OPEN, window_update(1, MEBIBYTE))
        for content in contents:
            await peer.send(data(1, message(content)[:16_000]), data(1, message(content)[16_000:]))
        await until(lambda: len(place.links[-1].batches) == len(contents))
        received = b""
        wanted = b"".join(map(message, contents))
        while len(received) < len(wanted):
            received += (await peer.until(lambda each: each.kind == Kind.DATA)).payload
            await asyncio.sleep(0.01)
        assert received == wanted


# Lies about lengths.


async def test_frame_that_never_ends(certificates: Path | None) -> None:
    """A head says more than comes: the rest is waited for, and the connection's other frames with it."""
    async with a_peer(certificates) as (place, peer):
        await peer.send(OPEN, frame(Kind.DATA, 0, 1, message(b"hello") + message(b"part")[:7], length=10_000))
        await until(lambda: len(place.links) == 2 and place.links[1].batches == [b"hello"])
        await peer.send(ping())  # is content now
        with pytest.raises(TimeoutError):
            await peer.until(lambda each: each.is_ack(Kind.PING, b"raw peer"), 0.3)
    assert await eventually(lambda: place.links[1].closed)


async def test_message_longer_than_what_comes(certificates: Path | None) -> None:
    """A prefix that promises four megabytes allocates nothing by itself."""
    before = resident()
    async with listening(certificates) as place, undisturbed(place), AsyncExitStack() as stack:
        for _ in range(20):
            peer = await stack.enter_async_context(place.started())
            calls = [headers(1 + 2 * at, request(CLIENT_STREAM)) for at in range(8)]
            lies = [data(1 + 2 * at, message(length=4_000_000)) for at in range(8)]
            await peer.send(*calls, *lies)
            await peer.answers_ping()
        assert resident() - before < 32 * MEBIBYTE  # 160 promises: 640 MB


def is_an_answer(frame: Frame) -> bool:
    return frame.kind == Kind.HEADERS and frame.stream > 2 * MAX_LINKS


async def test_messages_that_are_begun_and_not_ended(certificates: Path | None) -> None:
    """Each link may hold a part of a large message, so one peer gets few: the others are refused."""
    async with a_peer(certificates) as (_, peer):
        before = resident()
        for stream in range(1, 17, 2):
            await peer.send(headers(stream, request(CLIENT_STREAM)))
        for stream in range(1 + 2 * MAX_LINKS, 17, 2):
            answer = await peer.until(is_an_answer)
            assert answer.stream == stream
            assert dict(answer.fields)["grpc-status"] == str(int(Status.RESOURCE_EXHAUSTED))
        with suppress(ConnectionError, ssl.SSLError):
            for stream in range(1, 17, 2):
                await peer.send(data(stream, message(length=4_000_000) + bytes(1_500_000)))
        await peer.answers_ping()
        assert resident() - before < 16 * MEBIBYTE


async def test_unary_call_without_end(certificates: Path | None) -> None:
    """A call that may have one message gets many: it ends, and what came is not kept."""
    async with a_peer(certificates) as (_, peer):
        await peer.send(headers(1, request()))
        before = resident()

        async def talk() -> None:
            with suppress(ConnectionError, ssl.SSLError):
                for _ in range(4000):
                    await peer.send(data(1, message(bytes(16_000))))

        async with background(talk()) as (talking,):
            response = await response_on(peer)
            assert response.grpc_status not in ("", "0")
            await until(talking.done)
        assert resident() - before < 24 * MEBIBYTE


async def test_first_byte_of_a_stranger_among_frames(certificates: Path | None) -> None:
    """Bytes that are no frames, after a good start."""
    async with a_peer(certificates) as (_, peer):
        await peer.send(OPEN, b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert await peer.goaway() in (Error.FRAME_SIZE, Error.PROTOCOL)


# Leaving.


async def test_half_sent_frames_at_the_end(certificates: Path | None) -> None:
    """The peer is gone in the middle of a frame, of a block, of a message: the link has failed."""
    ends = [
        OPEN[:5],
        headers(3, request()[:9], whole=False),
        data(1, message(b"abc")[:6]),
        data(1, message(bytes(99)))[:20],
    ]
    async with listening(certificates) as place, undisturbed(place):
        for end in ends:
            async with place.started() as peer:
                await peer.send(OPEN, end)
                await until(lambda: place.open_links == 2)
            await until(lambda: place.open_links == 1)
            assert place.links[-1].error is not None


async def test_connections_that_come_and_go(certificates: Path | None) -> None:
    """Links are made and dropped in every way, a hundred times; nothing is left of any."""
    async with listening(certificates) as place, undisturbed(place):
        for number in range(100):
            async with place.started() as peer:
                await peer.send(OPEN, data(1, message(b"x"), end=number % 3 == 0))
                if number % 3 == 1:
                    await peer.send(rst_stream(1))
                await until(lambda links=number + 2: len(place.links) == links)  # type: ignore[misc]
        await until(lambda: place.open_links == 1)


async def test_flags_of_no_frame(certificates: Path | None) -> None:
    """END_STREAM on frames that do not have it ends nothing."""
    async with a_peer(certificates) as (place, peer):
        await peer.send(OPEN, frame(Kind.PRIORITY, Flag.END_STREAM, 1, bytes(5)), data(1, message(b"more")))
        await until(lambda: len(place.links) == 2 and place.links[1].batches == [b"more"])
        assert not place.links[1].closed


async def test_health_beside_a_link_that_is_stuck(certificates: Path | None) -> None:
    """One stream has no window; the connection's others go on."""
    async with a_peer(certificates) as (place, peer):
        await peer.send(window_update(0, MEBIBYTE), OPEN, data(1, message(MUCH)))
        await until(lambda: len(place.links) == 2 and place.links[1].batches)
        for stream in (3, 5, 7):
            await peer.send(headers(stream, request()), data(stream, check(), end=True))
            assert await response_on(peer, stream) == Response("200", [b"\x08\x01"], "0")
