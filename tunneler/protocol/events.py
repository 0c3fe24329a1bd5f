"""What the protocol core tells the code around it, in the past tense.

The core returns events in the order in which they happened; whoever drives it acts on them
(hands bytes to sockets, logs, counts) and never asks the core to wait.
"""

from __future__ import annotations

from typing import NamedTuple

from tunneler.addresses import ConnectionId, Endpoint, Route
from tunneler.errors import Code, ConnectionFault
from tunneler.protocol.frames import Open, Party

# Of one end of a connection (endpoint.py).


class OpenRequested(NamedTuple):
    """A connection for us to dial."""

    connection: ConnectionId
    open: Open


class Opened(NamedTuple):
    """The target answered."""

    connection: ConnectionId
    proxy: Party | None


class DataReceived(NamedTuple):
    connection: ConnectionId
    payload: bytes


class FinReceived(NamedTuple):
    """No more data will come; tell the local socket after what has come is handed over."""

    connection: ConnectionId


class RoomMade(NamedTuple):
    """The peer allows more, after it allowed nothing."""

    connection: ConnectionId


class ConnectionClosed(NamedTuple):
    """Both directions ended with FIN."""

    connection: ConnectionId


class ConnectionReset(NamedTuple):
    """The connection ended in any other way; ``fault`` is what the peer did wrong, if it did."""

    connection: ConnectionId
    code: Code
    fault: ConnectionFault | None = None


EndpointEvent = (
    OpenRequested | Opened | DataReceived | FinReceived | RoomMade | ConnectionClosed | ConnectionReset
)


# Of a link (link.py).


class LinkOpened(NamedTuple):
    """The peer said HELLO."""

    instance: str


class RoutesAnnounced(NamedTuple):
    group: str
    routes: tuple[Route, ...]


class RoutesAccepted(NamedTuple):
    """The server knows our routes; it does not use those in ``conflicts`` for now."""

    conflicts: tuple[Route, ...]


class PeerDraining(NamedTuple):
    """The peer finishes what is open and takes nothing new."""


class PeerLeft(NamedTuple):
    """The peer closed the link, and said why."""

    code: Code


LinkEvent = LinkOpened | RoutesAnnounced | RoutesAccepted | PeerDraining | PeerLeft


# Of the server (relay.py).


class RelayRouted(NamedTuple):
    """A connection was given to a proxy, which is asked to dial."""

    connection: ConnectionId
    client: Party
    proxy: Party
    source: Endpoint
    destination: Endpoint


class RelayOpened(NamedTuple):
    """A target answered through its proxy."""

    connection: ConnectionId
    client: Party
    proxy: Party
    source: Endpoint
    destination: Endpoint


class RelayRefused(NamedTuple):
    """A connection was not opened; ``proxy`` is None when no proxy was asked."""

    connection: ConnectionId
    client: Party
    proxy: Party | None
    source: Endpoint
    destination: Endpoint
    code: Code


class RelayClosed(NamedTuple):
    """An open connection ended; ``code`` is ok when both directions ended with FIN."""

    connection: ConnectionId
    client: Party
    proxy: Party
    destination: Endpoint
    code: Code
    bytes_up: int
    bytes_down: int
    duration: float
    fault: ConnectionFault | None = None


class RelayStray(NamedTuple):
    """A link sent a frame for a connection of other parties, for the first time; it was not passed on."""

    connection: ConnectionId
    party: Party
    frame: str


RelayEvent = RelayStray | RelayRouted | RelayOpened | RelayRefused | RelayClosed
