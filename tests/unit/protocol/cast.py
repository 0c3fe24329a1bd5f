"""Who takes part in the tests of the protocol: parties, addresses, and nodes that hold them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeVar

from tunneler import addresses
from tunneler.addresses import ConnectionId, Identity, Role, Route, parse_network
from tunneler.errors import Code
from tunneler.protocol.admission import RelayLimits
from tunneler.protocol.endpoint import Endpoint
from tunneler.protocol.frames import DATA_KINDS, Data, Frame, Open, OpenResult, Party, SealedData
from tunneler.protocol.outbox import Outbox
from tunneler.protocol.relay import Relay
from tunneler.protocol.relay_connection import RelayLink
from tunneler.protocol.window import FLOOR, Budget
from tunneler.wire.codec import decode, encode

CLIENT = Party(Identity(Role.CLIENT, "laptop"), "client-1")
OTHER_CLIENT = Party(Identity(Role.CLIENT, "laptop"), "client-2")
PROXY = Party(Identity(Role.PROXY, "site"), "proxy-1")
SECOND_PROXY = Party(Identity(Role.PROXY, "site"), "proxy-2")
FOREIGN_PROXY = Party(Identity(Role.PROXY, "elsewhere"), "proxy-1")

SOURCE = addresses.Endpoint.of("192.0.2.7", 40000)
TARGET = addresses.Endpoint.of("100.64.1.5", 80)

OPENING_TIMEOUT = 10.0
IDLE_TIMEOUT = 60.0
LIMITS = RelayLimits(
    connections=100,
    connections_per_link=50,
    routes_per_proxy=8,
    opening_timeout=OPENING_TIMEOUT,
    idle_timeout=IDLE_TIMEOUT,
)
AMPLE = 64 * 1024 * 1024

Kind = TypeVar("Kind")


def name(number: int) -> ConnectionId:
    return ConnectionId(number.to_bytes(16, "big"))


def route(virtual: str, real: str | None = None) -> Route:
    return Route(parse_network(virtual), parse_network(real or virtual))


ROUTE = route("100.64.1.0/24", "192.168.1.0/24")


def open_frame(number: int = 1, *, limit: int = FLOOR, target: addresses.Endpoint = TARGET) -> Open:
    return Open(name(number), SOURCE, target, limit)


def asleep() -> None:
    """Nobody waits for this outbox."""


def client_endpoint(
    budget: Budget | None = None, wake: Callable[[], None] = asleep
) -> tuple[Endpoint, Outbox]:
    outbox = Outbox(wake)
    return _endpoint(outbox, budget or Budget(AMPLE), accepts_opens=False), outbox


def proxy_endpoint(
    budget: Budget | None = None, wake: Callable[[], None] = asleep
) -> tuple[Endpoint, Outbox]:
    outbox = Outbox(wake)
    return _endpoint(outbox, budget or Budget(AMPLE), accepts_opens=True), outbox


def _endpoint(outbox: Outbox, budget: Budget, *, accepts_opens: bool) -> Endpoint:
    return Endpoint(
        outbox,
        budget,
        accepts_opens=accepts_opens,
        opening_timeout=OPENING_TIMEOUT,
        idle_timeout=IDLE_TIMEOUT,
    )


class RelayStage:
    """A relay with one client and one proxy that serves ``ROUTE``; time stands at 0."""

    def __init__(self, total: int = AMPLE, limits: RelayLimits = LIMITS) -> None:
        self.budget = Budget(total)
        self.relay = Relay(limits, self.budget)
        self.client = self.attach(CLIENT)
        self.proxy = self.attach_proxy(PROXY)

    def attach(self, party: Party, now: float = 0.0) -> RelayLink:
        link = RelayLink(party, Outbox(asleep, self.budget))
        self.relay.attach(link, now)
        return link

    def attach_proxy(self, party: Party, *routes: Route, group: str = "group") -> RelayLink:
        """Attach a proxy that announces ``routes`` (default: ``ROUTE``), and read the answer."""
        link = self.attach(party)
        self.relay.announce(link, group, routes or (ROUTE,))
        link.outbox.take()
        return link

    def open(self, number: int = 1, client: RelayLink | None = None) -> RelayLink:
        """Establish a connection; return the link of the proxy that has it. Outboxes end up empty."""
        client = client or self.client
        self.relay.receive(client, open_frame(number), 0.0)
        proxy = self.relay.connections[name(number)].proxy
        self.relay.receive(proxy, OpenResult(name(number), Code.OK, FLOOR), 0.0)
        client.outbox.take()
        proxy.outbox.take()
        return proxy


def only(kind: type[Kind], frames: Iterable[object]) -> Kind:
    """The one frame there is, which is of this kind."""
    (frame,) = frames
    assert type(frame) is kind
    return frame


def payload_of(frames: Iterable[Frame]) -> bytes:
    return b"".join(frame.payload for frame in frames if isinstance(frame, DATA_KINDS))


def seal(frame: Data) -> SealedData:
    """DATA as a relay gets it."""
    return only(SealedData, decode(encode([frame]), sealed=True))
