"""Applications on the hosts of a lab, for tests that look at a connection more closely than curl does.

A socket belongs to the network namespace in which it was made, whoever uses it. So a test can
hold both ends of a connection that goes through the whole path.
"""

from __future__ import annotations

import ctypes
import errno
import itertools
import os
import select
import socket
import struct
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from testbed import Host, wait_until
from testbed.namespaces import NAMESPACE_DIRECTORY
from testbed.suite import TARGET

CLONE_NEWNET = 0x40000000
"""sched.h; Python has os.setns only since 3.12."""
TIMEOUT = 20.0
"""Seconds that a socket of a test blocks at most."""
WHO_PORT = 7777

_libc = ctypes.CDLL(None, use_errno=True)


@contextmanager
def inside(host: Host) -> Iterator[None]:
    """Put this thread into the host's network: sockets made now belong there."""
    with (
        Path("/proc/thread-self/ns/net").open("rb") as here,
        (NAMESPACE_DIRECTORY / host.namespace).open("rb") as there,
    ):
        _set_namespace(there.fileno())
        try:
            yield
        finally:
            _set_namespace(here.fileno())


def _set_namespace(descriptor: int) -> None:
    if _libc.setns(descriptor, CLONE_NEWNET) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def tcp_socket(host: Host, family: int = socket.AF_INET) -> socket.socket:
    """A socket of that host, with a timeout."""
    with inside(host):
        sock = socket.socket(family, socket.SOCK_STREAM)
    sock.settimeout(TIMEOUT)
    return sock


def connect(host: Host, port: int, address: str = TARGET) -> socket.socket:
    """Connect from a host."""
    sock = tcp_socket(host, _family(address))
    try:
        sock.connect((address, port))
    except OSError:
        sock.close()
        raise
    return sock


def listen(host: Host, port: int = 0, address: str = "0.0.0.0") -> socket.socket:
    """Listen on a host; its port is the kernel's choice unless given."""
    sock = tcp_socket(host, _family(address))
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.bind((address, port))
    sock.listen(4096)
    return sock


def _family(address: str) -> int:
    return socket.AF_INET6 if ":" in address else socket.AF_INET


@dataclass
class Pair:
    """Both ends of one connection through the tunnel: on the client, and on the target."""

    application: socket.socket
    target: socket.socket

    @classmethod
    def open(cls, client: Host, target: Host, address: str = TARGET) -> Pair:
        with listen(target) as listener:
            application = connect(client, listener.getsockname()[1], address)
            try:
                far, _ = listener.accept()
            except BaseException:
                application.close()
                raise
        far.settimeout(TIMEOUT)
        return cls(application, far)

    def close(self) -> None:
        self.application.close()
        self.target.close()

    def __enter__(self) -> Pair:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def receive_exactly(sock: socket.socket, size: int) -> bytes:
    """That many bytes; EOFError if fewer come."""
    received = bytearray()
    while len(received) < size:
        piece = sock.recv(min(1 << 20, size - len(received)))
        if not piece:
            raise EOFError(f"{len(received)} of {size} bytes came")
        received += piece
    return bytes(received)


def receive_all(sock: socket.socket) -> bytes:
    """What comes until the end of the stream."""
    received = bytearray()
    while piece := sock.recv(1 << 20):
        received += piece
    return bytes(received)


def reset(sock: socket.socket) -> None:
    """Close with a RST instead of a FIN (socket(7), SO_LINGER)."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


@dataclass(frozen=True, slots=True)
class Outcome:
    """How an attempt to talk to somebody ended, and after how many seconds.

    ``result`` is the name of an errno, ``EOF``, or what was received.
    """

    result: str
    seconds: float


def attempt(host: Host, port: int, address: str = TARGET) -> Outcome:
    """Connect, and wait for a first byte.

    The client accepts a captured connection before anybody has dialled the target, so that a
    failure may reach the application in connect(2) or in the first recv(2).
    """
    started = time.monotonic()
    try:
        with connect(host, port, address) as sock:
            result = sock.recv(100).decode() or "EOF"
    except OSError as error:
        result = errno.errorcode.get(error.errno or 0, type(error).__name__)
    return Outcome(result, time.monotonic() - started)


def wait_for_path(client: Host, target: Host, deadline: float, address: str = TARGET) -> float:
    """Try until a connection goes through; seconds that it took.

    Raises:
        TimeoutError: not within ``deadline`` seconds.
    """
    started = time.monotonic()
    with listen(target) as listener:
        port = listener.getsockname()[1]
        wait_until(lambda: _reaches(client, port, address, listener), deadline, f"the path to {address}")
    return time.monotonic() - started


def _reaches(client: Host, port: int, address: str, listener: socket.socket) -> bool:
    try:
        with connect(client, port, address) as application:
            arrived, _, _ = select.select([listener, application], [], [], 1.0)
            if listener not in arrived:
                return False
            listener.accept()[0].close()
            return True
    except OSError:
        return False


class Download:
    """A target that sends for as long as the test wants, and an application that receives it all."""

    def __init__(self, pair: Pair) -> None:
        self._pair = pair
        self._finish = threading.Event()
        self._sent, self._received = sha256(), sha256()
        self._sent_bytes = self._received_bytes = 0
        self._pool = ThreadPoolExecutor(2)
        self._tasks = [self._pool.submit(self._send), self._pool.submit(self._receive)]

    def _send(self) -> None:
        for number in itertools.count():
            if self._finish.is_set():
                break
            block = number.to_bytes(8, "big") * 2048
            self._pair.target.sendall(block)
            self._sent.update(block)
            self._sent_bytes += len(block)
            time.sleep(0.001)  # a steady stream, not a load test
        self._pair.target.shutdown(socket.SHUT_WR)

    def _receive(self) -> None:
        while piece := self._pair.application.recv(1 << 16):
            self._received.update(piece)
            self._received_bytes += len(piece)
        self._pair.application.close()

    @property
    def received_bytes(self) -> int:
        return self._received_bytes

    def advance(self, deadline: float = TIMEOUT) -> None:
        """Wait until more has come."""
        before = self._received_bytes
        wait_until(lambda: self._received_bytes > before, deadline, "the download goes on")

    def finish(self) -> None:
        """Let the target finish; what was received must be what was sent.

        Raises:
            OSError: the connection broke.
        """
        self._finish.set()
        with self._pool:
            for task in self._tasks:
                task.result(TIMEOUT)
        assert self._received_bytes == self._sent_bytes
        assert self._received.digest() == self._sent.digest()

    def __enter__(self) -> Download:
        return self

    def __exit__(self, *_: object) -> None:
        self._finish.set()
        self._pair.close()
        self._pool.shutdown()


def who_is_reached(client: Host, address: str, *hosts: Host) -> str:
    """Where a connection to ``address`` arrives: ``host at address``, or ``nobody``."""
    listeners = {listen(host, WHO_PORT): host.name for host in hosts}
    try:
        with connect(client, WHO_PORT, address) as application:
            arrived, _, _ = select.select([*listeners, application], [], [], TIMEOUT)
            for listener in arrived:
                if listener in listeners:
                    accepted, _ = listener.accept()
                    with accepted:
                        return f"{listeners[listener]} at {accepted.getsockname()[0]}"
            return "nobody"
    except ConnectionResetError:
        return "nobody"
    finally:
        for listener in listeners:
            listener.close()
