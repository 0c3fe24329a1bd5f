"""How often the grpcio listener lets a peer ask whether it is alive: HTTP/2 spoken by hand."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.unit.transport.harness import never_attached, plaintext_grpcio
from tunneler.addresses import HostPort
from tunneler.transport.grpcio.settings import PING_MILLISECONDS

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
SETTINGS, PING, GOAWAY = 4, 6, 7
ACK = 1
ENHANCE_YOUR_CALM = 11


def frame(kind: int, payload: bytes = b"", flags: int = 0) -> bytes:
    """RFC 9113, section 4.1, on stream 0."""
    return struct.pack("!HBBBI", 0, len(payload), kind, flags, 0) + payload


class Peer:
    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._received = b""
        self.acks = 0
        sock.sendall(PREFACE + frame(SETTINGS))

    def ping(self) -> None:
        self._sock.sendall(frame(PING, bytes(8)))

    async def read(self, pings: int) -> int | None:
        """Read until so many PINGs are acknowledged; the code of a GOAWAY that comes before."""
        while self.acks < pings:
            high, low, kind, flags, _ = struct.unpack("!HBBBI", await self._read_exactly(9))
            payload = await self._read_exactly(high << 8 | low)
            if kind == GOAWAY:
                return int.from_bytes(payload[4:8])
            self.acks += kind == PING and flags == ACK
        return None

    async def _read_exactly(self, size: int) -> bytes:
        while len(self._received) < size:
            async with asyncio.timeout(10):
                received = await asyncio.get_running_loop().sock_recv(self._sock, 4096)
            assert received
            self._received += received
        taken, self._received = self._received[:size], self._received[size:]
        return taken


@contextmanager
def connected(address: HostPort) -> Iterator[Peer]:
    with socket.create_connection(address) as sock:
        sock.setblocking(False)
        yield Peer(sock)


@pytest.mark.parametrize("milliseconds", [PING_MILLISECONDS * 1.2, 5])
async def test_keepalive_is_not_a_flood(pki: Path, milliseconds: float) -> None:
    """A PING at a time, without any call: nobody's fault unless they come in quick succession."""
    transport = plaintext_grpcio(pki)
    async with transport.listener.serve(transport.address, never_attached):
        with connected(transport.address) as peer:
            verdict: int | None = None
            for number in range(1, 8):
                peer.ping()
                verdict = await peer.read(number)
                if verdict is not None:
                    break
                await asyncio.sleep(milliseconds / 1000)
        assert verdict == (None if milliseconds > PING_MILLISECONDS else ENHANCE_YOUR_CALM)
