"""The admin port before anybody has knocked: what answers there is heavy, and waits for its first visitor.

Most roles are never asked, and those that are can let the first one wait for half a second. The
import happens in a thread, so that connections are carried meanwhile. An installation in which a part
of it is missing or damaged turns visitors away: what a role carries does not depend on it.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, suppress
from types import TracebackType
from typing import Final

from tunneler.observability.log import EventLog

PAUSE_SECONDS: Final = 1.0
"""After a visitor who could not be answered: reports of that are no flood."""
MAX_TURNED_AWAY: Final = 128
"""Connections at once; more of them knock again."""
DAMAGED: Final = (ImportError, SyntaxError, ValueError, EOFError, AttributeError, OSError)
"""What importing files raises that are missing, cut, full of zeros, of different versions, or unreadable."""

_log = EventLog("admin")

Status = Callable[[], Mapping[str, object]]
AdminPort = Callable[[Sequence[socket.socket], Status], AbstractAsyncContextManager[None]]


class AdminDoor:
    """Answers at the admin port while its context is open. What the block raises passes as it is.

    Args:
        listening: sockets to answer at, TCP or Unix; they are closed at the end.
        status: asked at each request.
    """

    _task: asyncio.Task[None]

    def __init__(self, listening: Sequence[socket.socket], status: Status) -> None:
        self._listening = listening
        self._status = status
        self._group = asyncio.TaskGroup()

    async def __aenter__(self) -> None:
        await self._group.__aenter__()
        self._task = self._group.create_task(self._serve())

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._task.cancel()
        # The group owns the task, and not the block, whose error it would wrap in one of its own.
        await self._group.__aexit__(None, None, None)
        for sock in self._listening:
            sock.close()

    async def _serve(self) -> None:
        admin_port = await self._import_for_a_visitor()
        async with admin_port(self._listening, self._status):
            await asyncio.Event().wait()  # for its end

    async def _import_for_a_visitor(self) -> AdminPort:
        while True:
            await self._knock()
            try:
                return await asyncio.to_thread(_import_admin_port)
            except DAMAGED as error:
                _log.error("admin_missing", detail=f"{type(error).__name__}: {error}")
            self._turn_away()
            await asyncio.sleep(PAUSE_SECONDS)

    async def _knock(self) -> None:
        """Wait for the first visitor, without letting him in."""
        loop, knocked = asyncio.get_running_loop(), asyncio.Event()
        for sock in self._listening:
            loop.add_reader(sock.fileno(), knocked.set)
        try:
            await knocked.wait()
        finally:
            for sock in self._listening:
                loop.remove_reader(sock.fileno())

    def _turn_away(self) -> None:
        """Close, unheard, the connections that wait."""
        for sock in self._listening:
            sock.setblocking(False)
            with suppress(OSError):  # BlockingIOError: there are no more
                for _ in range(MAX_TURNED_AWAY):
                    sock.accept()[0].close()


def _import_admin_port() -> AdminPort:
    from tunneler.observability.admin import admin_port

    return admin_port
