"""The server: relays connections between clients and proxies.

listen  →  each new stream is a link of the party that its certificate names
HELLO  →  the relay takes the link on; a proxy's routes are entered
frames  →  the relay  →  the outbox of the other link
stop: refuse new connections, let those that are open finish, close the links
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

from tunneler.addresses import Role
from tunneler.engine.driver import LinkDriver, clock
from tunneler.engine.lifecycle import Lifecycle, Reread, counted
from tunneler.engine.process import run_until_stopped, tick, wait_for
from tunneler.engine.reloading import reload_on_request
from tunneler.errors import Code, ExitStatus
from tunneler.observability.log import EventLog
from tunneler.protocol.admission import RelayLimits
from tunneler.protocol.events import (
    LinkEvent,
    LinkOpened,
    PeerDraining,
    RelayClosed,
    RelayEvent,
    RelayOpened,
    RelayRefused,
    RelayRouted,
    RelayStray,
    RoutesAnnounced,
)
from tunneler.protocol.frames import ConnectionFrame, Party
from tunneler.protocol.relay import Relay
from tunneler.protocol.relay_connection import RelayLink
from tunneler.protocol.window import Budget
from tunneler.roles.health import health_calls
from tunneler.roles.passed import address_of, require_loopback
from tunneler.roles.reports import Report, heading, links_of_relay, routes_of_relay
from tunneler.roles.setup import admin_of, listener_of, reconfigured, security_of, timing_of
from tunneler.sockets.reactor import Reactor
from tunneler.systemd.activation import ADMIN, LINKS, passed_sockets
from tunneler.transport.seam import BatchReceiver, BatchStream, Listener

if TYPE_CHECKING:
    from tunneler.config.model import ServerConfig

_log = EventLog("server")

RELEASE_SECONDS = 5.0
"""For the service manager to act on our being ready; it takes milliseconds."""


def run(config: ServerConfig, reread: Reread | None = None) -> ExitStatus:
    """Be a server until stopped.

    Args:
        reread: reads the configuration again.

    Raises:
        TunnelerError: it cannot start.
    """
    passed = passed_sockets(Role.SERVER, LINKS, ADMIN)
    admin = admin_of(config, passed[ADMIN])

    async def serve(life: Lifecycle) -> None:
        server = Server(config, passed[LINKS])
        async with admin(server.report):
            await server.serve(life)

    return run_until_stopped(serve, reread)


class Server:
    """See the module.

    Args:
        listening: sockets to take links from, instead of listening on ``listen_addr``.
    """

    def __init__(self, config: ServerConfig, listening: Sequence[socket.socket] = ()) -> None:
        self.config = config
        if config.tls.insecure:
            require_loopback(listening)
        self._listening = listening
        self.addresses = [address_of(sock) for sock in listening] or [config.listen_addr]
        # Servers of one machine share an identity, and often a configuration, but not a port.
        self.instance = f"server{self.addresses[0].port}"
        self.life = Lifecycle()
        self.budget = Budget(config.limits.memory_budget)
        self.relay = Relay(_limits_of(config), self.budget)
        self.links: set[ServerLink] = set()
        self._drained = asyncio.Event()
        self.reactor = Reactor()

    async def serve(self, life: Lifecycle) -> None:
        """Relay until asked to stop."""
        self.life = life
        life.describe_by(self._describe)
        self._security = security_of(self.config, Role.SERVER)
        listener = listener_of(
            self.config, self._security, self.reactor, lambda: self.config.limits.max_links, _log.warning
        )
        with self.reactor:
            await self._listen(listener, life)

    def _describe(self) -> str:
        connections = counted(len(self.relay.connections), "connection")
        if self.relay.draining:
            return f"draining, {connections} left"
        return f"{counted(len(self.relay.links), 'link')}, {connections}"

    async def _listen(self, listener: Listener, life: Lifecycle) -> None:
        listening = self._listening or self.config.listen_addr
        addresses = " ".join(map(str, self.addresses))
        calls = health_calls(lambda: self.relay.draining)
        async with listener.serve(listening, self._attach, calls), asyncio.TaskGroup() as tasks:
            _log.info("listening", address=addresses)
            ticker = tasks.create_task(tick(self._tick))
            reloader = tasks.create_task(reload_on_request(life, self))
            life.ready()
            await listener.take_over(partial(life.notifier.barrier, RELEASE_SECONDS))
            await life.stop.wait()
            reloader.cancel()
            await self._drain()
            ticker.cancel()

    def report(self) -> Report:
        """What goes on, in detail, for the admin port."""
        addresses = ((link.entry, link.driver.stream.peer.address) for link in self.links if link.entry)
        return {
            **heading(Role.SERVER, self.instance, self.life.state(works=True)),
            "listening": [str(address) for address in self.addresses],
            "connections": len(self.relay.connections),
            "links": links_of_relay(self.relay, addresses),
            "routes": routes_of_relay(self.relay),
        }

    async def reconfigure(self, new: ServerConfig) -> None:
        """See :class:`tunneler.engine.reloading.Reconfigurable`."""
        with reconfigured(Role.SERVER, self.config, new, self._security):
            self.config = new
        self.budget.total = new.limits.memory_budget
        self.relay.set_limits(_limits_of(new))
        for link in self.links:
            link.driver.link.timing = timing_of(new)

    def took_place(self, event: RelayEvent | None) -> None:
        """Log what the relay did."""
        if event is not None:
            _report(event)
            if self.relay.draining and not self.relay.connections:
                self._drained.set()

    async def _drain(self) -> None:
        self.relay.drain()
        seconds = self.config.timeouts.drain
        _log.info("draining", connections=len(self.relay.connections), seconds=seconds)
        if self.relay.connections and not await wait_for(self._drained, seconds):
            _log.warning("drain_deadline", connections=len(self.relay.connections))
        for event in self.relay.reset_all(Code.DRAINING, clock()):
            self.took_place(event)
        for link in list(self.links):
            link.driver.close(Code.DRAINING, "the server stops")

    def _attach(self, stream: BatchStream) -> BatchReceiver:
        link = ServerLink(self, stream)
        self.links.add(link)
        if len(self.links) > self.config.limits.max_links:
            link.driver.close(Code.LIMITED, "limits.max_links reached")
        return link.driver

    def _tick(self) -> None:
        for link in list(self.links):
            link.driver.tick()
        for event in self.relay.expire(clock()):
            self.took_place(event)


class ServerLink:
    """One client's or proxy's link. See :class:`tunneler.engine.driver.LinkHandler`."""

    def __init__(self, server: Server, stream: BatchStream) -> None:
        self._server = server
        self._relay = server.relay
        self.entry: RelayLink | None = None
        timing = timing_of(server.config)
        self.driver = LinkDriver(
            stream, Role.SERVER, server.instance, timing, server.reactor.at_turn_end, server.budget
        )
        self.driver.start(self)

    def frame_received(self, frame: ConnectionFrame, now: float) -> None:
        if self.entry is not None:
            event = self._relay.receive(self.entry, frame, now)
            if event is not None:
                self._server.took_place(event)

    def link_event(self, event: LinkEvent, now: float) -> None:
        match event:
            case LinkOpened(instance):
                self._take_on(Party(self.driver.stream.peer.identity, instance), now)
            case RoutesAnnounced(group, routes) if self.entry is not None:
                conflicts = self._relay.announce(self.entry, group, routes)
                _log.info("routes_announced", peer=self.entry.party, routes=" ".join(map(str, routes)))
                for route in conflicts:
                    _log.error("route_conflict", peer=self.entry.party, group=group, route=route)
            case PeerDraining() if self.entry is not None:
                self.entry.draining = True
                _log.info("peer_draining", peer=self.entry.party)

    def batch_sent(self) -> None:
        self._relay.sent()

    def link_ended(self, code: Code, reason: str) -> None:
        self._server.links.discard(self)
        peer = self.entry.party if self.entry is not None else self.driver.stream.peer.identity
        address = self.driver.stream.peer.address
        _log.warning(
            "link_down",
            peer=peer,
            address=address,
            cause=code.name.lower(),
            reason=reason,
            strays=self.entry.strays if self.entry else 0,
        )
        if self.entry is not None:
            for event in self._relay.detach(self.entry, Code.LINK_LOST, clock()):
                self._server.took_place(event)

    def _take_on(self, party: Party, now: float) -> None:
        self.entry = RelayLink(party, self.driver.link.outbox)
        older, events = self._relay.attach(self.entry, now)
        for event in events:
            self._server.took_place(event)
        for link in list(self._server.links):
            if older is not None and link.entry is older:
                link.driver.close(Code.REPLACED, "a newer link of the same party")
        _log.info("link_up", peer=party, address=self.driver.stream.peer.address)


def _report(event: RelayEvent) -> None:
    match event:
        case RelayStray():
            _log.warning(
                "stray_frame",
                connection=event.connection,
                peer=event.party,
                frame=event.frame,
                hint="it names a connection of other parties; further ones are counted, not logged",
            )
        case RelayRouted():
            _log.debug("connection_routed", **_fields(event), proxy=event.proxy)
        case RelayOpened():
            _log.info("connection_opened", **_fields(event), proxy=event.proxy)
        case RelayRefused():
            _log.info(
                "connection_refused", **_fields(event), proxy=event.proxy, cause=event.code.name.lower()
            )
        case RelayClosed():
            log = _log.warning if event.fault else _log.info
            log(
                "connection_closed",
                connection=event.connection,
                peer=event.client,
                proxy=event.proxy,
                original_target=event.destination,
                bytes_up=event.bytes_up,
                bytes_down=event.bytes_down,
                duration=round(event.duration, 6),
                cause=event.code.name.lower(),
                detail=str(event.fault) if event.fault else None,
            )


def _fields(event: RelayRouted | RelayOpened | RelayRefused) -> dict[str, object]:
    return {
        "connection": event.connection,
        "peer": event.client,
        "source": event.source,
        "original_target": event.destination,
    }


def _limits_of(config: ServerConfig) -> RelayLimits:
    limits, timeouts = config.limits, config.timeouts
    return RelayLimits(
        connections=limits.max_connections,
        connections_per_link=limits.max_connections_per_link,
        routes_per_proxy=limits.max_routes_per_proxy,
        opening_timeout=timeouts.open,
        idle_timeout=timeouts.idle,
    )
