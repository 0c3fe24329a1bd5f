"""An HTTP/2 client on a plain socket that says what a test says, and keeps what it hears.

It speaks cleartext HTTP/2 with prior knowledge (RFC 9113 section 3.3) or TLS (memory BIOs, so
that a test can stop in the middle of a handshake, or leave without close_notify). Nothing is
sent that the test did not ask for, but for what :meth:`RawPeer.start` says.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Self

from hpack import Decoder

from tests.http2.rawframes import PREFACE, SETTINGS_ACK, Error, Flag, Frame, Kind, ping, settings
from tunneler.addresses import HostPort

PATIENCE = 5.0
"""Seconds for anything that must come."""

READ_BYTES = 65_536
_HEAD_BYTES = 9


def tls_context(
    pki: Path,
    holder: str | None = "client",
    *,
    alpn: Iterable[str] = ("h2",),
    newest: ssl.TLSVersion | None = None,
) -> ssl.SSLContext:
    """A client's context; ``holder`` is whose certificate it shows, if any."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(pki / "ca" / "cert.pem")
    if holder is not None:
        context.load_cert_chain(pki / holder / "cert.pem", pki / holder / "key.pem")
    if newest is not None:
        context.maximum_version = newest
    context.set_alpn_protocols(list(alpn))
    return context


class RawPeer:
    """One connection. Use as a context manager: what is not closed in another way is closed at the end.

    Attributes:
        ending: how the listener ended the connection: ``"fin"``, ``"close_notify"``, ``"alert"``
            (of TLS) or ``"reset"``; empty while it has not.
        settings: what the listener declared in :meth:`start`.
        decoder: reads the listener's header blocks; refuses a table larger than we allow.
    """

    def __init__(self, sock: socket.socket, context: ssl.SSLContext | None = None) -> None:
        self.sock = sock
        self.ending = ""
        self.settings: dict[int, int] = {}
        self.decoder = Decoder()
        self.heard: list[Frame] = []
        self._loop = asyncio.get_running_loop()
        self._received = bytearray()
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._tls: ssl.SSLObject | None = None
        if context is not None:
            host = sock.getpeername()[0]
            self._tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname=host)

    @classmethod
    async def connect(
        cls, address: HostPort, context: ssl.SSLContext | None = None, *, receive_buffer: int = 0
    ) -> Self:
        """Make a TCP connection; nothing is sent yet, of TLS neither.

        Args:
            receive_buffer: bytes that the kernel may hold unread; 0 for as many as it likes.
        """
        sock = socket.socket(socket.AF_INET6 if ":" in address.host else socket.AF_INET)
        try:
            sock.setblocking(False)
            if receive_buffer:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            async with asyncio.timeout(PATIENCE):
                await asyncio.get_running_loop().sock_connect(sock, (address.host, address.port))
            return cls(sock, context)
        except BaseException:
            sock.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End at once: a reset, if anything was left unread."""
        self.sock.close()

    # Beginning.

    async def handshake(self) -> None:
        """TLS, if there is to be any.

        Raises:
            ssl.SSLError: it failed.
            ConnectionError: the listener left.
        """
        if self._tls is None:
            return
        async with asyncio.timeout(PATIENCE):
            while True:
                try:
                    self._tls.do_handshake()
                except ssl.SSLWantReadError:
                    await self._flush()
                    octets = await self._loop.sock_recv(self.sock, READ_BYTES)
                    if not octets:
                        raise ConnectionError("the listener left in the handshake") from None
                    self._incoming.write(octets)
                else:
                    break
            await self._flush()

    async def start(self, *declared: tuple[int, int]) -> None:
        """TLS, preface, SETTINGS of ours and theirs, acknowledged by both: then the wire is quiet."""
        await self.handshake()
        await self.send(PREFACE + settings(*declared))
        first = await self.receive()
        assert first is not None
        assert first.kind == Kind.SETTINGS, first  # section 3.4: the first frame
        assert not first.flags
        self.settings = declared_in(first)
        await self.send(SETTINGS_ACK)
        await self.until(lambda frame: frame.is_ack(Kind.SETTINGS))

    # Speaking and hearing.

    async def send(self, *octets: bytes) -> None:
        """Send as it is; returns when the kernel has it.

        Raises:
            ConnectionError: the listener has left.
        """
        if self._tls is None:
            await self._loop.sock_sendall(self.sock, b"".join(octets))
            return
        self._tls.write(b"".join(octets))
        await self._flush()

    async def receive(self, seconds: float = PATIENCE) -> Frame | None:
        """The next frame; None once the listener has ended the connection.

        Raises:
            TimeoutError: nothing came.
        """
        async with asyncio.timeout(seconds):
            while True:
                frame = self._cut()
                if frame is not None:
                    self.heard.append(frame)
                    return frame
                if self.ending:
                    return None
                await self._read()

    async def until(self, condition: Callable[[Frame], object], seconds: float = PATIENCE) -> Frame:
        """Read up to the first frame that meets a condition; it must come."""
        async with asyncio.timeout(seconds):
            while (frame := await self.receive(seconds)) is not None:
                if condition(frame):
                    return frame
        raise AssertionError(f"the connection ended ({self.ending}) after {self.heard[-5:]}")

    async def answers_ping(self, payload: bytes = b"in order") -> list[Frame]:
        """A round trip: all that came before the answer was caused by what we said before it."""
        start = len(self.heard)
        await self.send(ping(payload))
        await self.until(lambda frame: frame.is_ack(Kind.PING, payload))
        return self.heard[start:-1]

    async def to_the_end(self, seconds: float = PATIENCE) -> list[Frame]:
        """All frames until the listener has ended the connection."""
        start = len(self.heard)
        async with asyncio.timeout(seconds):
            while await self.receive(seconds) is not None:
                pass
        return self.heard[start:]

    async def goaway(self, seconds: float = PATIENCE) -> Error | None:
        """Read to the end of the connection; return the code of the last GOAWAY, if one came."""
        await self.to_the_end(seconds)
        codes = [frame.code for frame in self.heard if frame.kind == Kind.GOAWAY]
        return Error(codes[-1]) if codes else None

    # Below HTTP/2.

    async def shut_tls(self) -> None:
        """Send close_notify, and nothing after it."""
        assert self._tls is not None
        try:
            self._tls.unwrap()
        except ssl.SSLWantReadError:
            await self._flush()

    @property
    def tls_version(self) -> str | None:
        return self._tls.version() if self._tls else None

    async def _flush(self) -> None:
        if self._outgoing.pending:
            await self._loop.sock_sendall(self.sock, self._outgoing.read())

    async def _read(self) -> None:
        try:
            octets = await self._loop.sock_recv(self.sock, READ_BYTES)
        except ConnectionError:
            self.ending = "reset"
            return
        if self._tls is None:
            self._received += octets
        elif octets:
            self._incoming.write(octets)
            self._decrypt(self._tls)
        if not octets and not self.ending:
            self.ending = "fin"

    def _decrypt(self, tls: ssl.SSLObject) -> None:
        try:
            while plain := tls.read(READ_BYTES):
                self._received += plain
        except ssl.SSLWantReadError:
            return
        except ssl.SSLError:
            self.ending = "alert"
        else:
            self.ending = "close_notify"

    def _cut(self) -> Frame | None:
        received = self._received
        if len(received) < _HEAD_BYTES:
            return None
        end = _HEAD_BYTES + int.from_bytes(received[:3], "big")
        if len(received) < end:
            return None
        stream = int.from_bytes(received[5:_HEAD_BYTES], "big")
        frame = Frame(received[3], received[4], stream, bytes(received[_HEAD_BYTES:end]))
        del received[:end]
        return self._decoded(frame) if frame.kind == Kind.HEADERS else frame

    def _decoded(self, frame: Frame) -> Frame:
        """Every block is decoded, in the order of arrival, for the table is one."""
        assert frame.flags & Flag.END_HEADERS, "our listener never needs CONTINUATION"
        fields = self.decoder.decode(frame.payload)
        return frame._replace(fields=tuple((str(field[0]), str(field[1])) for field in fields))


def declared_in(frame: Frame) -> dict[int, int]:
    """The values of a SETTINGS frame."""
    return {
        int.from_bytes(frame.payload[at : at + 2], "big"): int.from_bytes(
            frame.payload[at + 2 : at + 6], "big"
        )
        for at in range(0, len(frame.payload), 6)
    }
