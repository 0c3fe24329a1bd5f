"""Fuzz the protocol core: a relay between peers that send whatever they like.

Invariant: a peer that breaks the protocol gets a ConnectionFault or a LinkFault and costs the
relay and the honest parties nothing else: no other exception, no byte of memory beyond the
budget, no entry left when the links are gone, and an honest connection beside it still works.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from ipaddress import ip_address, ip_network

import atheris  # type: ignore[import-not-found,import-untyped,unused-ignore]  # fuzz/README.md

with atheris.instrument_imports(include=["tunneler"]):
    from tunneler import addresses
    from tunneler.addresses import ConnectionId, Identity, Role, Route
    from tunneler.errors import Code, LinkFault
    from tunneler.protocol.connection import State
    from tunneler.protocol.endpoint import Endpoint
    from tunneler.protocol.events import (
        DataReceived,
        FinReceived,
        OpenRequested,
        PeerDraining,
        RoutesAnnounced,
    )
    from tunneler.protocol.frames import Frame, Open, Party
    from tunneler.protocol.link import Link, Timing
    from tunneler.protocol.relay import Relay, RelayLimits
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
HONEST = ConnectionId(b"the honest one!!")
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
                    self.relay.receive(self.relay_link, item, now)  # type: ignore[arg-type]
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
        self.into_server(decode(encode(self.end.take(now))), now)

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
        self.connection = self.client.endpoint.open(
            Open(HONEST, SOURCE, TARGET, FLOOR, True), 0.0, watch_idle=False
        )
        self.settle(self.client, self.proxy)
        assert self.connection.state is State.ESTABLISHED

    def settle(self, *peers: Peer) -> None:
        for _ in range(4):
            for peer in peers:
                peer.into_server(decode(encode(peer.end.take(self.now))), self.now)
                peer.flush(self.now, whole=True)

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
        for _ in range(20):
            self.settle(*self.peers)
        assert self.proxy.received - before == len(payload)

    def finish(self) -> None:
        for peer in self.peers:
            peer.lose(Code.LINK_LOST, self.now)
        assert not self.relay.connections
        assert not self.relay.links
        assert (self.budget.connections, self.budget.outstanding) == (0, 0)


def frames_of(data: bytes) -> list[Frame]:
    try:
        return decode(data)
    except LinkFault:
        return []


def one_input(data: bytes) -> None:
    """One byte says what happens, to whom; two say how long a batch follows it."""
    stage = Stage()
    steps: dict[int, Callable[[Peer, bytes], None]] = {
        0: lambda peer, batch: peer.into_server(frames_of(batch), stage.now) if peer.alive else None,
        1: lambda peer, batch: peer.flush(stage.now),
        2: lambda peer, batch: stage.pass_time(len(batch) % 16),
        3: lambda peer, batch: hostile_server(peer, frames_of(batch), stage.now),
    }
    position = 0
    while position + 3 <= len(data):
        action, length = data[position], int.from_bytes(data[position + 1 : position + 3], "little")
        position += 3
        steps[action >> 1 & 3](stage.peers[action & 1], data[position : position + length])
        position += length
        stage.check()
    stage.check_honest()
    stage.finish()


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
