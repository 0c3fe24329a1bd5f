"""What a service tells its manager of itself: sd_notify(3), sd_watchdog_enabled(3).

One datagram for each message, and no answer. Sending never blocks and never raises: a manager
that is too busy to take a message gets it later, and one that is gone is reported once.

libsystemd is not used for it: it blocks while the manager's queue is full, and an event loop
that is to say that it is alive must not.
"""

from __future__ import annotations

import array
import os
import socket
import time
from collections import deque
from collections.abc import Callable, MutableMapping
from contextlib import suppress
from typing import Final, Self

from tunneler.errors import ConfigError, TunnelerError

VARIABLES: Final = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID")

MAX_WAITING: Final = 16
"""Messages that the manager had no room for; more come together only while it does not run at all."""

SECOND: Final = 1_000_000
"""In microseconds, as the manager counts."""


class Notifier:
    """Speaks to the service manager, if there is one; says nothing to nobody otherwise.

    Args:
        address: a path, or the name of an abstract socket after an ``@``; None: there is no manager.
        watchdog_seconds: how long the manager waits for a sign of life; None: it expects none.
        report: told once, as an event and its fields, that the manager cannot be reached.

    Raises:
        ConfigError: neither a path nor the name of an abstract socket.
    """

    def __init__(
        self, address: str | None, watchdog_seconds: float | None, report: Callable[..., None]
    ) -> None:
        self.watchdog_seconds = watchdog_seconds
        self._report = report
        self._reported = False
        self._waiting: deque[bytes] = deque(maxlen=MAX_WAITING)
        self._address = address
        self._socket: socket.socket | None = None
        if address is None:
            return
        if address[:1] not in ("/", "@") or len(address) < 2:
            raise ConfigError(
                "NOTIFY_SOCKET", "", f"expected an absolute path, or @ and a name, not {address!r}"
            )
        if address.startswith("@"):
            self._address = "\0" + address[1:]  # unix(7)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)

    @classmethod
    def of_environment(
        cls, report: Callable[..., None], environment: MutableMapping[str, str] = os.environ
    ) -> Self:
        """As the manager announced itself; it is removed from the environment, for it is not for children.

        Raises:
            ConfigError: what it announced makes no sense.
        """
        address, microseconds, process = (environment.pop(name, None) for name in VARIABLES)
        return cls(address or None, _watchdog_seconds(microseconds, process), report)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, *_: object) -> None:
        """``systemctl status`` shows why a service could not go on."""
        if isinstance(error, TunnelerError):
            self.status(str(error))
        self.close()

    def close(self) -> None:
        """Say nothing more."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    @property
    def active(self) -> bool:
        """Whether there is anybody to speak to."""
        return self._socket is not None

    # What there is to say.

    def ready(self, status: str) -> None:
        """The service does its work; or does it with its new configuration, after :meth:`reloading`."""
        self._send(f"READY=1\nSTATUS={_line(status)}")

    def status(self, text: str) -> None:
        """What the service does, in one line for people; lost when the manager has no room for it."""
        self._send(f"STATUS={_line(text)}", keep=False)

    def reloading(self) -> None:
        """Configuration is being read; :meth:`ready` must follow."""
        # With Type=notify-reload (253), the manager tells by the time whether this answers its signal.
        now = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        self._send(f"RELOADING=1\nMONOTONIC_USEC={now}")

    def stopping(self, status: str) -> None:
        """The service begins to end."""
        self._send(f"STOPPING=1\nSTATUS={_line(status)}")

    def alive(self) -> None:
        """A sign of life, due twice in :attr:`watchdog_seconds`."""
        self._send("WATCHDOG=1", keep=False)

    def extend_timeout(self, seconds: float) -> None:
        """Starting or stopping goes on; the manager is to wait this long for the next message."""
        self._send(f"EXTEND_TIMEOUT_USEC={round(seconds * SECOND)}", keep=False)

    def flush(self) -> None:
        """Send what the manager had no room for."""
        while self._waiting and self._deliver(self._waiting[0]):
            self._waiting.popleft()

    async def barrier(self, seconds: float) -> bool:
        """Wait until the manager has acted on everything that was said before.

        Returns:
            False: it did not answer within that time, or could not be asked. True without a
            manager, too.
        """
        self.flush()
        if not self.active:
            return True
        if self._waiting:
            return False
        reader, writer = os.pipe()
        try:
            try:
                self._sendmsg(b"BARRIER=1", writer)
            except OSError:
                return False
            finally:
                os.close(writer)
            return await _hung_up(reader, seconds)
        finally:
            os.close(reader)

    # Inside.

    def _send(self, message: str, *, keep: bool = True) -> None:
        self.flush()
        content = message.encode("utf-8", "backslashreplace")
        if (self._waiting or not self._deliver(content)) and keep:
            self._waiting.append(content)

    def _deliver(self, message: bytes) -> bool:
        """Send one message now; return False when there is no room for it."""
        try:
            self._sendmsg(message)
        except BlockingIOError:
            return False
        except OSError as error:
            if not self._reported:
                self._reported = True
                self._report("notify_failed", error=error.strerror, hint="the service manager is not told")
        return True

    def _sendmsg(self, message: bytes, *descriptors: int) -> None:
        if self._socket is not None:
            rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors))
            passed = [rights] if descriptors else []
            self._socket.sendmsg([message], passed, socket.MSG_DONTWAIT, self._address)


def _watchdog_seconds(microseconds: str | None, process: str | None) -> float | None:
    """Raises ConfigError for what is no number; libsystemd answers EINVAL."""
    if not microseconds or (process and process != str(os.getpid())):
        return None
    if not microseconds.isascii() or not microseconds.isdigit() or not int(microseconds):
        raise ConfigError("WATCHDOG_USEC", "", f"expected a number of microseconds, not {microseconds!r}")
    return int(microseconds) / SECOND


def _line(text: str) -> str:
    return " ".join(text.splitlines())


async def _hung_up(reader: int, seconds: float) -> bool:
    """Wait until nobody holds the other end of a pipe."""
    import asyncio  # not every service has an event loop

    loop = asyncio.get_running_loop()
    closed = asyncio.Event()
    loop.add_reader(reader, closed.set)
    try:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await closed.wait()
        return closed.is_set()
    finally:
        loop.remove_reader(reader)
