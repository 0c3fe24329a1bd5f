"""gRPC's use of HTTP/2, as its documents PROTOCOL-HTTP2.md and http-grpc-status-mapping.md have it."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.http2.conformance import Response, messages_in, response_on, still_there
from tests.http2.listening import listening, undisturbed
from tests.http2.rawframes import (
    CLIENT_STREAM,
    HEALTH,
    PROXY_STREAM,
    SERVING,
    Error,
    Frame,
    Kind,
    check,
    data,
    headers,
    health_call,
    message,
    request,
    rst_stream,
)
from tests.http2.rawpeer import RawPeer
from tests.loopback.running import until
from tunneler.addresses import Role
from tunneler.protocol.frames import MAX_BATCH_ACCEPTED
from tunneler.transport.native.guest import MAX_UNARY_MESSAGE

OK, INVALID_ARGUMENT, NOT_FOUND, PERMISSION_DENIED, RESOURCE_EXHAUSTED = "0", "3", "5", "7", "8"
UNIMPLEMENTED, INTERNAL = "12", "13"
"""grpc/doc/statuscodes.md."""

NOT_SERVING = b"\x08\x02"
SERVICE = "tunneler.v1.Tunnel"


async def outcome(peer: RawPeer, *octets: bytes, stream: int = 1) -> Response:
    """Send a call, and return what came back; the connection lives on."""
    await peer.send(*octets)
    response = await response_on(peer, stream)
    # What is left of the peer's half is not wanted: RFC 9113 section 8.1.
    for frame in await peer.answers_ping():
        assert frame.kind != Kind.GOAWAY, f"{frame}, code {frame.code}"
        assert frame.kind != Kind.RST_STREAM or (frame.stream, frame.code) == (stream, Error.NO_ERROR)
    return response


# Health: a unary call, grpc/doc/health-checking.md.


@pytest.mark.parametrize("service", ["", SERVICE])
async def test_health(certificates: Path | None, service: str) -> None:
    async with listening(certificates) as place, place.started() as peer:
        response = await outcome(peer, headers(1, request()), data(1, check(service), end=True))
        assert response == Response("200", [SERVING], OK)


async def test_health_while_draining(certificates: Path | None) -> None:
    async with listening(certificates) as place, place.started() as peer:
        place.draining = True
        assert await outcome(peer, health_call()) == Response("200", [NOT_SERVING], OK)


async def test_health_of_an_unknown_service(certificates: Path | None) -> None:
    async with listening(certificates) as place, place.started() as peer:
        response = await outcome(peer, headers(1, request()), data(1, check("another.Service"), end=True))
        assert response == Response("200", [], NOT_FOUND)


@pytest.mark.parametrize("holder", ["client", "proxy"])
async def test_health_for_every_role(pki: Path, holder: str) -> None:
    async with listening(pki) as place, place.peer(holder) as peer:
        await peer.start()
        assert await outcome(peer, health_call()) == Response("200", [SERVING], OK)


async def test_health_beside_a_link(certificates: Path | None) -> None:
    """On one connection: neither disturbs the other."""
    async with listening(certificates) as place, place.started() as peer:
        await peer.send(headers(1, request(CLIENT_STREAM)))
        for number in range(20):
            content = bytes([number]) * 1000
            octets = data(1, message(content))
            await peer.send(octets[:100])  # no stream's frame may be cut by another's
            await peer.send(octets[100:])
            stream = 3 + 2 * number
            assert await outcome(peer, health_call(stream), stream=stream) == Response("200", [SERVING], OK)
            await until_message(peer, content)
        assert place.open_links == 1


async def until_message(peer: RawPeer, content: bytes) -> None:
    """Wait for the echo of a message on stream 1, whatever came already."""

    def echoed(frames: list[Frame]) -> bytes:
        return b"".join(frame.payload for frame in frames if frame.kind == Kind.DATA and frame.stream == 1)

    while not echoed(peer.heard).endswith(content):
        assert await peer.receive() is not None


async def test_many_health_checks(certificates: Path | None) -> None:
    """As many calls as there are numbers in an hour of checks: nothing is left of any."""
    async with listening(certificates) as place, place.started() as peer:
        for number in range(300):
            stream = 1 + 2 * number
            await peer.send(health_call(stream))
            assert (await response_on(peer, stream)).grpc_status == OK
        await still_there(peer)


async def test_health_without_a_message(certificates: Path | None) -> None:
    async with listening(certificates) as place, place.started() as peer:
        response = await outcome(peer, headers(1, request(), end=True))
        assert (response.http_status, response.messages) == ("200", [])
        assert response.grpc_status in (INVALID_ARGUMENT, INTERNAL, UNIMPLEMENTED)


async def test_health_with_two_messages(certificates: Path | None) -> None:
    async with listening(certificates) as place, place.started() as peer:
        response = await outcome(peer, headers(1, request()), data(1, check() * 2, end=True))
        assert response.grpc_status in (INVALID_ARGUMENT, INTERNAL, UNIMPLEMENTED)


async def test_health_with_nonsense(certificates: Path | None) -> None:
    async with listening(certificates) as place, place.started() as peer:
        response = await outcome(peer, headers(1, request()), data(1, message(b"\xff" * 9), end=True))
        assert response.messages == []
        assert response.grpc_status in (INVALID_ARGUMENT, INTERNAL)


# Requests that are not gRPC's, or not ours.


@pytest.mark.parametrize("content_type", ["application/json", "text/html", "application/grpcx", "", None])
async def test_wrong_content_type(certificates: Path | None, content_type: str | None) -> None:
    """PROTOCOL-HTTP2.md: 415, so that a client that does not speak gRPC can tell."""
    async with listening(certificates) as place, place.started() as peer:
        response = await outcome(
            peer, headers(1, request(content_type=content_type)), data(1, check(), end=True)
        )
        assert (response.http_status, response.messages) == ("415", [])


@pytest.mark.parametrize("content_type", ["application/grpc+proto", "application/grpc;charset=utf-8"])
async def test_content_types_of_grpc(certificates: Path | None, content_type: str) -> None:
    async with listening(certificates) as place, place.started() as peer:
        call = headers(1, request(content_type=content_type)) + data(1, check(), end=True)
        assert await outcome(peer, call) == Response("200", [SERVING], OK)


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "OPTIONS", "post", "BREW"])
async def test_other_methods(certificates: Path | None, method: str) -> None:
    async with listening(certificates) as place, place.started() as peer:
        response = await outcome(peer, headers(1, request(method=method), end=True))
        assert (response.http_status, response.messages) == ("405", [])


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/tunneler.v1.Tunnel/Nothing",
        "/tunneler.v1.Tunnel",
        "/grpc.health.v1.Health/Watch",
        "no-slash",
        HEALTH + "/",
        "/%2e" * 3000,
    ],
)
async def test_unknown_method(certificates: Path | None, path: str) -> None:
    """Trailers-Only: one HEADERS with both kinds of status."""
    async with listening(certificates) as place, place.started() as peer:
        response = await outcome(peer, headers(1, request(path)), data(1, message(b"x"), end=True))
        assert response == Response("200", [], UNIMPLEMENTED)
        assert [frame.kind for frame in peer.heard if frame.stream == 1].count(Kind.HEADERS) == 1
        assert place.links == []


async def test_te_is_wanted_of_proxies_not_of_us(certificates: Path | None) -> None:
    """``te: trailers`` finds proxies that cannot do gRPC; a call without it is understood."""
    async with listening(certificates) as place, place.started() as peer:
        call = headers(1, request(te=None)) + data(1, check(), end=True)
        assert await outcome(peer, call) == Response("200", [SERVING], OK)


@pytest.mark.parametrize("value", ["1x", "S", "123456789S", "-1S", "1.5S", "", "1s", " 1S"])
async def test_malformed_timeout(certificates: Path | None, value: str) -> None:
    """PROTOCOL-HTTP2.md: at most eight digits and a unit; the call fails, and the connection does not."""
    async with listening(certificates) as place, place.started() as peer:
        await peer.send(headers(1, request(grpc_timeout=value)) + data(1, check(), end=True))
        if value.startswith(" "):  # malformed as a field already: RFC 9113 section 8.2.1
            reset = await peer.until(lambda frame: frame.kind == Kind.RST_STREAM)
            assert reset.code == Error.PROTOCOL
            return
        response = await response_on(peer)
        assert (response.http_status, response.messages) == ("200", [])
        assert response.grpc_status in (INTERNAL, INVALID_ARGUMENT)


@pytest.mark.parametrize("value", ["1H", "99999999S", "100m", "100000u", "99999999n", "5M"])
async def test_timeout(certificates: Path | None, value: str) -> None:
    async with listening(certificates) as place, place.started() as peer:
        call = headers(1, request(grpc_timeout=value)) + data(1, check(), end=True)
        assert await outcome(peer, call) == Response("200", [SERVING], OK)


# Messages.


@pytest.mark.parametrize("path", [HEALTH, CLIENT_STREAM])
async def test_compressed_message(certificates: Path | None, path: str) -> None:
    """grpc/doc/compression.md: a compressed flag without grpc-encoding is INTERNAL."""
    async with listening(certificates) as place, place.started() as peer:
        response = await outcome(peer, headers(1, request(path)), data(1, message(b"x", compressed=1)))
        assert (response.messages, response.grpc_status) == ([], INTERNAL)
        await until(lambda: not place.open_links)


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "snappy"])
async def test_unknown_encoding(certificates: Path | None, encoding: str) -> None:
    """grpc/doc/compression.md: UNIMPLEMENTED."""
    async with listening(certificates) as place, place.started() as peer:
        call = headers(1, request(grpc_encoding=encoding)) + data(1, message(b"x", compressed=1), end=True)
        assert await outcome(peer, call) == Response("200", [], UNIMPLEMENTED)


@pytest.mark.parametrize("path", [HEALTH, CLIENT_STREAM])
@pytest.mark.parametrize("length", [MAX_BATCH_ACCEPTED + 1, 2**32 - 1])
async def test_oversized_message(certificates: Path | None, path: str, length: int) -> None:
    """Refused by what its prefix says: nothing of it is waited for, or held."""
    async with listening(certificates) as place, undisturbed(place), place.started() as peer:
        response = await outcome(peer, headers(1, request(path)), data(1, message(length=length) + b"begin"))
        assert response == Response("200", [], RESOURCE_EXHAUSTED)
        await until(lambda: place.open_links == 1)


async def test_largest_unary_message(certificates: Path | None) -> None:
    """A health check has a service's name in it, and no room for more."""
    whole = message(bytes(MAX_UNARY_MESSAGE + 1))
    async with listening(certificates) as place, place.started() as peer:
        await peer.send(headers(1, request()))
        await still_there(peer)
        assert await outcome(peer, data(1, whole)) == Response("200", [], RESOURCE_EXHAUSTED)


async def test_content_that_looks_like_a_frame(certificates: Path | None) -> None:
    """A read that could be one frame with one message, but is the middle of another."""
    looks = data(1, message(b"inner"))
    async with listening(certificates) as place, place.started() as peer:
        await peer.send(headers(1, request(CLIENT_STREAM)))
        await still_there(peer)
        # The rest of a frame, where a message begins; as one it says that it has 655,360 bytes.
        whole = data(1, message(b"outer") + looks[:5] + looks[5:].ljust(655_360, b"."))
        begun = 9 + len(message(b"outer"))
        await peer.send(whole[:begun])
        await until(lambda: place.links[0].batches == [b"outer"])
        await peer.send(whole[begun:][: len(looks)])
        for _ in range(4):
            await asyncio.sleep(0)  # a read of its own; nothing comes of it that could be awaited
        await peer.send(whole[begun + len(looks) :])
        await until(lambda: len(place.links[0].batches) == 2)
        assert place.links[0].batches.pop() == looks[5:].ljust(655_360, b".")
        # The rest of a message, in a frame of its own.
        await peer.send(data(1, message(b"12345" + message(b"inner"))[:10]))
        await still_there(peer)
        await peer.send(data(1, message(b"inner")))
        await until(lambda: len(place.links[0].batches) == 2)
        assert place.links[0].batches == [b"outer", b"12345" + message(b"inner")]


async def test_largest_message(certificates: Path | None) -> None:
    async with listening(certificates) as place, place.started() as peer:
        content = bytes(range(256)) * (MAX_BATCH_ACCEPTED // 256)
        whole = message(content)
        await peer.send(headers(1, request(CLIENT_STREAM)))
        for at in range(0, len(whole), 16_384):
            await peer.send(data(1, whole[at : at + 16_384]))
        await until(lambda: place.links and place.links[0].batches)
        assert place.links[0].batches == [content]


@pytest.mark.parametrize("path", [HEALTH, CLIENT_STREAM])
@pytest.mark.parametrize("length", [1, 4, 5, 7])
async def test_truncated_message(certificates: Path | None, path: str, length: int) -> None:
    """END_STREAM in the middle of a message, or of its prefix."""
    async with listening(certificates) as place, place.started() as peer:
        cut = message(b"abc")[:length]
        response = await outcome(peer, headers(1, request(path)), data(1, cut, end=True))
        assert (response.messages, response.grpc_status) == ([], INTERNAL)
        await until(lambda: not place.open_links)
        assert all(link.error is not None for link in place.links)


async def test_messages_and_frames_are_cut_independently(certificates: Path | None) -> None:
    """PROTOCOL-HTTP2.md: DATA frame boundaries have no relation to messages."""
    contents = [b"", b"a", b"bc" * 500, b"", b"d" * 70_000]
    octets = b"".join(map(message, contents))
    async with listening(certificates) as place, place.started() as peer:
        await peer.send(headers(1, request(CLIENT_STREAM)))
        for at in range(0, 600, 3):
            await peer.send(data(1, octets[at : at + 3], padding=at % 7 or None))
        await peer.send(*(data(1, octets[at : at + 16_000]) for at in range(600, len(octets), 16_000)))
        await until(lambda: place.links and len(place.links[0].batches) == len(contents))
        assert place.links[0].batches == contents


# Links.


async def test_response_of_a_link(certificates: Path | None) -> None:
    """Response-Headers, messages, Trailers; the listener ends it when the link is closed."""
    async with listening(certificates) as place, place.started() as peer:
        await peer.send(headers(1, request(CLIENT_STREAM)) + data(1, message(b"one") + message(b"two")))
        await until(lambda: place.links and len(place.links[0].batches) == 2)
        place.links[0].stream.close(b"last")
        response = await response_on(peer)
        assert response == Response("200", [b"one", b"two", b"last"], OK)
        assert [frame.kind for frame in peer.heard if frame.stream == 1].count(Kind.HEADERS) == 2


async def test_link_that_the_peer_ends(certificates: Path | None) -> None:
    """END_STREAM: the listener ends its half with OK, after what it still has to say."""
    async with listening(certificates) as place, place.started() as peer:
        await peer.send(headers(1, request(CLIENT_STREAM)) + data(1, message(b"one"), end=True))
        response = await response_on(peer)
        assert (response.messages, response.grpc_status) == ([b"one"], OK)
        await until(lambda: not place.open_links)
        assert place.links[0].error is None


async def test_link_that_the_peer_resets(certificates: Path | None) -> None:
    async with listening(certificates) as place, place.started() as peer:
        await peer.send(headers(1, request(CLIENT_STREAM)))
        await until(lambda: place.open_links)
        await peer.send(rst_stream(1))
        await until(lambda: not place.open_links)
        assert place.links[0].error is not None
        await still_there(peer)


@pytest.mark.parametrize(
    ("holder", "path", "role"),
    [("client", CLIENT_STREAM, Role.CLIENT), ("proxy", PROXY_STREAM, Role.PROXY)],
)
async def test_role_may_call_its_method(pki: Path, holder: str, path: str, role: Role) -> None:
    async with listening(pki) as place, place.peer(holder) as peer:
        await peer.start()
        await peer.send(headers(1, request(path)) + data(1, message(b"hello")))
        await until(lambda: place.links and place.links[0].batches == [b"hello"])
        assert place.links[0].stream.peer.identity.role is role


@pytest.mark.parametrize(
    ("holder", "path"),
    [("client", PROXY_STREAM), ("proxy", CLIENT_STREAM)],
)
async def test_role_may_not_call_another_method(pki: Path, holder: str, path: str) -> None:
    """Refused by its certificate before any message is looked at, and reported."""
    async with listening(pki) as place, place.peer(holder) as peer:
        await peer.start()
        response = await outcome(peer, headers(1, request(path)), data(1, message(b"hello")))
        assert response == Response("200", [], PERMISSION_DENIED)
        assert place.links == []
        assert [event for event, _ in place.reports] == ["peer_denied"]


async def test_path_of_a_call_is_compared_whole(pki: Path) -> None:
    """No prefix, no case folding, no percent-decoding."""
    async with listening(pki) as place, place.started() as peer:
        for number, path in enumerate(
            (CLIENT_STREAM.upper(), CLIENT_STREAM + "?x", CLIENT_STREAM.replace("C", "%43"))
        ):
            stream = 1 + 2 * number
            response = await outcome(peer, headers(stream, request(path), end=True), stream=stream)
            assert response.grpc_status == UNIMPLEMENTED
        assert place.links == []


def test_messages_in() -> None:
    assert messages_in(message(b"a") + message()) == [b"a", b""]
