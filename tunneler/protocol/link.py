"""A link itself: greeting, liveness, and who may say what on it.

The first frame of each side is HELLO. After that any inbound batch proves life, a HEARTBEAT
goes out when nothing else did for a while, and a peer that is silent too long is dead.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from tunneler.addresses import Role
from tunneler.errors import Code, LinkFault
from tunneler.protocol.events import (
    LinkEvent,
    LinkOpened,
    PeerDraining,
    PeerLeft,
    RoutesAccepted,
    RoutesAnnounced,
)
from tunneler.protocol.frames import (
    PROTOCOL_VERSION,
    Bye,
    ConnectionFrame,
    Drain,
    Frame,
    Heartbeat,
    Hello,
    LinkFrame,
    Routes,
    RoutesResult,
    kind_of,
)
from tunneler.protocol.outbox import Outbox
from tunneler.protocol.window import Budget

_LINK_FRAMES = frozenset({Hello, Routes, RoutesResult, Heartbeat, Drain, Bye})


class Timing(NamedTuple):
    """Seconds: between heartbeats, until a silent peer is dead, and for HELLO to come."""

    heartbeat: float
    silence: float
    handshake: float


class Link:
    """This side's half of one link.

    Args:
        local, peer: the roles at its two ends; the peer's is the one its certificate shows.
        instance: our instance name, said in HELLO.
        wake: called when the outbox is no longer empty.
        budget: see :class:`Outbox`.
    """

    def __init__(
        self,
        local: Role,
        peer: Role,
        instance: str,
        timing: Timing,
        now: float,
        *,
        wake: Callable[[], None],
        budget: Budget | None = None,
    ) -> None:
        self._local = local
        self._peer = peer
        self.timing = timing
        """May be replaced at any time."""
        self._begun = now
        self._heard = now
        self._sent = now
        self.outbox = Outbox(wake, budget)
        self.peer_instance: str | None = None
        self.outbox.put_control(Hello(PROTOCOL_VERSION, instance))

    def heard(self, now: float) -> None:
        """Something arrived; whatever it was, the peer lives."""
        self._heard = now

    def take(self, now: float) -> list[Frame]:
        """Remove the frames of the next batch."""
        self._sent = now
        return self.outbox.take()

    def tick(self, now: float) -> None:
        """Let time pass; queue a heartbeat when one is due.

        Raises:
            LinkFault: the peer has been silent for too long (``Code.SILENT``), or does not
                read what it asked for (``Code.LIMITED``).
        """
        if self.peer_instance is None and now - self._begun > self.timing.handshake:
            raise LinkFault(f"no Hello within {self.timing.handshake:g} s", Code.SILENT)
        if now - self._heard > self.timing.silence:
            raise LinkFault(f"nothing heard for {now - self._heard:.1f} s", Code.SILENT)
        if self.outbox.overrun:
            raise LinkFault("the peer asks without reading the answers", Code.LIMITED)
        if now - self._sent >= self.timing.heartbeat and not self.outbox:
            self.outbox.put_control(Heartbeat())

    def receive(self, frame: Frame) -> ConnectionFrame | LinkEvent | None:
        """Sort one frame: those of connections are returned as they are, the others are acted on here.

        Raises:
            LinkFault: the peer may not say this, or not now.
        """
        if type(frame) in _LINK_FRAMES:
            return self._receive(frame)  # type: ignore[arg-type]  # a set says it, not a type guard
        if self.peer_instance is None:
            raise LinkFault(f"{kind_of(frame)} before Hello")
        return frame  # type: ignore[return-value]

    def _receive(self, frame: LinkFrame) -> LinkEvent | None:
        if self.peer_instance is None and not isinstance(frame, Hello | Bye):
            raise LinkFault(f"{type(frame).__name__} before Hello")
        match frame:
            case Hello():
                return self._receive_hello(frame)
            case Routes(group, routes) if self._peer is Role.PROXY:
                return RoutesAnnounced(group, routes)
            case RoutesResult(conflicts) if self._local is Role.PROXY:
                return RoutesAccepted(conflicts)
            case Heartbeat():
                return None
            case Drain():
                return PeerDraining()
            case Bye(code):
                return PeerLeft(code)
        raise LinkFault(f"a {self._peer} may not send {type(frame).__name__}")

    def _receive_hello(self, hello: Hello) -> LinkEvent:
        if self.peer_instance is not None:
            raise LinkFault("Hello a second time")
        if hello.version != PROTOCOL_VERSION:
            raise LinkFault(
                f"the peer speaks version {hello.version}, this program {PROTOCOL_VERSION}", Code.VERSION
            )
        self.peer_instance = hello.instance
        return LinkOpened(hello.instance)
