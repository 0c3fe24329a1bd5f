"""One socket with TLS and HTTP/2 on it: deadlines, ends of every kind, and a socket that takes little."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.http2.rawframes import (
    CLIENT_STREAM,
    Error,
    Flag,
    Kind,
    data,
    headers,
    message,
    ping,
    request,
    window_update,
)
from tests.http2.rawpeer import RawPeer, tls_context
from tests.loopback.applications import noise, reset
from tests.loopback.peers import Material
from tests.loopback.running import until
from tests.loopback.trio import HOST
from tunneler.addresses import HostPort
from tunneler.errors import TransportError
from tunneler.http2.codes import ErrorCode
from tunneler.http2.connection import Connection
from tunneler.http2.events import Event, MessageReceived, RequestReceived
from tunneler.pki.identity import identity_of_certificate
from tunneler.protocol.frames import MAX_BATCH_ACCEPTED
from tunneler.sockets.reactor import Reactor
from tunneler.transport.native.carrier import (
    HANDSHAKE_SECONDS,
    KEEPALIVE_SECONDS,
    KEEPALIVE_TIMEOUT,
    LINGER_SECONDS,
    Carrier,
    State,
    clock,
)
from tunneler.transport.native.channel import PlainChannel, TlsChannel
from tunneler.transport.native.contexts import context_source
from tunneler.transport.seam import Security

MEBIBYTE = 1024 * 1024


class Owner:
    """See :class:`tunneler.transport.native.owner.CarrierOwner`; writes down what it is told."""

    def __init__(self) -> None:
        self.told: list[str] = []
        self.events: list[Event] = []
        self.ends: list[TransportError | None] = []
        self.rooms = 0

    def established(self) -> None:
        self.told.append("established")

    def settled(self) -> None:
        self.told.append("settled")

    def event(self, event: Event) -> None:
        assert not self.ends
        self.events.append(event)

    def room_made(self) -> None:
        assert not self.ends
        self.rooms += 1

    def failed(self, error: TransportError) -> None:
        pass  # carrier_closed follows, with the same

    def carrier_closed(self, error: TransportError | None) -> None:
        self.ends.append(error)

    @property
    def end(self) -> str:
        """How it ended: once."""
        (error,) = self.ends
        return str(error)


class Stand:
    """A carrier of the listening side, its owner, and a peer that says what a test says."""

    def __init__(self, carrier: Carrier, sock: socket.socket, owner: Owner, peer: RawPeer) -> None:
        self.carrier = carrier
        self.sock = sock
        self.owner = owner
        self.peer = peer

    async def call(self) -> int:
        """Have the peer begin a call with windows that are in nobody's way; its stream."""
        await self.peer.send(
            headers(1, request(CLIENT_STREAM)), window_update(0, 2**30), window_update(1, 2**30)
        )
        await until(lambda: any(isinstance(event, RequestReceived) for event in self.owner.events))
        await self.peer.answers_ping()
        self.carrier.http2.respond(1)
        self.carrier.flush()
        return 1

    def say(self, content: bytes) -> None:
        self.carrier.http2.send_message(1, content)
        self.carrier.flush()

    async def closed(self) -> str:
        await until(lambda: self.owner.ends)
        return self.owner.end


@asynccontextmanager
async def stand(pki: Path | None, *, send_buffer: int = 0) -> AsyncIterator[Stand]:
    """Nobody has said anything yet.

    Args:
        send_buffer: bytes of the carrier's, if not the usual ones; the kernel has a minimum (socket(7)).
    """
    owner = Owner()
    with socket.create_server((HOST, 0)) as listener, Reactor() as reactor:
        address = HostPort(HOST, listener.getsockname()[1])
        if send_buffer:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, send_buffer)
        with await RawPeer.connect(address, tls_context(pki) if pki else None) as peer:
            sock, _ = listener.accept()
            sock.setblocking(False)
            http2 = Connection(client_side=False, message_limit=MAX_BATCH_ACCEPTED, now=clock())
            carrier = Carrier(sock, reactor, channel(pki), http2, owner)
            carrier.start()
            try:
                yield Stand(carrier, sock, owner, peer)
            finally:
                carrier.abort(None)
        assert len(owner.ends) == 1
        assert len(reactor) == 0
        assert sock.fileno() == -1


def channel(pki: Path | None) -> TlsChannel | PlainChannel:
    if pki is None:
        return PlainChannel()
    security = Security(Material(pki, "server"), identity_of_certificate)
    return TlsChannel(context_source(security, server_side=True)(), None)


@pytest.fixture(params=["plaintext", "TLS"])
def certificates(request: pytest.FixtureRequest, pki: Path) -> Path | None:
    return pki if request.param == "TLS" else None


# Deadlines: a carrier is told what time it is.


async def test_order_of_a_beginning(certificates: Path | None) -> None:
    async with stand(certificates) as at:
        await at.peer.start()
        await until(lambda: at.owner.told == ["established", "settled"])
        assert at.carrier.state is State.OPEN


async def test_handshake_has_a_deadline(certificates: Path | None) -> None:
    async with stand(certificates) as at:
        start = clock()
        at.carrier.tick(start + HANDSHAKE_SECONDS - 0.1)
        assert at.owner.ends == []
        at.carrier.tick(start + HANDSHAKE_SECONDS)
        assert at.owner.end == "no TLS and HTTP/2 within 5 s"


async def test_first_settings_are_part_of_the_handshake(certificates: Path | None) -> None:
    async with stand(certificates) as at:
        await at.peer.handshake()
        await until(lambda: at.owner.told == ["established"])
        at.carrier.tick(clock() + HANDSHAKE_SECONDS)
        assert at.owner.end == "no TLS and HTTP/2 within 5 s"


async def test_silent_peer_is_asked_and_given_up(certificates: Path | None) -> None:
    async with stand(certificates) as at:
        await at.peer.start()
        await at.peer.answers_ping()
        start = clock()
        at.carrier.tick(start + KEEPALIVE_SECONDS - 0.1)
        await at.peer.answers_ping()
        assert at.peer.heard[-1].kind == Kind.PING
        assert not any(frame.kind == Kind.PING and not frame.flags & Flag.ACK for frame in at.peer.heard)
        asked = clock() + KEEPALIVE_SECONDS
        at.carrier.tick(asked)
        await at.peer.until(lambda frame: frame.kind == Kind.PING and not frame.flags & Flag.ACK)
        at.carrier.tick(asked + KEEPALIVE_TIMEOUT - 0.1)
        assert at.owner.ends == []
        at.carrier.tick(asked + KEEPALIVE_TIMEOUT)
        assert at.owner.end.startswith("nothing heard for 30.")


@pytest.mark.parametrize("answer", [ping(b"tunneler", ack=True), ping()])
async def test_whatever_a_peer_says_proves_life(certificates: Path | None, answer: bytes) -> None:
    async with stand(certificates) as at:
        await at.peer.start()
        await at.peer.answers_ping()
        asked = clock() + KEEPALIVE_SECONDS
        at.carrier.tick(asked)
        await at.peer.until(lambda frame: frame.kind == Kind.PING and not frame.flags & Flag.ACK)
        await at.peer.send(answer)
        await at.peer.answers_ping()
        at.carrier.tick(clock() + KEEPALIVE_SECONDS - 1)
        at.carrier.tick(asked + KEEPALIVE_SECONDS - 1)
        assert at.owner.ends == []


async def test_a_pause_of_our_own_kills_nobody(certificates: Path | None) -> None:
    """As after SIGSTOP: the first look at the clock comes much too late, and asks all the same."""
    async with stand(certificates) as at:
        await at.peer.start()
        late = clock() + 1000
        at.carrier.tick(late)
        await at.peer.until(lambda frame: frame.kind == Kind.PING and not frame.flags & Flag.ACK)
        await at.peer.answers_ping()
        assert at.owner.ends == []


async def test_lingering_has_a_deadline(certificates: Path | None) -> None:
    async with stand(certificates) as at:
        await at.peer.start()
        at.carrier.shut()
        start = clock()
        assert at.carrier.state is State.LINGERING
        at.carrier.tick(start + LINGER_SECONDS - 0.1)
        assert at.owner.ends == []
        at.carrier.tick(start + LINGER_SECONDS)
        assert at.owner.end == "the peer did not end its half in time"


# Ends.


async def test_shut_is_a_good_end(certificates: Path | None) -> None:
    async with stand(certificates) as at:
        await at.peer.start()
        at.carrier.shut()
        assert await at.peer.goaway() is Error.NO_ERROR
        assert at.peer.ending == ("close_notify" if certificates else "fin")
        at.peer.close()
        assert await at.closed() == "None"


async def test_shut_with_a_reason(certificates: Path | None) -> None:
    async with stand(certificates) as at:
        await at.peer.start()
        at.carrier.shut(ErrorCode.ENHANCE_YOUR_CALM, TransportError("too much"))
        at.carrier.shut(ErrorCode.NO_ERROR, TransportError("ignored"))
        assert await at.peer.goaway() is Error.ENHANCE_YOUR_CALM
        at.peer.close()
        assert await at.closed() == "too much"


async def test_last_words_are_not_lost_to_what_nobody_read(certificates: Path | None) -> None:
    """Closing a socket with unread data resets it (RFC 2525, 2.17), and takes back what was on its way."""
    async with stand(certificates) as at:
        await at.peer.start()
        await at.call()
        await at.peer.send(*[data(1, message(noise(15_000)))] * 40)
        at.say(noise(MEBIBYTE))
        at.carrier.shut()
        await at.peer.send(*[data(1, message(noise(15_000)))] * 40)
        heard = await at.peer.to_the_end()
        assert b"".join(frame.payload for frame in heard if frame.kind == Kind.DATA) == message(
            noise(MEBIBYTE)
        )
        assert at.peer.ending == ("close_notify" if certificates else "fin")
        at.peer.close()
        await at.closed()


async def test_what_comes_while_lingering_is_dropped(certificates: Path | None) -> None:
    async with stand(certificates) as at:
        await at.peer.start()
        await at.call()
        at.carrier.shut()
        told = len(at.owner.events)
        await at.peer.send(*[data(1, message(noise(15_000)))] * 40)
        assert await at.peer.goaway() is Error.NO_ERROR
        at.peer.close()
        await at.closed()
        assert len(at.owner.events) == told


async def test_end_without_close_notify(pki: Path) -> None:
    """Anybody on the way could have made it (RFC 8446 section 6.1)."""
    async with stand(pki) as at:
        await at.peer.start()
        await at.peer.answers_ping()
        at.peer.sock.shutdown(socket.SHUT_WR)
        assert "without TLS's close_notify" in await at.closed()


async def test_end_with_close_notify(pki: Path) -> None:
    async with stand(pki) as at:
        await at.peer.start()
        await at.peer.shut_tls()
        assert await at.closed() == "the peer closed the connection"


async def test_end_of_plaintext() -> None:
    async with stand(None) as at:
        await at.peer.start()
        await at.peer.answers_ping()
        at.peer.sock.shutdown(socket.SHUT_WR)
        assert (await at.closed()).startswith("the connection was cut off")


async def test_what_came_before_the_end_is_told(certificates: Path | None) -> None:
    async with stand(certificates) as at:
        await at.peer.start()
        await at.call()
        await at.peer.send(data(1, message(b"goodbye")))
        if certificates:
            await at.peer.shut_tls()
        at.peer.sock.shutdown(socket.SHUT_WR)
        await at.closed()
        assert at.owner.events[-1] == MessageReceived(1, b"goodbye")


async def test_broken_http2(certificates: Path | None) -> None:
    async with stand(certificates) as at:
        await at.peer.start()
        await at.peer.send(data(5, b"on an idle stream"))
        assert await at.peer.goaway() is Error.PROTOCOL
        at.peer.close()
        assert (await at.closed()).startswith("the peer broke HTTP/2, PROTOCOL_ERROR: ")


async def test_altered_record(pki: Path) -> None:
    async with stand(pki) as at:
        await at.peer.start()
        await at.peer.answers_ping()
        await asyncio.get_running_loop().sock_sendall(at.peer.sock, b"\x17\x03\x03\x00\x20" + bytes(32))
        assert (await at.closed()).startswith("TLS: ")


# Resets, whatever goes on.


async def in_handshake(at: Stand) -> None:
    await asyncio.sleep(0)


async def settled(at: Stand) -> None:
    await at.peer.start()
    await at.peer.answers_ping()


async def stuck(at: Stand) -> None:
    await settled(at)
    await at.call()
    at.say(noise(4 * MEBIBYTE - 5))
    assert at.carrier.congested


async def shutting(at: Stand) -> None:
    await stuck(at)
    at.carrier.shut()
    assert at.carrier.state is State.SHUTTING


async def lingering(at: Stand) -> None:
    await settled(at)
    at.carrier.shut()
    assert at.carrier.state is State.LINGERING


@pytest.mark.parametrize("state", [in_handshake, settled, stuck, shutting, lingering])
async def test_reset(certificates: Path | None, state: Callable[[Stand], Awaitable[None]]) -> None:
    async with stand(certificates, send_buffer=20_000) as at:
        await state(at)
        ours = at.carrier.state in (State.SHUTTING, State.LINGERING)
        reset(at.peer.sock)
        ending = await at.closed()
        assert "broke: " in ending or (ours and ending == "None")
        at.carrier.flush()
        at.carrier.shut()
        at.carrier.tick(clock() + 1000)
        assert len(at.owner.ends) == 1


@pytest.mark.parametrize("state", [in_handshake, settled, stuck, shutting, lingering])
async def test_aborted(certificates: Path | None, state: Callable[[Stand], Awaitable[None]]) -> None:
    async with stand(certificates, send_buffer=20_000) as at:
        await state(at)
        at.carrier.abort(TransportError("enough"))
        at.carrier.abort(TransportError("ignored"))
        assert at.owner.end in ("enough", "None")
        at.carrier.flush()
        at.carrier.shut()


# A socket that takes little.


@pytest.mark.parametrize("send_buffer", [1, 5_000, 20_000])
async def test_partial_writes(certificates: Path | None, send_buffer: int) -> None:
    """Every byte leaves, in order; room is made once, when all has left."""
    async with stand(certificates, send_buffer=send_buffer) as at:
        await at.peer.start()
        await at.call()
        content = noise(600_000)
        at.say(content)
        assert at.carrier.congested
        assert at.owner.rooms == 0
        received = bytearray()
        while len(received) < len(message(content)):
            frame = await at.peer.until(lambda frame: frame.kind == Kind.DATA)
            received += frame.payload
        assert received == message(content)
        assert (at.owner.rooms, at.carrier.congested) == (1, False)


@pytest.mark.parametrize("send_buffer", [1, 5_000, 20_000])
async def test_end_after_partial_writes(certificates: Path | None, send_buffer: int) -> None:
    """Including TLS's close_notify, for which there is no room at first."""
    async with stand(certificates, send_buffer=send_buffer) as at:
        await at.peer.start()
        await at.call()
        at.say(noise(600_000))
        at.carrier.shut()
        heard = await at.peer.to_the_end()
        assert b"".join(frame.payload for frame in heard if frame.kind == Kind.DATA) == message(
            noise(600_000)
        )
        assert heard[-1].kind == Kind.GOAWAY
        assert at.peer.ending == ("close_notify" if certificates else "fin")
        at.peer.close()
        assert await at.closed() == "None"


async def test_close_notify_that_does_not_fit(pki: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The socket takes all of what was said, and then nothing."""
    async with stand(pki) as at:
        await at.peer.start()
        full = {"is": False}
        send = at.carrier._send

        def sending(octets: memoryview) -> int:
            if full["is"]:
                full["is"] = False
                return 0
            full["is"] = True
            return send(octets)

        monkeypatch.setattr(at.carrier, "_send", sending)
        at.carrier.shut()
        assert await at.peer.goaway() is Error.NO_ERROR
        assert at.peer.ending == "close_notify"


async def test_answers_wait_for_room(certificates: Path | None) -> None:
    """What the peer makes us say while the socket is full follows when it is not."""
    async with stand(certificates, send_buffer=5_000) as at:
        await at.peer.start()
        await at.call()
        at.say(noise(300_000))
        await at.peer.send(*[ping(bytes([number]) * 8) for number in range(20)])
        acks: list[bytes] = []
        while len(acks) < 20:
            frame = await at.peer.until(lambda frame: frame.kind == Kind.PING)
            acks.append(frame.payload)
        assert acks == [bytes([number]) * 8 for number in range(20)]


async def test_tls_that_stops_in_the_middle(pki: Path) -> None:
    """Of a record: nothing is told of it, and its rest is waited for."""
    async with stand(pki) as at:
        await at.peer.start()
        await at.call()
        tls = at.peer._tls
        assert isinstance(tls, ssl.SSLObject)
        tls.write(data(1, message(b"in two halves")))
        sealed = at.peer._outgoing.read()
        told = len(at.owner.events)
        loop = asyncio.get_running_loop()
        for byte in sealed[:-1]:
            await loop.sock_sendall(at.peer.sock, bytes([byte]))
            await asyncio.sleep(0)
        assert len(at.owner.events) == told
        await loop.sock_sendall(at.peer.sock, sealed[-1:])
        await until(lambda: at.owner.events[told:] == [MessageReceived(1, b"in two halves")])
