"""How a case of the conformance tables is written, played and judged.

A case is what is sent after the handshake, and what must come of it; it is played over plaintext
and over TLS, in one piece and in several. The tables hold every case
of h2spec (github.com/summerwind/h2spec: generic, http2, hpack) that applies to a server that
takes gRPC calls only, read in the light of RFC 9113, which replaced the RFC 7540 that h2spec
tests, and what RFC 9113 added. They are stricter than h2spec: where it takes the end of the
connection for any error, GOAWAY with the right code must come before; and where an error
concerns one stream, the connection must still answer.

What h2spec sends as GET is a health check here. Not applicable, and therefore not here:

- generic/4 asks for an answer to GET and HEAD; it is 405, and tested in test_grpc.py.
- http2/5.3.1, a stream that depends on itself: RFC 9113 section 5.3.2 deprecates priorities and
  has no such error; they are ignored, and test_conformance_streams.py says so.
- http2/8.1.2.6 and others whose server may answer before it resets: ours resets.
- Whatever concerns CONNECT, upgrades from HTTP/1.1, push and 1xx responses, which h2spec does not
  test of a server either.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.http2.listening import listening
from tests.http2.rawframes import SERVING, Error, Frame, Kind, message
from tests.http2.rawpeer import RawPeer

Wait = Callable[[Frame], bool]
Judge = Callable[[RawPeer], Awaitable[None]]


class Made(NamedTuple):
    """Bytes that depend on what the listener declared."""

    make: Callable[[RawPeer], bytes]


class Case(NamedTuple):
    """One line of a table.

    Attributes:
        section: of RFC 9113 unless it says otherwise.
        steps: bytes to send, and frames to wait for between.
        judge: fails unless what must come has come.
    """

    section: str
    name: str
    steps: tuple[bytes | Wait | Made, ...]
    judge: Judge

    def __str__(self) -> str:
        return f"{self.section}: {self.name}"


async def play(case: Case, way: Way, pki: Path) -> None:
    """Play a case with a listener of its own."""
    async with listening(pki if way.tls else None) as place, place.started() as peer:
        # The listener may have seen enough before the end; why, is what the judge looks at.
        with suppress(ConnectionError, ssl.SSLError):
            for step in case.steps:
                if isinstance(step, bytes | Made):
                    for octets in way.cut(step if isinstance(step, bytes) else step.make(peer)):
                        await peer.send(octets)
                        for _ in range(way.turns):
                            await asyncio.sleep(0)
                else:
                    await peer.until(step)
        await case.judge(peer)


class Way(NamedTuple):
    """How the bytes of a case are sent, for where reads are cut must make no difference.

    Attributes:
        turns: of the loop, which the listener has after each piece.
        bytewise: the beginning of each step comes a byte at a time.
    """

    name: str
    tls: bool = False
    turns: int = 0
    bytewise: bool = False

    def cut(self, octets: bytes) -> list[bytes]:
        if not self.bytewise:
            return [octets]
        single = [octets[at : at + 1] for at in range(min(len(octets), 400))]
        return [*single, octets[400:]] if len(octets) > 400 else single


WAYS = (
    Way("plaintext, at once"),
    Way("plaintext, step by step", turns=4),
    Way("plaintext, byte by byte", turns=2, bytewise=True),
    Way("TLS", tls=True, turns=4),
)
every_way = pytest.mark.parametrize("way", WAYS, ids=[way.name for way in WAYS])


# What a case may wait for.


def stream_ended(frame: Frame) -> bool:
    """The listener is through with stream 1."""
    return frame.stream == 1 and (frame.ends_stream or frame.kind == Kind.RST_STREAM)


def data_came(frame: Frame) -> bool:
    return frame.kind == Kind.DATA


def settings_acknowledged(frame: Frame) -> bool:
    return frame.is_ack(Kind.SETTINGS)


# What must come.


def connection_error(*codes: Error) -> Judge:
    """GOAWAY with one of these codes, then the end of the connection: section 5.4.1."""

    async def judge(peer: RawPeer) -> None:
        code = await peer.goaway()
        assert code in codes, f"GOAWAY {code!r}; heard {peer.heard[-5:]}"
        assert peer.ending in ("fin", "close_notify", "reset")

    return judge


def stream_error(*codes: Error, stream: int = 1) -> Judge:
    """RST_STREAM with one of these codes, and the connection lives on: section 5.4.2."""

    async def judge(peer: RawPeer) -> None:
        reset = await peer.until(lambda frame: frame.kind in (Kind.RST_STREAM, Kind.GOAWAY))
        assert reset.kind == Kind.RST_STREAM, f"{reset}, code {reset.code}"
        assert (reset.stream, reset.code) in [(stream, code) for code in codes]
        await still_there(peer)

    return judge


def either_error(*codes: Error, stream: int = 1) -> Judge:
    """One of the two, where the RFC leaves the choice."""

    async def judge(peer: RawPeer) -> None:
        error = await peer.until(lambda frame: frame.kind in (Kind.RST_STREAM, Kind.GOAWAY))
        assert error.code in codes, f"{error}, code {error.code}"
        if error.kind == Kind.RST_STREAM:
            assert error.stream == stream
            await still_there(peer)

    return judge


async def still_there(peer: RawPeer) -> None:
    """The connection answers, and has not been given up."""
    for frame in await peer.answers_ping():
        assert frame.kind not in (Kind.GOAWAY, Kind.RST_STREAM), f"{frame}, code {frame.code}"


async def ignored(peer: RawPeer) -> None:
    """Nothing comes of it; only windows and acknowledgements may."""
    await still_there(peer)
    harmless = (Kind.PING, Kind.SETTINGS, Kind.WINDOW_UPDATE)
    assert [frame for frame in peer.heard if frame.kind not in harmless] == []


def answered(stream: int = 1) -> Judge:
    """A health check was understood: SERVING, status 0."""

    async def judge(peer: RawPeer) -> None:
        response = await response_on(peer, stream)
        assert response == Response("200", [SERVING], "0"), response
        await still_there(peer)

    return judge


def data_in_pieces(*lengths: int) -> Judge:
    """DATA of these lengths, and nothing more although the listener had time."""

    async def judge(peer: RawPeer) -> None:
        for _ in range(2):  # an acknowledgement may overtake DATA of the same turn
            await still_there(peer)
        assert [len(frame.payload) for frame in peer.heard if frame.kind == Kind.DATA] == list(lengths)

    return judge


class Response(NamedTuple):
    """What came back on a stream; ``grpc_status`` is empty if none was said."""

    http_status: str
    messages: list[bytes]
    grpc_status: str


async def response_on(peer: RawPeer, stream: int = 1) -> Response:
    """Read a whole response; it must not be reset."""
    blocks: list[tuple[tuple[str, str], ...]] = []
    content = b""
    while not (blocks and peer.heard[-1].stream == stream and peer.heard[-1].ends_stream):
        frame = await peer.receive()
        assert frame is not None, f"the connection ended ({peer.ending}): {peer.heard[-5:]}"
        assert frame.kind not in (Kind.GOAWAY, Kind.RST_STREAM), f"{frame}, code {frame.code}"
        if frame.kind == Kind.HEADERS and frame.stream == stream:
            blocks.append(frame.fields)
        elif frame.kind == Kind.DATA and frame.stream == stream:
            content += frame.payload
    assert len(blocks) <= 2
    trailers = dict(blocks[-1])
    assert "grpc-message" not in trailers  # no prose on the wire
    return Response(dict(blocks[0])[":status"], messages_in(content), trailers.get("grpc-status", ""))


def messages_in(content: bytes) -> list[bytes]:
    """Length-prefixed messages, none of them compressed or cut short."""
    found: list[bytes] = []
    while content:
        end = 5 + int.from_bytes(content[1:5], "big")
        found.append(content[5:end])
        assert content[:end] == message(found[-1])
        content = content[end:]
    return found
