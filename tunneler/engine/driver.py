"""Drives one link: bytes to frames to the core, and what the core queues back to bytes.

Frames that are queued during a turn of the event loop leave together at its end; while the
stream is congested they gather. There is no timer and no added delay.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Protocol

from tunneler.addresses import Role
from tunneler.errors import Code, LinkFault
from tunneler.protocol.events import LinkEvent, PeerLeft
from tunneler.protocol.frames import DATA_KINDS, Bye, ConnectionFrame, Frame
from tunneler.protocol.link import Link, Timing
from tunneler.protocol.window import Budget
from tunneler.transport.seam import BatchStream
from tunneler.wire.codec import decode, encode

TICK_SECONDS = 0.25
"""How often deadlines are looked at: heartbeats, dials, idle connections."""

BATCHES_PER_TURN = 4
"""Batches handed over before others have their turn; a stream may take more than one."""

clock = time.monotonic
"""The one clock of the engine, in seconds; the core is only ever told what it says."""


class LinkHandler(Protocol):
    """What a role does about one link."""

    def frame_received(self, frame: ConnectionFrame, now: float) -> None:
        """Raises LinkFault when the link must end."""
        ...

    def link_event(self, event: LinkEvent, now: float) -> None:
        """Raises LinkFault when the link must end."""
        ...

    def batch_sent(self) -> None:
        """Frames have left the outbox."""
        ...

    def link_ended(self, code: Code, reason: str) -> None:
        """The link is of no more use. Called exactly once, and last."""
        ...


class LinkDriver:
    """See :class:`tunneler.transport.seam.BatchReceiver`.

    Args:
        defer: calls back when what goes on now is done; see :meth:`Reactor.at_turn_end`.
    """

    def __init__(
        self,
        stream: BatchStream,
        local: Role,
        instance: str,
        timing: Timing,
        defer: Callable[[Callable[[], None]], object],
        budget: Budget | None = None,
    ) -> None:
        self.stream = stream
        self._sealed = local is Role.SERVER
        self._defer = defer
        self._flush_scheduled = False
        self._handler: LinkHandler | None = None
        self.ended = False
        self.link = Link(
            local, stream.peer.identity.role, instance, timing, clock(), wake=self._wake, budget=budget
        )

    def start(self, handler: LinkHandler) -> None:
        """Begin to act on what arrives; the handler exists only after the driver does."""
        self._handler = handler

    # From the transport.

    def batch_received(self, batch: bytes) -> None:
        now = clock()
        link = self.link
        link.heard(now)
        try:
            for frame in decode(batch, sealed=self._sealed):
                handler = self._handler
                if handler is None:
                    return
                if isinstance(frame, DATA_KINDS) and link.peer_instance is not None:
                    handler.frame_received(frame, now)  # what there is to say of nearly all frames
                else:
                    self._dispatch(handler, frame, now)
        except LinkFault as fault:
            self.close(fault.code, str(fault))

    def _dispatch(self, handler: LinkHandler, frame: Frame, now: float) -> None:
        item = self.link.receive(frame)
        if item is frame:  # of a connection, as it came
            handler.frame_received(item, now)
        elif item is not None:
            handler.link_event(item, now)  # type: ignore[arg-type]
            if type(item) is PeerLeft:
                self._end(item.code, "the peer closed the link")

    def room_made(self) -> None:
        self._flush()

    def stream_closed(self, error: Exception | None) -> None:
        self._end(Code.LINK_LOST, str(error) if error else "the peer ended the stream")

    # From the role.

    def tick(self) -> None:
        """Let time pass: heartbeats, and the death of a silent peer.

        What falls due before the next tick is done now: a deadline is kept, not passed.
        """
        if self.ended:
            return
        try:
            self.link.tick(clock() + TICK_SECONDS)
        except LinkFault as fault:
            self.close(fault.code, str(fault))

    def close(self, code: Code, reason: str) -> None:
        """End the link, and tell the peer why."""
        if self.ended:
            return
        self._end(code, reason, farewell=Bye(code))

    # Inside.

    def _end(self, code: Code, reason: str, farewell: Bye | None = None) -> None:
        if self.ended:
            return
        self.ended = True
        last = encode((*self.link.take(clock()), farewell)) if farewell is not None else b""
        handler, self._handler = self._handler, None
        if handler is not None:
            handler.link_ended(code, reason)
        self.stream.close(last)

    def _wake(self) -> None:
        if not self._flush_scheduled:
            self._flush_scheduled = True
            self._defer(self._flush)

    def _flush(self) -> None:
        """Hand over what waits, as far as the stream takes it; after some batches others have their turn."""
        self._flush_scheduled = False
        link, stream = self.link, self.stream
        for _ in range(BATCHES_PER_TURN):
            if self.ended or stream.congested or not link.outbox.size:
                return
            stream.send(encode(link.take(clock())))
            if self._handler is not None:
                self._handler.batch_sent()
        if link.outbox.size:
            self._wake()
