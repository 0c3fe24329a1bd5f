"""Keeps one link to one server: dials, carries, and dials again."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from tunneler.addresses import HostPort
from tunneler.engine.backoff import Backoff
from tunneler.engine.driver import clock
from tunneler.engine.link_end import LinkEnd
from tunneler.errors import Code, TransportError
from tunneler.observability.log import EventLog
from tunneler.transport.seam import BatchReceiver, BatchStream, Dialer

HOPELESS = frozenset({Code.REPLACED, Code.VERSION, Code.DENIED, Code.LIMITED})
"""Farewells after which an early new attempt would only meet the same answer."""

_log = EventLog("keeper")


class LinkKeeper:
    """One server of the configuration, and the link to it while there is one.

    Args:
        make_end: builds this role's end of a new link.
    """

    def __init__(
        self, server: HostPort, dialer: Dialer, backoff: Backoff, make_end: Callable[[BatchStream], LinkEnd]
    ) -> None:
        self.server = server
        self.end: LinkEnd | None = None
        self.failure: str | None = None
        """Why there is no link, if one was tried."""
        self._dialer = dialer
        self._backoff = backoff
        self._make_end = make_end
        self._farewell: Code | None = None
        self._stopping = False

    def set_backoff(self, backoff: Backoff) -> None:
        """For the pauses to come."""
        self._backoff = backoff

    def stop(self) -> None:
        """Do not dial again."""
        self._stopping = True

    async def run(self) -> None:
        """Keep the link until cancelled, or until it ends after :meth:`stop`."""
        while True:
            started = clock()
            self._farewell = None
            try:
                await self._dialer.run_link(self.server, self._attach)
            except TransportError as error:
                self.failure = str(error)
                _log.warning("link_failed", server=self.server, error=error)
            if self._stopping:
                return
            pause = self._pause(clock() - started)
            _log.info("link_retry", server=self.server, seconds=round(pause, 3))
            await asyncio.sleep(pause)

    def _pause(self, lasted: float) -> float:
        return self._backoff.refused() if self._farewell in HOPELESS else self._backoff.after(lasted)

    def greeted(self) -> None:
        """The link's end has been greeted by the server: it is of use."""
        self.failure = None

    def ended(self, code: Code, reason: str) -> None:
        """The link's end tells how it ended."""
        self._farewell = code
        self.failure = f"{self.server}: {reason}"
        self.end = None

    def _attach(self, stream: BatchStream) -> BatchReceiver:
        self.end = self._make_end(stream)
        return self.end.driver
