"""TLS between a socket's bytes and HTTP/2's, over memory BIOs; and its plaintext twin.

ciphertext in   →  receive(data), plaintext()
plaintext in    →  seal(buffers), which returns what is to be sent
"""

from __future__ import annotations

import ssl
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from typing import Final, Protocol

Buffer = bytes | memoryview

RECORD_BYTES: Final = 16 * 1024
"""Most plaintext in one TLS record: RFC 8446 section 5.1."""

_PLAINTEXT_BYTES: Final = 256 * 1024
"""Decrypted bytes handed on at once."""

_plaintext = memoryview(bytearray(_PLAINTEXT_BYTES))
"""One for all: everything runs on one thread, and what is in it is used up before it is filled again."""


class Channel(Protocol):
    """What a carrier needs of either."""

    @property
    def ready(self) -> bool:
        """Whether the handshake is over."""
        ...

    @property
    def ended(self) -> bool:
        """Whether the peer has said that nothing more will come."""
        ...

    def handshake(self) -> bool:
        """Go on with the handshake; return whether it is over. Raises ssl.SSLError."""
        ...

    def receive(self, data: memoryview) -> None:
        """Take bytes from the socket."""
        ...

    def plaintext(self) -> Iterator[memoryview]:
        """Yield what they say, each piece valid until the next is asked for. Raises ssl.SSLError."""
        ...

    def seal(self, buffers: Sequence[Buffer]) -> bytes:
        """Return the bytes to send for these, and for whatever TLS itself has to say."""
        ...

    def seal_end(self) -> bytes:
        """Return the bytes that say that nothing more will come."""
        ...

    @property
    def protocol(self) -> str | None:
        """What ALPN chose (RFC 7301)."""
        ...

    def peer_certificate(self) -> bytes | None:
        """The peer's certificate, DER."""
        ...


class TlsChannel:
    """See :class:`Channel`.

    Args:
        server_name: what the peer's certificate must be issued for; None on the listening side.
    """

    def __init__(self, context: ssl.SSLContext, server_name: str | None) -> None:
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._tls = context.wrap_bio(
            self._incoming, self._outgoing, server_side=server_name is None, server_hostname=server_name
        )
        # typeshed takes the buffer for a bytearray, and the answer for bytes.
        self._read: Callable[[int, memoryview], int] = self._tls.read  # type: ignore[assignment]
        self.ready = False
        self.ended = False

    def handshake(self) -> bool:
        try:
            self._tls.do_handshake()
        except ssl.SSLWantReadError:
            return False
        self.ready = True
        return True

    @property
    def protocol(self) -> str | None:
        return self._tls.selected_alpn_protocol()

    def receive(self, data: memoryview) -> None:
        self._incoming.write(data)

    def plaintext(self) -> Iterator[memoryview]:
        filled = 0
        try:
            while self._incoming.pending:
                if _PLAINTEXT_BYTES - filled < RECORD_BYTES:
                    yield _plaintext[:filled]
                    filled = 0
                length = self._read(_PLAINTEXT_BYTES - filled, _plaintext[filled:])
                if not length:
                    self.ended = True
                    break
                filled += length
        except ssl.SSLWantReadError:
            pass  # the rest of the record is still to come
        if filled:
            yield _plaintext[:filled]

    def seal(self, buffers: Sequence[Buffer]) -> bytes:
        if sum(map(len, buffers)) <= RECORD_BYTES:
            if buffers:
                self._tls.write(b"".join(buffers))
            return self._outgoing.read()
        for buffer in _joined(buffers):
            # One record at a time, however large the buffer: OpenSSL's partial writes.
            written = self._tls.write(buffer)
            while written < len(buffer):
                written += self._tls.write(memoryview(buffer)[written:])
        return self._outgoing.read()

    def seal_end(self) -> bytes:
        with suppress(ssl.SSLError):  # the peer's close_notify, which nobody waits for, has not come
            self._tls.unwrap()
        return self._outgoing.read()

    def peer_certificate(self) -> bytes | None:
        return self._tls.getpeercert(binary_form=True)


class PlainChannel:
    """See :class:`Channel`: no TLS, for loopback."""

    ready = True
    ended = False
    protocol = None

    def __init__(self) -> None:
        self._data = memoryview(b"")

    def handshake(self) -> bool:
        return True

    def receive(self, data: memoryview) -> None:
        self._data = data

    def plaintext(self) -> Iterator[memoryview]:
        data, self._data = self._data, memoryview(b"")
        if data:
            yield data

    def seal(self, buffers: Sequence[Buffer]) -> bytes:
        return b"".join(buffers)

    def seal_end(self) -> bytes:
        return b""

    def peer_certificate(self) -> bytes | None:
        return None


def _joined(buffers: Sequence[Buffer]) -> Iterator[Buffer]:
    """Buffers worth a record of their own as they are; small ones together with their neighbours."""
    small: list[Buffer] = []
    for buffer in buffers:
        if len(buffer) < RECORD_BYTES:
            small.append(buffer)
            continue
        if small:
            room = RECORD_BYTES - sum(map(len, small)) % RECORD_BYTES
            yield b"".join((*small, memoryview(buffer)[:room]))
            small.clear()
            buffer = memoryview(buffer)[room:]
        if buffer:
            yield buffer
    if small:
        yield b"".join(small)


def describe(error: ssl.SSLError) -> str:
    """What TLS complains about, in one line."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"the peer's certificate is not accepted: {error.verify_message}"
    reason = (error.reason or str(error)).replace("_", " ").lower()
    return f"TLS: {reason}"
