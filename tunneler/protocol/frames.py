"""What is said on a link: one immutable tuple for each kind of frame.

Frames are values. What they may mean, and when, is decided in ``connection.py`` and
``relay.py`` (frames of a connection) and ``link.py`` (frames of the link itself); how they
look as bytes is decided in ``wire/codec.py``. ``wire/tunnel.proto`` documents each field.

They are named tuples rather than frozen dataclasses because a relay makes one for each
frame: a named tuple is made in a third of the time.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from tunneler.addresses import ConnectionId, Endpoint, Identity, Role, Route
from tunneler.errors import Code

PROTOCOL_VERSION = 1
"""Said in :class:`Hello`; another version is refused with ``Code.VERSION``."""

MAX_PAYLOAD = 256 * 1024
"""Bytes in one :class:`Data`, at most: large enough that the cost of a frame disappears in bulk
transfer, small enough that taking connections in turn means something."""

MAX_BATCH = 512 * 1024
"""Bytes of frames after which a batch is closed; the last frame may exceed it. A batch exists in
several copies on its way through TLS: twice the size made no transfer faster, and every role
6 MiB larger (docs/performance.md)."""

MAX_BATCH_ACCEPTED = 4 * 1024 * 1024
"""Bytes of a batch above which the peer has broken the protocol."""

MAX_OFFSET = 2**62
"""Offsets beyond this are nonsense: at 100 Gbit/s they take eleven years to reach."""


class Party(NamedTuple):
    """Who holds an end of a connection: certified identity, and the instance under it."""

    identity: Identity
    instance: str

    def __str__(self) -> str:
        return f"{self.identity}#{self.instance}"


class Open(NamedTuple):
    connection: ConnectionId
    source: Endpoint
    destination: Endpoint
    limit: int
    keepalive: bool = False
    client: Party | None = None


class OpenResult(NamedTuple):
    connection: ConnectionId
    code: Code
    limit: int = 0
    proxy: Party | None = None


class Data(NamedTuple):
    connection: ConnectionId
    offset: int
    payload: bytes

    @property
    def length(self) -> int:
        return len(self.payload)


class SealedData(NamedTuple):
    """DATA as it came, for a relay, which passes it on without opening it.

    Attributes:
        length: bytes of payload.
        wire: the frame as it stands in a batch; its last ``length`` bytes are the payload.
    """

    connection: ConnectionId
    offset: int
    length: int
    wire: bytes

    @property
    def payload(self) -> bytes:
        return self.wire[-self.length :]


class Fin(NamedTuple):
    connection: ConnectionId
    offset: int


class Ack(NamedTuple):
    connection: ConnectionId
    offset: int
    limit: int


class Reset(NamedTuple):
    connection: ConnectionId
    code: Code


class Hello(NamedTuple):
    version: int
    instance: str


class Routes(NamedTuple):
    group: str
    routes: tuple[Route, ...]


class RoutesResult(NamedTuple):
    conflicts: tuple[Route, ...]


class Heartbeat(NamedTuple):
    pass


class Drain(NamedTuple):
    pass


class Bye(NamedTuple):
    code: Code


DATA_KINDS = (Data, SealedData)
"""The two forms of DATA: opened, as an end needs it, and sealed."""

make: Final = tuple.__new__
"""``make(Data, (...))`` takes 60 % of the time that a named tuple's own constructor takes."""

SENDER = {Open: Role.CLIENT, OpenResult: Role.PROXY}
"""The only role that sends connection frames of these kinds; the others pass both ways."""

ConnectionFrame = Open | OpenResult | Data | SealedData | Fin | Ack | Reset
LinkFrame = Hello | Routes | RoutesResult | Heartbeat | Drain | Bye
Frame = ConnectionFrame | LinkFrame


def kind_of(frame: Frame) -> str:
    """What a frame is called when people read of it."""
    return "Data" if type(frame) is SealedData else type(frame).__name__
