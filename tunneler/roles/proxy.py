"""The proxy: dials out to the servers, and from its own network to the targets.

keep a link to each server  →  announce the routes
OPEN  →  translate the destination  →  is it ours?  →  dial  →  OPEN_RESULT  →  splice
stop: take nothing new, let connections finish, leave
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from tunneler.addresses import Endpoint, Role
from tunneler.engine.lifecycle import Lifecycle, Reread
from tunneler.engine.link_end import LinkEnd
from tunneler.engine.process import run_until_stopped
from tunneler.engine.splice import Splice
from tunneler.errors import Code, ExitStatus
from tunneler.protocol.events import LinkEvent, RoutesAccepted
from tunneler.protocol.frames import Open, Party, Routes
from tunneler.protocol.routing import Translation
from tunneler.roles.dialing import DialingRole
from tunneler.roles.reports import Report
from tunneler.roles.setup import admin_of
from tunneler.sockets.calls import DialFailed, start_dial
from tunneler.systemd.activation import ADMIN, passed_sockets

if TYPE_CHECKING:
    from tunneler.config.model import DialingConfig, ProxyConfig


def run(config: ProxyConfig, reread: Reread | None = None) -> ExitStatus:
    """Be a proxy until stopped.

    Args:
        reread: reads the configuration again.

    Raises:
        TunnelerError: it cannot start.
    """
    passed = passed_sockets(Role.PROXY, ADMIN)
    admin = admin_of(config, passed[ADMIN])

    async def serve(life: Lifecycle) -> None:
        proxy = Proxy(config)
        async with admin(proxy.report):
            await proxy.serve(life)

    return run_until_stopped(serve, reread)


class Proxy(DialingRole):
    """See the module."""

    config: ProxyConfig

    def __init__(self, config: ProxyConfig) -> None:
        super().__init__(Role.PROXY, config.proxy_id, config, accepts_opens=True)
        self._translation = Translation(config.all_routes)

    async def serve(self, life: Lifecycle) -> None:
        """Dial for the servers until asked to stop."""
        with self.reactor:
            await self.keep_links(life, before_drain=lambda: None)

    def report(self) -> Report:
        routes = [{"virtual": str(each.virtual), "real": str(each.real)} for each in self.config.all_routes]
        return {**super().report(), "group": self.config.group, "routes": routes}

    # Links.

    def link_up(self, end: LinkEnd) -> None:
        self._announce(end, self.config)

    def _announce(self, end: LinkEnd, config: ProxyConfig) -> None:
        end.driver.link.outbox.put_control(Routes(config.group, config.all_routes))

    async def adopt(self, new: DialingConfig) -> None:
        """Routes are withdrawn and added; connections that are open by a route that is withdrawn stay."""
        old, config = self.config, cast("ProxyConfig", new)
        if (old.group, old.all_routes) != (config.group, config.all_routes):
            self._translation = Translation(config.all_routes)
            for end in self.ends:
                if end.greeted:
                    self._announce(end, config)

    def opening_timeout(self, config: DialingConfig) -> float:
        return config.timeouts.dial

    def link_event(self, end: LinkEnd, event: LinkEvent) -> None:
        super().link_event(end, event)
        if not isinstance(event, RoutesAccepted):
            return
        self.life.ready()
        server = end.driver.stream.peer.address
        self._log.info("registered", server=server, routes=" ".join(map(str, self.config.all_routes)))
        for route in event.conflicts:
            self._log.error(
                "route_conflict",
                server=server,
                route=route,
                hint="another group announced this prefix first; give one of them an explicit virtual prefix",
            )

    # Connections.

    def open_requested(self, end: LinkEnd, request: Open) -> None:
        """Dial the target of one connection, or refuse."""
        real = self._translation.real(request.destination.address)
        if real is None:
            self._refuse(end, request, Code.NO_ROUTE, "outside the networks of this proxy")
            return
        if self._draining:
            self._refuse(end, request, Code.DRAINING, "this proxy stops")
            return
        if self.connection_count >= self.config.limits.max_connections:
            self._refuse(end, request, Code.LIMITED, "limits.max_connections reached")
            return
        target = Endpoint(real, request.destination.port)
        self._log.debug(
            "target_dialled",
            connection=request.connection,
            peer=request.client,
            original_target=request.destination,
            target=target,
        )
        try:
            sock = start_dial(target, self.config.tcp_keepalive, watched=request.keepalive)
        except DialFailed as failure:
            self._refuse(end, request, failure.code, f"cannot dial {target}")
            return
        end.dial(request, sock, target)

    def _refuse(self, end: LinkEnd, request: Open, code: Code, detail: str) -> None:
        end.refuse(request, code)
        self._log.info(
            "connection_refused",
            connection=request.connection,
            peer=request.client,
            source=request.source,
            original_target=request.destination,
            cause=code.name.lower(),
            detail=detail,
        )

    def connection_opened(self, end: LinkEnd, splice: Splice, proxy: Party | None) -> None:
        request = splice.request
        self._log.debug(  # the server says it at info, and the end of it says the same and more
            "connection_opened",
            connection=request.connection,
            peer=request.client,
            source=request.source,
            original_target=request.destination,
            target=splice.target,
        )
