"""Fuzz the protocol core: a relay between peers that send whatever they like.

Invariant: a peer that breaks the protocol gets a ConnectionFault or a LinkFault and costs the
relay and the honest parties nothing else: no other exception, no byte of memory beyond the
budget, no entry left when the links are gone, and an honest connection beside it still works.
"""

from __future__ import annotations

import sys
from ipaddress import ip_address, ip_network

import atheris  # type: ignore[import-not-found,import-untyped,unused-ignore]  # fuzz/README.md

with atheris.instrument_imports(include=["tunneler"]):
    from tunneler import addresses
    from tunneler.addresses import ConnectionId, Identity, Role, Route
    from tunneler.errors import Code, LinkFault
    from tunneler.protocol.admission import RelayLimits
    from tunneler.protocol.connection import State
    from tunneler.protocol.endpoint import Endpoint
    from tunneler.protocol.events import (
        DataReceived,
        FinReceived,
        OpenRequested,
        PeerDraining,
        RoutesAnnounced,
    )
    from tunneler.protocol.frames import (
        MAX_OFFSET,
        Ack,
        Data,
        Drain,
        Fin,
        Frame,
        Heartbeat,
        Open,
        OpenResult,
        Party,
        Reset,
        Routes,
    )
    from tunneler.protocol.link import Link, Timing
    from tunneler.protocol.relay import Relay
    from tunneler.protocol.relay_connection import RelayLink
    from tunneler.protocol.window import FLOOR, Budget
    from tunneler.wire.codec import decode, encode

TOTAL = 4 * FLOOR
TIMING = Timing(heartbeat=5.0, silence=15.0, handshake=10.0)
LIMITS = RelayLimits(
    connections=8, connections_per_link=6, routes_per_proxy=4, opening_timeout=10.0, idle_timeout=60.0
)
ROUTE = Route(ip_network("100.64.1.0/24"), ip_network("192.168.1.0/24"))
SOURCE = addresses.Endpoint(ip_address("192.0.2.7"), 40000)
TARGET = addresses.Endpoint(ip_address("100.64.1.5"), 80)
OWN_ROUTE = Route(ip_network("100.64.2.0/24"), ip_network("192.168.2.0/24"))
OWN_TARGET = addresses.Endpoint(ip_address("100.64.2.5"), 80)
HONEST = ConnectionId(b"the honest one!!")
NAMES = (*(ConnectionId(bytes(15) + bytes((number,))) for number in range(1, 6)), HONEST)
PARTIES = (
    Party(Identity(Role.CLIENT, "fuzzed"), "client"),
    Party(Identity(Role.PROXY, "fuzzed"), "proxy"),
    Party(Identity(Role.CLIENT, "honest"), "client"),
    Party(Identity(Role.PROXY, "honest"), "proxy"),
)


def asleep() -> None:
    pass


class Peer:
    """What a server holds of one peer, and the peer's own end of the link."""

    def __init__(self, relay: Relay, budget: Budget, party: Party) -> None:
        self.relay = relay
        role = party.identity.role
        self.link = Link(Role.SERVER, role, "server", TIMING, 0.0, wake=asleep, budget=budget)
        self.relay_link = RelayLink(party, self.link.outbox)
        self.relay.attach(self.relay_link, 0.0)
        self.end = Link(role, Role.SERVER, "peer", TIMING, 0.0, wake=asleep)
        self.budget = Budget(TOTAL)
        self.endpoint = Endpoint(
            self.end.outbox,
            self.budget,
            accepts_opens=role is Role.PROXY,
            opening_timeout=10.0,
            idle_timeout=60.0,
        )
        self.alive = True
        self.received = 0
        """Bytes of the honest connection."""
        self.link.receive(self.end.take(0.0)[0])

    def into_server(self, frames: list[Frame], now: float) -> None:
        """Frames of the peer arrive at the server."""
        try:
            for frame in frames:
                item = self.link.receive(frame)
                if item is frame:
                    self.relay.receive(self.relay_link, item, now)
                elif isinstance(item, RoutesAnnounced):
                    self.relay.announce(self.relay_link, item.group, item.routes)
                elif isinstance(item, PeerDraining):
                    self.relay_link.draining = True
        except LinkFault as fault:
            self.lose(fault.code, now)

    def lose(self, code: Code, now: float) -> None:
        if self.alive:
            self.alive = False
            self.relay.detach(self.relay_link, code, now)

    def flush(self, now: float, *, whole: bool = False) -> None:
        """What the server has queued reaches the peer, who answers by the book."""
        if not self.alive:
            return
        for frame in decode(encode(self.link.outbox.take(1 << 20 if whole else FLOOR))):
            item = self.end.receive(frame)
            if item is frame:
                self.act(item, now)
        self.relay.sent()
        self.into_server(decode(encode(self.end.take(now)), sealed=True), now)

    def act(self, frame: Frame, now: float) -> None:
        event = self.endpoint.receive(frame, now)  # type: ignore[arg-type]  # of a connection, says Link
        connection = self.endpoint.connections.get(event.connection) if event else None
        if connection is None:
            return
        if isinstance(event, OpenRequested):
            self.endpoint.accept(connection)
        elif isinstance(event, DataReceived):
            self.received += len(event.payload) if event.connection == HONEST else 0
            self.endpoint.hand_over(connection, len(event.payload))
        elif isinstance(event, FinReceived):
            self.endpoint.hand_over_fin(connection)


class Stage:
    """A relay, two peers that are fuzzed, two that are honest and have a connection."""

    def __init__(self) -> None:
        self.now = 0.0
        self.budget = Budget(TOTAL)
        self.relay = Relay(LIMITS, self.budget)
        self.peers = tuple(Peer(self.relay, self.budget, party) for party in PARTIES)
        self.peak = 0
        self.client, self.proxy = self.peers[2:]
        self.relay.announce(self.proxy.relay_link, "honest", (ROUTE,))
        self.relay.announce(self.peers[1].relay_link, "fuzzed", (OWN_ROUTE,))
        self.connection = self.client.endpoint.open(
            Open(HONEST, SOURCE, TARGET, FLOOR, True), 0.0, watch_idle=False
        )
        self.settle(*self.peers)
        assert self.connection.state is State.ESTABLISHED

    def settle(self, *peers: Peer) -> None:
        for _ in range(100):
            for peer in peers:
                peer.into_server(decode(encode(peer.end.take(self.now)), sealed=True), self.now)
                peer.flush(self.now, whole=True)
            if not any(peer.alive and (peer.end.outbox or peer.link.outbox) for peer in peers):
                return
        raise AssertionError("frames go round for ever")

    def pass_time(self, seconds: int) -> None:
        self.now += seconds
        self.relay.expire(self.now)
        for peer in self.peers:
            peer.endpoint.expire(self.now)

    def check(self) -> None:
        self.peak = max(self.peak, self.budget.connections)
        assert 0 <= self.budget.outstanding <= TOTAL + FLOOR * self.peak
        for peer in self.peers:
            assert 0 <= peer.budget.outstanding <= TOTAL + FLOOR * peer.budget.connections
        assert len(self.relay.connections) <= LIMITS.connections

    def check_honest(self) -> None:
        """Bytes still go from the honest client to the honest proxy."""
        before = self.proxy.received
        payload = bytes(min(100, self.connection.sending.room))
        assert payload
        self.client.endpoint.send(self.connection, payload, self.now)
        self.settle(*self.peers)
        assert self.proxy.received - before == len(payload)

    def finish(self) -> None:
        for peer in self.peers:
            peer.lose(Code.LINK_LOST, self.now)
        assert not self.relay.connections
        assert not self.relay.links
        assert (self.budget.connections, self.budget.outstanding) == (0, 0)


def one_input(data: bytes) -> None:
    """Steps of five bytes: what happens and to whom, then what :func:`frame_of` reads, or a batch."""
    stage = Stage()
    position = 0
    while position + 5 <= len(data):
        action, choice = data[position], data[position + 1 : position + 5]
        position += 5
        peer = stage.peers[action & 1]
        match action >> 1 & 7:
            case 0:
                batch = data[position : position + choice[0]]
                position += choice[0]
                send(stage, peer, frames_of(batch))
            case 1:
                peer.flush(stage.now)
            case 2:
                stage.pass_time(choice[0] % 16)
            case 3:
                hostile_server(peer, [frame_of(stage, peer, choice)], stage.now)
            case 4:
                stage.settle(stage.client, stage.proxy)
            case _:
                send(stage, peer, [frame_of(stage, peer, choice)])
        stage.check()
    stage.check_honest()
    stage.finish()


def send(stage: Stage, peer: Peer, frames: list[Frame]) -> None:
    if peer.alive:
        peer.into_server(decode(encode(frames), sealed=True), stage.now)


def frames_of(batch: bytes) -> list[Frame]:
    try:
        return decode(batch)
    except LinkFault:
        return []


def frame_of(stage: Stage, peer: Peer, choice: bytes) -> Frame:
    """A frame that is often the right one: kind, connection, how wrong its place is, and an amount."""
    kind, which, place, amount = choice
    name = NAMES[which % len(NAMES)]
    entry = stage.relay.connections.get(name)
    own = entry and (entry.up if peer is stage.peers[0] else entry.down)
    other = entry and (entry.down if peer is stage.peers[0] else entry.up)
    received = own.sequence.received if own else 0
    passed = other.sequence.received if other else 0
    wrong = (0, 0, 0, 0, 0, 1, amount, MAX_OFFSET // 2)[place & 7]
    limit = (FLOOR, passed + FLOOR, passed + amount * 4096, MAX_OFFSET)[place >> 3 & 3]
    frames: tuple[Frame, ...] = (
        Open(name, SOURCE, TARGET if which & 16 else OWN_TARGET, limit, bool(place & 1)),
        OpenResult(name, Code.OK, limit),
        OpenResult(name, Code.REFUSED),
        Data(name, received + wrong, bytes(1 + amount * 256)),
        Data(name, max(0, received - amount), bytes(1 + amount)),
        Fin(name, received + wrong),
        Ack(name, passed + wrong, limit),
        Ack(name, passed + 1, limit),
        Reset(name, Code.RESET_BY_PEER),
        Routes("group", (OWN_ROUTE, ROUTE)[: amount % 3]),
        Drain() if not amount else Heartbeat(),
    )
    return frames[kind % len(frames)]


def hostile_server(peer: Peer, frames: list[Frame], now: float) -> None:
    """The peer's own end gets frames that its server never sent."""
    try:
        for frame in frames:
            item = peer.end.receive(frame)
            if item is frame:
                peer.act(item, now)
    except LinkFault:
        peer.endpoint.reset_all(Code.LINK_LOST)
        assert not peer.endpoint.connections
        assert (peer.budget.connections, peer.budget.outstanding) == (0, 0)


def main() -> None:
    atheris.Setup(sys.argv, one_input)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
