"""What a client and a proxy have in common: links to servers, and the connections on them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING

from tunneler.addresses import HostPort, Role
from tunneler.engine.driver import LinkDriver, clock
from tunneler.engine.keeper import LinkKeeper
from tunneler.engine.lifecycle import Lifecycle, counted
from tunneler.engine.link_end import LinkEnd
from tunneler.engine.process import tick, wait_for
from tunneler.engine.reloading import reload_on_request
from tunneler.engine.splice import Splice
from tunneler.errors import Code, ConnectionFault
from tunneler.observability.log import EventLog
from tunneler.protocol.events import LinkEvent, LinkOpened, PeerDraining
from tunneler.protocol.frames import Drain, Open, Party
from tunneler.protocol.window import Budget
from tunneler.roles.reports import Report, heading, links_of_keepers
from tunneler.roles.setup import backoff_of, dialer_of, reconfigured, security_of, timing_of
from tunneler.sockets.calls import Failure
from tunneler.sockets.reactor import Reactor
from tunneler.transport.seam import BatchStream

if TYPE_CHECKING:
    from tunneler.config.model import DialingConfig

FAREWELL_SECONDS = 3.0
"""For links to end in good order; more than any transport takes (its own farewell, and lingering)."""


class DialingRole:
    """Base of client and proxy. See :class:`tunneler.engine.link_end.EndOwner`."""

    def __init__(self, role: Role, instance: str, config: DialingConfig, *, accepts_opens: bool) -> None:
        self._role = role
        self._instance = instance
        self.config = config
        self._accepts_opens = accepts_opens
        self._log = EventLog(role)
        self._budget = Budget(config.limits.memory_budget)
        self.life = Lifecycle()
        self._drained = asyncio.Event()
        self._draining = False
        self.reactor = Reactor()
        self._security = security_of(config, role)
        self._dialer = dialer_of(config, role, self._security, self.reactor)
        self._keepers = [
            LinkKeeper(server, self._dialer, backoff_of(config), partial(self._make_end, server))
            for server in config.server_addr
        ]

    # The life of the role.

    async def keep_links(self, life: Lifecycle, before_drain: Callable[[], None]) -> None:
        """Keep a link to every server until asked to stop; then drain.

        Args:
            before_drain: stops new connections from coming in.
        """
        self.life = life
        life.describe_by(self.describe)
        async with asyncio.TaskGroup() as tasks:
            keepers = [tasks.create_task(keeper.run()) for keeper in self._keepers]
            ticker = tasks.create_task(tick(self.tick))
            reloader = tasks.create_task(reload_on_request(life, self))
            await life.stop.wait()
            reloader.cancel()
            before_drain()
            await self._drain()
            await self._say_goodbye(keepers)
            for task in (*keepers, ticker):
                task.cancel()

    async def reconfigure(self, new: DialingConfig) -> None:
        """See :class:`tunneler.engine.reloading.Reconfigurable`."""
        with reconfigured(self._role, self.config, new, self._security):
            await self.adopt(new)
        self.config = new
        self._budget.total = new.limits.memory_budget
        self._dialer.handshake_timeout = new.timeouts.handshake
        for keeper in self._keepers:
            keeper.set_backoff(backoff_of(new))
        for end in self.ends:
            end.driver.link.timing = timing_of(new)
            end.endpoint.set_timeouts(self.opening_timeout(new), new.timeouts.idle)

    async def adopt(self, new: DialingConfig) -> None:
        """Take over what only this role knows; the old configuration is still in force.

        Raises:
            TunnelerError: it cannot be; nothing has changed then.
        """

    def opening_timeout(self, config: DialingConfig) -> float:
        """Seconds for a connection to be opened."""
        raise NotImplementedError

    @property
    def ends(self) -> Iterator[LinkEnd]:
        """The links that there are at the moment."""
        return (keeper.end for keeper in self._keepers if keeper.end is not None)

    @property
    def connection_count(self) -> int:
        return sum(len(end.splices) for end in self.ends)

    @property
    def usable_links(self) -> int:
        """Links over which connections may be opened."""
        return sum(end.usable for end in self.ends)

    @property
    def all_tried(self) -> bool:
        """Whether every server has been asked for a link, and failed to give one."""
        return all(keeper.failure is not None for keeper in self._keepers)

    def describe(self) -> str:
        """What goes on, in one line for people."""
        connections = counted(self.connection_count, "connection")
        if self._draining:
            return f"draining, {connections} left"
        links = f"{self.usable_links} of {counted(len(self._keepers), 'link')} up, {connections}"
        failures = [keeper.failure for keeper in self._keepers if keeper.failure is not None]
        return "; ".join((links, *failures[:1]))

    def report(self) -> Report:
        """What goes on, in detail, for the admin port."""
        return {
            **heading(self._role, self._instance, self.life.state(works=self.usable_links > 0)),
            "connections": self.connection_count,
            "links": links_of_keepers(self._keepers),
        }

    async def _drain(self) -> None:
        self._draining = True
        for end in self.ends:
            end.driver.link.outbox.put_control(Drain())
        seconds = self.config.timeouts.drain
        self._log.info("draining", connections=self.connection_count, seconds=seconds)
        if self.connection_count and not await wait_for(self._drained, seconds):
            self._log.warning("drain_deadline", connections=self.connection_count)

    async def _say_goodbye(self, tasks: list[asyncio.Task[None]]) -> None:
        """Close the links, and give what is said on them the time to arrive.

        Args:
            tasks: those of the keepers, in their order.
        """
        linked = [task for task, keeper in zip(tasks, self._keepers, strict=True) if keeper.end is not None]
        for keeper in self._keepers:
            keeper.stop()
        for end in list(self.ends):
            end.reset_all(Code.DRAINING)
            end.driver.close(Code.DRAINING, "this program stops")
        if linked:
            await asyncio.wait(linked, timeout=FAREWELL_SECONDS)

    def tick(self) -> None:
        """Let time pass."""
        for end in list(self.ends):
            end.tick()

    # Links.

    def _make_end(self, server: HostPort, stream: BatchStream) -> LinkEnd:
        timing = timing_of(self.config)
        driver = LinkDriver(stream, self._role, self._instance, timing, self.reactor.at_turn_end)
        return LinkEnd(
            driver,
            self,
            self.reactor,
            self._budget,
            accepts_opens=self._accepts_opens,
            opening_timeout=self.opening_timeout(self.config),
            idle_timeout=self.config.timeouts.idle,
        )

    def link_event(self, end: LinkEnd, event: LinkEvent) -> None:
        match event:
            case LinkOpened(instance):
                self._log.info("link_up", server=end.driver.stream.peer.address, server_instance=instance)
                self._keeper_of(end).greeted()
                if self._draining:
                    end.driver.link.outbox.put_control(Drain())
                self.link_up(end)
            case PeerDraining():
                end.draining = True
                self._log.info("server_draining", server=end.driver.stream.peer.address)

    def link_up(self, end: LinkEnd) -> None:
        """The server has greeted us; what the role says first."""

    def link_ended(self, end: LinkEnd, code: Code, reason: str) -> None:
        peer = end.driver.stream.peer
        log = self._log.info if self._draining else self._log.warning
        log("link_down", server=peer.address, cause=code.name.lower(), reason=reason)
        self._keeper_of(end).ended(code, reason)

    def _keeper_of(self, end: LinkEnd) -> LinkKeeper:
        return next(keeper for keeper in self._keepers if keeper.end is end)

    # Connections.

    def open_requested(self, end: LinkEnd, request: Open) -> None:
        raise NotImplementedError

    def connection_opened(self, end: LinkEnd, splice: Splice, proxy: Party | None) -> None:
        raise NotImplementedError

    def connection_ended(
        self, end: LinkEnd, splice: Splice, code: Code, detail: ConnectionFault | Failure | None
    ) -> None:
        request, connection = splice.request, splice.connection
        sent, received = connection.sending.sent, connection.receiving.sequence.received
        client = self._role is Role.CLIENT
        # An application that leaves before the answer has not been refused by anybody.
        left = client and isinstance(detail, Failure)
        self._log.info(
            "connection_closed" if splice.opened or left else "connection_refused",
            connection=request.connection,
            peer=end.driver.stream.peer.identity if client else request.client,
            source=request.source,
            original_target=request.destination,
            target=splice.target,
            bytes_up=sent if client else received,
            bytes_down=received if client else sent,
            duration=round(clock() - splice.started, 6),
            cause=code.name.lower(),
            detail=_describe(detail),
            duplicates=connection.receiving.sequence.duplicates,
        )
        if self._draining and not self.connection_count:
            self._drained.set()


def _describe(detail: ConnectionFault | Failure | None) -> str | None:
    return detail.text if isinstance(detail, Failure) else str(detail) if detail else None
