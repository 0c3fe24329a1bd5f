"""What gRPC's C core says on standard error, as events.

A peer whose TLS handshake fails never reaches Python: the only trace is a line that the core
writes to file descriptor 2. While :func:`core_messages` is open that descriptor is a pipe,
read by the event loop; the core's lines go to a callback, and whatever else is written there
(a traceback, say) goes on to where standard error was.
"""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Final

_CORE_LINE: Final = re.compile(rb"[IWEF]\d{4} \d\d:\d\d:\d\d\.\d+ +\d+ [\w.]+:\d+\] (.*)")
"""Abseil's format: abseil-cpp, absl/log/internal/log_format.cc."""

_HANDSHAKE: Final = re.compile(r"Handshake failed with error \w+: (?:error:\w+:)?(.*)")
_READ_BYTES: Final = 65536
_STDERR: Final = 2

Report = Callable[[str, str], None]
"""Given the name of an event and what the core said."""


@contextmanager
def core_messages(report: Report) -> Iterator[None]:
    """Report the core's messages until the context is left."""
    reader, writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    # A full pipe loses messages; a blocking one would stop the core's threads, or our own.
    original = os.dup(_STDERR)
    os.dup2(writer, _STDERR, inheritable=False)
    os.close(writer)
    tap = _Tap(reader, original, report)
    loop = asyncio.get_running_loop()
    loop.add_reader(reader, tap.read)
    try:
        yield
    finally:
        loop.remove_reader(reader)
        os.dup2(original, _STDERR)
        tap.read_rest()
        os.close(reader)
        os.close(original)


class _Tap:
    def __init__(self, reader: int, original: int, report: Report) -> None:
        self._reader = reader
        self._original = original
        self._report = report
        self._rest = b""

    def read(self) -> None:
        with suppress(BlockingIOError):
            self._take(os.read(self._reader, _READ_BYTES))

    def read_rest(self) -> None:
        """Take what is left, now that nobody writes any more."""
        with suppress(BlockingIOError):  # somebody holds the writing end still
            while rest := os.read(self._reader, _READ_BYTES):
                self._take(rest)
        if self._rest:
            self._sort(self._rest)

    def _take(self, written: bytes) -> None:
        *lines, self._rest = (self._rest + written).split(b"\n")
        for line in lines:
            self._sort(line)

    def _sort(self, line: bytes) -> None:
        core = _CORE_LINE.fullmatch(line)
        if core is None:
            with suppress(OSError):
                os.write(self._original, line + b"\n")
            return
        message = core[1].decode("utf-8", "replace")
        handshake = _HANDSHAKE.match(message)
        if handshake:
            self._report("handshake_failed", handshake[1])
        else:
            self._report("grpc_message", message)
