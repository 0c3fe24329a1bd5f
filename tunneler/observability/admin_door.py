"""The admin port before anybody has knocked: what answers there is heavy, and waits for its first visitor.

Most roles are never asked, and those that are can let the first one wait for half a second. The
import happens in a thread, so that connections are carried meanwhile.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from types import TracebackType


class AdminDoor:
    """Answers at the admin port while its context is open. What the block raises passes as it is.

    Args:
        listening: sockets to answer at, TCP or Unix; they are closed at the end.
        status: asked at each request.
    """

    _task: asyncio.Task[None]

    def __init__(
        self, listening: Sequence[socket.socket], status: Callable[[], Mapping[str, object]]
    ) -> None:
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
        await self._knock()
        admin = await asyncio.to_thread(import_module, "tunneler.observability.admin")
        async with admin.admin_port(self._listening, self._status):
            await asyncio.Event().wait()  # for its end

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
