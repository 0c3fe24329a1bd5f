"""The admin port: over HTTP, whether a role lives, whether it works, and what it carries.

    GET /healthz    200 as long as the event loop turns
    GET /readyz     200 while the role does its work, else 503 and its state
    GET /status     the same and more, as JSON

It is for the host's own operator and monitoring: nothing can be changed by it, nobody is asked
who he is, and so it belongs on loopback or on a Unix socket. Importing this costs 13 MB and 0.3 s, so
``admin_door.py`` does it for the first visitor.
"""

from __future__ import annotations

import asyncio
import json
import logging
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Final

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from tunneler.observability.rendering import plain

MAX_VISITORS: Final = 32
"""Connections at once; one more is closed unheard."""
PATIENCE_SECONDS: Final = 10.0
"""For a request to arrive, on a connection that is new or has had its answer."""
CLOSING_SECONDS: Final = 1.0
"""For answers under way, when the port closes."""
MAX_LINE: Final = 2048
"""Bytes of a line of a request; of lines there are at most 128, which is aiohttp's own limit."""

READY: Final = "ready"
"""The one state in which a role does its work."""

Status = Mapping[str, object]
"""What a role says of itself. Has "state"; the rest is shown as it is."""

HEADERS: Final = {"Cache-Control": "no-store", "Server": "tunneler"}
READING: Final = frozenset({"GET", "HEAD"})


@asynccontextmanager
async def admin_port(listening: Sequence[socket.socket], status: Callable[[], Status]) -> AsyncIterator[None]:
    """Answer while the context is open.

    Args:
        listening: sockets to answer at, TCP or Unix; they are closed at the end.
        status: asked at each request.
    """
    visitors = web.Server(
        _answerer(status),
        logger=_quiet_logger(),
        access_log=None,
        keepalive_timeout=PATIENCE_SECONDS,
        lingering_time=0,  # nobody has a body to send
        max_line_size=MAX_LINE,
        max_field_size=MAX_LINE,
    )

    def admit() -> asyncio.Protocol:
        return visitors() if len(visitors.connections) < MAX_VISITORS else _TurnedAway()

    loop = asyncio.get_running_loop()
    servers = [
        await loop.create_unix_server(admit, sock=sock)
        if sock.family == socket.AF_UNIX
        else await loop.create_server(admit, sock=sock)
        for sock in listening
    ]
    try:
        yield
    finally:
        for server in servers:
            server.close()
        await visitors.shutdown(CLOSING_SECONDS)


def _answerer(status: Callable[[], Status]) -> Callable[[web.BaseRequest], Awaitable[web.Response]]:
    async def answer(request: web.BaseRequest) -> web.Response:
        if request.method not in READING:
            refusal = _text("this port only tells", 405)
            refusal.headers["Allow"] = ", ".join(sorted(READING))
            return refusal
        if request.path not in PAGES:
            return _text("no such page; there are " + ", ".join(PAGES), 404)
        return PAGES[request.path](status)

    return answer


def _health(status: Callable[[], Status]) -> web.Response:
    return _text("alive")


def _readiness(status: Callable[[], Status]) -> web.Response:
    state = str(status()["state"])
    return _text(state, 200 if state == READY else 503)


def _report(status: Callable[[], Status]) -> web.Response:
    text = json.dumps(status(), indent=2, default=plain) + "\n"
    return web.Response(text=text, content_type="application/json", headers=HEADERS)


PAGES: Final = {"/healthz": _health, "/readyz": _readiness, "/status": _report}


def _text(words: str, status: int = 200) -> web.Response:
    return web.Response(text=f"{words}\n", status=status, headers=HEADERS)


class _TurnedAway(asyncio.Protocol):
    """One visitor too many."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport.close()


def _quiet_logger() -> logging.Logger:
    """Logs our own faults, but not what strangers send instead of HTTP."""
    logger = logging.getLogger("aiohttp.server")

    def is_ours(record: logging.LogRecord) -> bool:
        return not (record.exc_info and isinstance(record.exc_info[1], HttpProcessingError))

    logger.filters = [is_ours]
    return logger
