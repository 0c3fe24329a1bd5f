"""Both ends of many idle connections; a program of its own, on nothing but the standard library.

::

    holder.py accept PORT               greet every connection with one byte, and keep it
    holder.py dial ADDRESS PORT COUNT   open COUNT, each held only once its greeting has come

Each says on stdout how far it is, one line for each step, and ends by SIGTERM; the dialling
program closes its connections first. One that ends while it is held ends that program too.
"""

from __future__ import annotations

import resource
import select
import signal
import socket
import sys
from collections.abc import Iterator
from types import FrameType

GREETING = b"!"
BACKLOG = 4096
AT_ONCE = 64
"""Connections on their way at the same time: few enough that no subject's backlog overflows."""
FAILURE_SHARE = 0.01
"""More failed attempts than this share of the connections, and the dialling program gives up."""
STEP = 1000
"""Connections between two lines that say how far it is."""
CLOSE_TIMEOUT = 10.0
"""Seconds that the other side may take to close a connection."""


def accept(port: int) -> None:
    """Say ``listening``, and ``empty`` whenever the last connection has gone."""
    listener = socket.create_server(("", port), backlog=BACKLOG)
    listener.setblocking(False)
    poller = select.epoll()
    poller.register(listener, select.EPOLLIN)
    held: dict[int, socket.socket] = {}
    print("listening", flush=True)
    while True:
        for descriptor, _ in poller.poll():
            if descriptor == listener.fileno():
                for connection in _accepted(listener):
                    connection.send(GREETING)
                    held[connection.fileno()] = connection
                    poller.register(connection, select.EPOLLIN)
            else:
                # Whoever is held says nothing: readable means ended.
                held.pop(descriptor).close()
                if not held:
                    print("empty", flush=True)


def _accepted(listener: socket.socket) -> Iterator[socket.socket]:
    while True:
        try:
            connection, _ = listener.accept()
        except BlockingIOError:
            return
        yield connection


def dial(address: str, port: int, count: int) -> int:
    """Say ``held COUNT``, and how many attempts failed, when all are; SIGTERM then closes them in turn.

    Returns the exit status: 1 if too many attempts failed, or one that was held has ended.
    """
    dialler = Dialler(address, port, count)
    signal.signal(signal.SIGTERM, _raise_termination)
    try:
        print(f"{dialler.run()}, after {dialler.greeted} of {count} were held", flush=True)
    except _TerminationError:
        dialler.close_all()
        return 0
    return 1


class _TerminationError(Exception):
    """SIGTERM came."""


def _raise_termination(number: int, frame: FrameType | None) -> None:
    signal.signal(number, signal.SIG_IGN)
    raise _TerminationError


class Dialler:
    def __init__(self, address: str, port: int, count: int) -> None:
        self._there = (address, port)
        self._count = count
        self._poller = select.epoll()
        self._waiting: dict[int, socket.socket] = {}
        self._held: dict[int, socket.socket] = {}
        self._failures = 0

    @property
    def greeted(self) -> int:
        return len(self._held)

    def run(self) -> str:
        """Open all, and watch over them for as long as none ends; why it did."""
        while True:
            while len(self._waiting) < min(AT_ONCE, self._count - self.greeted):
                self._start()
            for descriptor, _ in self._poller.poll():
                if descriptor in self._held:
                    return f"one that was held ended: {_reason_of_end(self._held[descriptor])}"
                connection = self._waiting.pop(descriptor)
                reason = _reason_of_end(connection)
                if reason is None:
                    self._held[descriptor] = connection
                    self._tell()
                    continue
                connection.close()
                self._failures += 1
                if self._failures > FAILURE_SHARE * self._count:
                    return f"{self._failures} attempts failed: {reason}"

    def close_all(self) -> None:
        """Few at a time, each until the other side has closed too: at once, 10,000 FINs would be lost."""
        remaining = list(self._held.values())
        while remaining:
            some, remaining = remaining[:AT_ONCE], remaining[AT_ONCE:]
            for connection in some:
                connection.shutdown(socket.SHUT_WR)
            for connection in some:
                connection.settimeout(CLOSE_TIMEOUT)
                _reason_of_end(connection)
                connection.close()

    def _tell(self) -> None:
        if self.greeted == self._count:
            print(f"held {self._count}, {self._failures} attempts failed", flush=True)
        elif self.greeted % STEP == 0:
            print(f"{self.greeted} so far", flush=True)

    def _start(self) -> None:
        connection = socket.socket()
        connection.setblocking(False)
        connection.connect_ex(self._there)  # how that ends, reading tells
        self._waiting[connection.fileno()] = connection
        self._poller.register(connection, select.EPOLLIN)


def _reason_of_end(connection: socket.socket) -> str | None:
    """Read; None if a greeting was there."""
    try:
        return None if connection.recv(2) == GREETING else "closed by the other side"
    except OSError as error:
        return error.strerror or str(error)


def main(arguments: list[str]) -> int:
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    if arguments[0] == "accept":
        accept(int(arguments[1]))
    return dial(arguments[1], int(arguments[2]), int(arguments[3]))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
