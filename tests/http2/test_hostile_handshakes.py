"""Peers that never get as far as a call, by idleness, malice or mistake.

Each is sent away in time, and an honest link on the same listener goes on with its data
unchanged. The limits are made short here; that they are five seconds is a test of its own.
"""

from __future__ import annotations

import asyncio
import resource
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager, suppress
from pathlib import Path

import pytest

from tests.http2.listening import MUCH, Place, listening, undisturbed
from tests.http2.rawframes import (
    CLIENT_STREAM,
    PREFACE,
    Error,
    Frame,
    Kind,
    data,
    headers,
    message,
    request,
    settings,
)
from tests.http2.rawpeer import PATIENCE, RawPeer, tls_context
from tests.loopback.applications import reset
from tests.loopback.running import background, until
from tunneler.transport.native import carrier, guest
from tunneler.transport.native.listener import MAX_STRANGERS

LIMIT = 0.4
"""Seconds, instead of five."""
LATEST = LIMIT + 1.5
"""Deadlines are looked at a few times a second, on a machine that is busy."""
CROWD = 2000


@pytest.fixture
def _short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tunneler.transport.native.carrier.HANDSHAKE_SECONDS", LIMIT)
    monkeypatch.setattr("tunneler.transport.native.guest.FIRST_CALL_SECONDS", LIMIT)


short = pytest.mark.usefixtures("_short")


def test_limits() -> None:
    assert carrier.HANDSHAKE_SECONDS == guest.FIRST_CALL_SECONDS == 5.0


@asynccontextmanager
async def sent_away(
    place: Place, seconds: float = LATEST, earliest: float = LIMIT / 2
) -> AsyncIterator[RawPeer]:
    """A peer that has a TCP connection, and must have lost it soon after the block."""
    async with undisturbed(place), place.peer() as peer:
        start = time.monotonic()
        yield peer
        await peer.to_the_end()
        assert earliest <= time.monotonic() - start <= seconds


@short
async def test_silence(certificates: Path | None) -> None:
    async with listening(certificates) as place:
        async with sent_away(place):
            pass
        if certificates:  # without, nobody has to prove anything
            await until(lambda: place.reports)
            assert [event for event, _ in place.reports] == ["handshake_failed"]


@short
@pytest.mark.parametrize("length", [1, 100])
async def test_stalled_tls_handshake(pki: Path, length: int) -> None:
    """A ClientHello that stops in the middle."""
    async with listening(pki) as place, sent_away(place) as peer:
        await asyncio.get_running_loop().sock_sendall(peer.sock, client_hello(pki)[:length])


@short
async def test_tls_handshake_without_finish(pki: Path) -> None:
    """A whole ClientHello, and nothing after the listener's answer."""
    async with listening(pki) as place, sent_away(place) as peer:
        await raw_to_the_end(peer, client_hello(pki))


@short
async def test_slow_tls_handshake(pki: Path) -> None:
    """A byte now and then: what counts is the beginning, not the last byte."""
    async with (
        listening(pki) as place,
        sent_away(place) as peer,
        background(dribble(peer, client_hello(pki))),
    ):
        await peer.to_the_end()


@short
async def test_slow_preface(certificates: Path | None) -> None:
    async with listening(certificates) as place, undisturbed(place), place.peer() as peer:
        await peer.handshake()
        start = time.monotonic()
        async with background(dribble(peer, PREFACE + settings())):
            await peer.to_the_end()
        assert time.monotonic() - start <= LATEST


@short
async def test_preface_without_settings(certificates: Path | None) -> None:
    async with listening(certificates) as place, sent_away(place) as peer:
        await peer.handshake()
        await peer.send(PREFACE)


@short
async def test_silence_after_the_handshake(certificates: Path | None) -> None:
    """No call: GOAWAY with NO_ERROR, for it broke no rule of HTTP/2."""
    async with listening(certificates) as place, sent_away(place) as peer:
        await peer.start()
        assert await peer.goaway() is Error.NO_ERROR


@short
async def test_frames_but_no_call(certificates: Path | None) -> None:
    """PINGs show that it is alive, and still it has no business here."""
    async with listening(certificates) as place, undisturbed(place), place.peer() as peer:
        await peer.start()
        start = time.monotonic()
        async with background(pinging(peer)):
            assert await peer.goaway() is Error.NO_ERROR
        assert time.monotonic() - start <= LATEST


@short
async def test_slow_headers(certificates: Path | None) -> None:
    """A header block that comes a byte at a time is no call yet."""
    async with listening(certificates) as place, undisturbed(place), place.peer() as peer:
        await peer.start()
        start = time.monotonic()
        async with background(dribble(peer, headers(1, request(CLIENT_STREAM)))):
            await peer.to_the_end()
        assert time.monotonic() - start <= LATEST


async def dribble(peer: RawPeer, octets: bytes) -> None:
    """Send slowly enough to take far longer than is allowed."""
    try:
        for octet in octets:
            if peer.tls_version is None and octets[:1] == b"\x16":
                await asyncio.get_running_loop().sock_sendall(peer.sock, bytes([octet]))
            else:
                await peer.send(bytes([octet]))
            await asyncio.sleep(LIMIT / 8)
    except (ConnectionError, ssl.SSLError):
        pass  # sent away


async def pinging(peer: RawPeer) -> None:
    try:
        while True:
            await peer.send(b"\0\0\x08\x06\0\0\0\0\0" + bytes(8))
            await asyncio.sleep(LIMIT / 8)
    except (ConnectionError, ssl.SSLError):
        pass  # sent away


async def raw_to_the_end(peer: RawPeer, octets: bytes) -> None:
    """Send without TLS, and read until the listener has left."""
    loop = asyncio.get_running_loop()
    with suppress(ConnectionError):
        await loop.sock_sendall(peer.sock, octets)
        async with asyncio.timeout(PATIENCE):
            while await loop.sock_recv(peer.sock, 4096):
                pass


def client_hello(pki: Path) -> bytes:
    """The first flight of a TLS client."""
    outgoing = ssl.MemoryBIO()
    tls = tls_context(pki).wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname="127.0.0.1")
    with pytest.raises(ssl.SSLWantReadError):
        tls.do_handshake()
    return outgoing.read()


# TLS that is not for us.


NOT_TLS = {
    "HTTP/1.1": b"GET / HTTP/1.1\r\n\r\n",
    "plaintext HTTP/2": PREFACE + settings(),
    "zeros": bytes(1000),
    "a broken ClientHello": bytes.fromhex("1603010005 0100000100"),
    "an alert": bytes.fromhex("1503030002 0228"),
    "anything": bytes(range(256)) * 64,
}


@pytest.mark.parametrize("octets", NOT_TLS.values(), ids=NOT_TLS.keys())
async def test_not_tls(pki: Path, octets: bytes) -> None:
    """The connection ends at once, and the operator is told."""
    async with listening(pki) as place, undisturbed(place), place.peer() as peer:
        await raw_to_the_end(peer, octets)
        await until(lambda: place.reports)
        ((event, fields),) = place.reports
        assert event == "handshake_failed"
        assert "\n" not in str(fields["reason"])


async def test_garbage_after_the_handshake(pki: Path) -> None:
    """Records that nobody sealed."""
    async with listening(pki) as place, undisturbed(place), place.started() as peer:
        await peer.send(headers(1, request(CLIENT_STREAM)))
        await until(lambda: place.open_links == 2)
        await asyncio.get_running_loop().sock_sendall(peer.sock, b"\x17\x03\x03\x00\x20" + bytes(32))
        await peer.to_the_end()
        await until(lambda: place.open_links == 1)


async def refused(place: Place, context: ssl.SSLContext) -> str:
    """Shake hands, and be refused; return how."""
    with await RawPeer.connect(place.address, context) as peer:
        try:
            await peer.handshake()
            await peer.send(PREFACE + settings())
            # TLS 1.3: a client is through before the server has looked at its certificate.
            frames = await peer.to_the_end()
            assert all(frame.kind in (Kind.SETTINGS, Kind.WINDOW_UPDATE, Kind.GOAWAY) for frame in frames)
            return peer.ending
        except (ssl.SSLError, ConnectionError) as error:
            return str(error)


async def test_old_tls(pki: Path) -> None:
    async with listening(pki) as place, undisturbed(place):
        how = await refused(place, tls_context(pki, newest=ssl.TLSVersion.TLSv1_2))
        assert "version" in how.lower()


async def test_no_certificate(pki: Path) -> None:
    async with listening(pki) as place, undisturbed(place):
        assert await refused(place, tls_context(pki, None)) in ("alert", "reset")
        await until(lambda: place.reports)
    assert place.reports[0][0] == "handshake_failed"


async def test_certificate_for_servers(pki: Path) -> None:
    """Its extended key usage says that its holder is no client."""
    async with listening(pki) as place, undisturbed(place):
        assert await refused(place, tls_context(pki, "server")) in ("alert", "reset")
        await until(lambda: place.reports)
    assert place.reports[0][0] == "handshake_failed"


@pytest.mark.parametrize("alpn", [(), ("http/1.1",), ("h3", "http/1.1")])
async def test_no_http2(pki: Path, alpn: tuple[str, ...]) -> None:
    """RFC 9113 section 3.2: a client must say h2."""
    async with listening(pki) as place, undisturbed(place):
        context = tls_context(pki)
        context = tls_context(pki, alpn=alpn) if alpn else without_alpn(pki)
        await refused(place, context)
        await until(lambda: place.reports)


def without_alpn(pki: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(pki / "ca" / "cert.pem")
    context.load_cert_chain(pki / "client" / "cert.pem", pki / "client" / "key.pem")
    return context


# Ends.


async def link(place: Place, peer: RawPeer) -> None:
    await peer.start()
    await peer.send(headers(1, request(CLIENT_STREAM)) + data(1, message(b"hello")))
    await until(lambda: any(link.batches == [b"hello"] for link in place.links))


Leave = Callable[[RawPeer], Awaitable[None]]


async def close_notify(peer: RawPeer) -> None:
    await peer.shut_tls()
    await peer.to_the_end()


async def fin_only(peer: RawPeer) -> None:
    peer.sock.shutdown(1)
    await peer.to_the_end()


async def rst(peer: RawPeer) -> None:
    reset(peer.sock)


@pytest.mark.parametrize("leave", [close_notify, fin_only, rst])
async def test_peer_that_leaves(pki: Path, leave: Leave) -> None:
    """A link that was not ended by END_STREAM has failed, whatever TLS and TCP say; it is told once."""
    async with listening(pki) as place, undisturbed(place), place.peer() as peer:
        await link(place, peer)
        await leave(peer)
        await until(lambda: place.open_links == 1)
        (lost,) = [each for each in place.links if each.closed]
        assert lost.error is not None


async def test_tls_that_is_cut_off_is_told_from_an_end(pki: Path) -> None:
    """RFC 8446 section 6.1: without close_notify the end may be an attacker's."""
    async with listening(pki) as place, place.peer() as peer:
        await link(place, peer)
        await fin_only(peer)
        await until(lambda: not place.open_links)
        assert "cut off" in str(place.links[0].error)


async def farewell(peer: RawPeer) -> list[Frame]:
    with peer:
        return await peer.to_the_end()


async def test_listener_says_close_notify(certificates: Path | None) -> None:
    """When it closes: the links' end, GOAWAY, and the end of TLS, in that order."""
    async with AsyncExitStack() as later:
        async with listening(certificates) as place:
            peer = await later.enter_async_context(place.peer())
            await link(place, peer)
            (reading,) = await later.enter_async_context(background(farewell(peer)))
        frames = await reading
    assert frames[-1].kind == Kind.GOAWAY
    assert frames[-1].code == Error.NO_ERROR
    assert any(frame.ends_stream for frame in frames)
    assert peer.ending == ("close_notify" if certificates else "fin")
    assert not place.open_links


async def test_listener_closes_in_time_although_nobody_reads(certificates: Path | None) -> None:
    start = time.monotonic()
    async with listening(certificates) as place, place.peer() as peer:
        await peer.start((4, 2**31 - 1))
        await peer.send(headers(1, request(CLIENT_STREAM)), *(data(1, message(MUCH)) for _ in range(20)))
        await until(lambda: place.links and len(place.links[0].batches) == 20)
        start = time.monotonic()
    assert time.monotonic() - start < 4
    assert place.links[0].closed


# A crowd.


@pytest.fixture
def _many_files() -> Iterator[None]:
    """Room for both ends of a crowd in this process."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 2 * CROWD + 1000
    assert hard == resource.RLIM_INFINITY or hard >= wanted
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.usefixtures("_many_files")
@pytest.mark.parametrize("begin", [False, True], ids=["silent", "half a ClientHello"])
async def test_thousands_of_half_open_connections(
    pki: Path, monkeypatch: pytest.MonkeyPatch, begin: bool
) -> None:
    """Few are kept, and none for long; meanwhile the honest link is served, and new ones are."""
    monkeypatch.setattr("tunneler.transport.native.carrier.HANDSHAKE_SECONDS", 2.0)
    hello = client_hello(pki)[:100]
    loop = asyncio.get_running_loop()
    async with listening(pki) as place, undisturbed(place):
        with ExitStack() as crowd:
            peers = [crowd.enter_context(await RawPeer.connect(place.address)) for _ in range(CROWD)]
            for peer in peers if begin else ():
                with suppress(ConnectionError):
                    await loop.sock_sendall(peer.sock, hello)
            for _ in range(3):
                async with place.peer() as honest:
                    await link(place, honest)
                assert place.watched() <= MAX_STRANGERS + 10
            for peer in peers:
                await peer.to_the_end()
