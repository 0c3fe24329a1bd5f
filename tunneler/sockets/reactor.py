"""Readiness of sockets: one epoll set, nested in the event loop.

asyncio's ``add_reader`` cannot watch a socket for failure alone, and a relay must: a reset
that arrives while reading is paused has to reach the other end. epoll reports EPOLLERR and
EPOLLHUP whatever else was asked for (epoll_ctl(2)), so a mask of 0 is a useful one here.
Nesting costs one more system call a turn, for all sockets together.

A turn ends with what its events asked for by :meth:`Reactor.at_turn_end`: what is to leave by
a link leaves once a turn, however many sockets had something to send.
"""

from __future__ import annotations

import asyncio
import select
from collections.abc import Callable
from typing import Self

READ = select.EPOLLIN
WRITE = select.EPOLLOUT
FAILURE = select.EPOLLERR | select.EPOLLHUP

EVENTS_PER_TURN = 256
"""Sockets served before the event loop gets its turn (links, timers)."""

Ready = Callable[[int], None]
"""Called with the epoll events of a socket; must not block."""


class Reactor:
    """Calls back when sockets are ready, from the event loop that was running when it was opened.

    A context manager: it is open inside.
    """

    _epoll: select.epoll
    _loop: asyncio.AbstractEventLoop

    def __init__(self) -> None:
        self._ready: dict[int, Ready] = {}
        self._at_end: list[Callable[[], None]] = []
        self._in_turn = False
        self._gone: set[int] = set()

    def __len__(self) -> int:
        return len(self._ready)

    def register(self, fd: int, mask: int, ready: Ready) -> None:
        self._epoll.register(fd, mask)
        self._ready[fd] = ready

    def modify(self, fd: int, mask: int) -> None:
        self._epoll.modify(fd, mask)

    def unregister(self, fd: int) -> None:
        """Stop watching a socket that stays open."""
        self.forget(fd)
        self._epoll.unregister(fd)

    def forget(self, fd: int) -> None:
        """Stop watching a socket that is closed next, which is all that the kernel needs (epoll(7)).

        Before it is closed, or its number may already be another's.
        """
        del self._ready[fd]
        self._gone.add(fd)

    def at_turn_end(self, callback: Callable[[], None]) -> None:
        """Call back when the events of this turn have been served; outside a turn, as soon as possible."""
        if not self._at_end and not self._in_turn:
            self._loop.call_soon(self._end_turn)
        self._at_end.append(callback)

    def __enter__(self) -> Self:
        self.open()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def open(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._epoll = select.epoll()
        self._loop.add_reader(self._epoll.fileno(), self._turn)

    def close(self) -> None:
        """Stop; whatever was registered is to be unregistered before."""
        self._loop.remove_reader(self._epoll.fileno())
        self._epoll.close()
        self._ready.clear()

    def _turn(self) -> None:
        self._in_turn = True
        ready, gone = self._ready, self._gone
        gone.clear()
        try:
            for fd, events in self._epoll.poll(0, EVENTS_PER_TURN):
                # An earlier callback of this turn may have closed this socket, and its number
                # may be a new one's.
                callback = ready.get(fd)
                if callback is not None and fd not in gone:
                    callback(events)
            self._end_turn()
        finally:
            self._in_turn = False

    def _end_turn(self) -> None:
        """Serve what was asked for, and what that asks for in its turn."""
        while self._at_end:
            callbacks, self._at_end = self._at_end, []
            for callback in callbacks:
                callback()
