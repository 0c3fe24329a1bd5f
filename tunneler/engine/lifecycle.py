"""A role's life as others follow it: when it works, what it does, and when it is to stop.

    role  →  outside    ready(), and a line that describes what goes on
    outside  →  role    the events ``stop`` and ``reload``

Outside is the service manager, if one started the role. While it is followed, the manager has the
line kept up to date, gets its sign of life from the event loop (one that is stuck is restarted),
and is asked for patience as long as the role starts or drains.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

from tunneler.errors import ConfigError
from tunneler.systemd.notify import Notifier

STATUS_SECONDS: Final = 1.0
"""The line is looked at this often, and sent when it has changed."""

PATIENCE_SECONDS: Final = 10.0
"""The manager is to wait for this long while the role starts or drains; asked for with every look at the
line, so that only a stuck one uses it up."""


Reread = Callable[[], Awaitable[Any]]
"""Reads the configuration again, as :mod:`tunneler.config.plain` makes it.

Raises:
    TunnelerError: it cannot be used.
"""


async def _nothing_to_reread() -> Any:
    raise ConfigError("", "", "this program was not started from a configuration")


class Lifecycle:
    """Of one role in one process.

    Args:
        notifier: speaks to the service manager; None: there is none.
        reread: how to read the configuration again; None: there is none.
    """

    def __init__(self, notifier: Notifier | None = None, reread: Reread | None = None) -> None:
        self.stop = asyncio.Event()
        """Set: drain, and end."""
        self.reload = asyncio.Event()
        """Set: the configuration may have changed."""
        self.reread = reread or _nothing_to_reread
        self.notifier = notifier or Notifier(None, None, lambda *_, **__: None)
        self.is_ready = False
        self.trouble: str | None = None
        """What is wrong beside the work, and stays so: a configuration that was refused."""
        self._describe: Callable[[], str] = lambda: "starting"
        self._said = ""
        self._timers: dict[Callable[[], None], asyncio.TimerHandle] = {}

    # From the role.

    def describe_by(self, describe: Callable[[], str]) -> None:
        """Args: describe: what the role does, in one line; asked often."""
        self._describe = describe

    def ready(self) -> None:
        """The role does its work; what follows the first call is no news."""
        if not self.is_ready and not self.stop.is_set():
            self.is_ready = True
            self._said = self._line()
            self.notifier.ready(self._said)

    def state(self, *, works: bool) -> str:
        """Where it is in its life, in one word.

        Args:
            works: whether the role could do its work at this moment.
        """
        if self.stop.is_set():
            return "draining"
        if not self.is_ready:
            return "starting"
        return "ready" if works else "waiting"

    @contextmanager
    def reloading(self) -> Iterator[None]:
        """A new configuration is being read, and put in force.

        A role that is not ready yet does not become so by it, and one that was asked to stop
        meanwhile says no more of it.
        """
        announced = self.is_ready and not self.stop.is_set()
        if announced:
            self.notifier.reloading()
        yield
        if announced and not self.stop.is_set():
            self._said = self._line()
            self.notifier.ready(self._said)

    # From outside.

    def request_stop(self) -> None:
        """Have the role drain, and end."""
        self.stop.set()
        self._said = "stopping"
        self.notifier.stopping(self._said)

    @contextmanager
    def followed(self) -> Iterator[None]:
        """Keep the service manager informed, from the running loop, while the context is open."""
        if self.notifier.active:
            self._every(STATUS_SECONDS, self._inform)
            if self.notifier.watchdog_seconds is not None:
                self._every(self.notifier.watchdog_seconds / 2, self.notifier.alive)
        try:
            yield
        finally:
            for timer in self._timers.values():
                timer.cancel()

    def _every(self, seconds: float, act: Callable[[], None]) -> None:
        """Act now, and again and again."""

        def turn() -> None:
            self._timers[act] = asyncio.get_running_loop().call_later(seconds, turn)
            act()

        turn()

    def _line(self) -> str:
        return "; ".join(filter(None, (self._describe(), self.trouble)))

    def _inform(self) -> None:
        self.notifier.flush()
        if not self.is_ready or self.stop.is_set():
            self.notifier.extend_timeout(PATIENCE_SECONDS)
        line = self._line()
        if line != self._said:
            self._said = line
            self.notifier.status(line)


def counted(number: int, what: str) -> str:
    """``1 link``, ``2 links``."""
    return f"{number} {what}" if number == 1 else f"{number} {what}s"
