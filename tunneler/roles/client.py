"""The client: captures connections on its network and hands them to a server.

listen on the capture port  →  install the rules  →  keep a link to each server
accept  →  original destination  →  is it ours?  →  pick a link  →  OPEN  →  splice
stop: remove the rules, close the listeners, let connections finish, leave
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from hashlib import sha256
from itertools import count
from secrets import token_bytes
from typing import TYPE_CHECKING, cast

from tunneler.addresses import ConnectionId, Endpoint, FourTuple, Role
from tunneler.capture.liveness import Liveness
from tunneler.capture.original import DestinationCheck, accepted_at, original_destination
from tunneler.capture.rules import CaptureBackend
from tunneler.capture.select import backend
from tunneler.engine.lifecycle import Lifecycle, Reread
from tunneler.engine.link_end import LinkEnd
from tunneler.engine.process import run_until_stopped
from tunneler.engine.splice import Splice
from tunneler.errors import CaptureError, Code, ExitStatus
from tunneler.protocol.frames import Open, Party
from tunneler.roles.dialing import DialingRole
from tunneler.roles.passed import require_reach
from tunneler.roles.reports import Report
from tunneler.roles.setup import admin_of, capture_plan_of
from tunneler.sockets.acceptor import Acceptor, has_ipv6, listen
from tunneler.sockets.calls import prepare, reset
from tunneler.systemd.activation import ADMIN, CAPTURED, passed_sockets

if TYPE_CHECKING:
    from tunneler.config.model import ClientConfig, DialingConfig


def run(config: ClientConfig, reread: Reread | None = None) -> ExitStatus:
    """Be a client until stopped.

    Args:
        reread: reads the configuration again.

    Raises:
        TunnelerError: it cannot start.
    """
    passed = passed_sockets(Role.CLIENT, CAPTURED, ADMIN)
    admin = admin_of(config, passed[ADMIN])

    async def serve(life: Lifecycle) -> None:
        client = Client(config, passed[CAPTURED], Liveness.of_environment())
        async with admin(client.report):
            await client.serve(life)

    return run_until_stopped(serve, reread)


class Client(DialingRole):
    """See the module.

    Args:
        listening: sockets where captured connections arrive, instead of ones that are made for it.
        liveness: where whoever keeps the rules looks whether this client lives; closed in the end.
    """

    config: ClientConfig

    def __init__(
        self,
        config: ClientConfig,
        listening: Sequence[socket.socket] = (),
        liveness: Liveness | None = None,
    ) -> None:
        super().__init__(Role.CLIENT, config.client_id, config, accepts_opens=False)
        # Whoever else has the rules keeps the servers out of them; a name need not resolve yet.
        self._plan = capture_plan_of(config, with_servers=config.capture.enabled)
        self._check = DestinationCheck(self._plan)
        self._listening = listening
        require_reach(listening, self._plan)
        self._acceptors: list[Acceptor] = []
        self._accepting = False
        self._liveness = liveness or Liveness(None)
        self._secret = token_bytes(16)
        self._counter = count()
        self._backend: CaptureBackend | None = None

    @property
    def _spares_keepalive(self) -> bool:
        return self.config.timeouts.idle_spares_keepalive and self.config.tcp_keepalive.enabled

    async def serve(self, life: Lifecycle) -> None:
        """Capture and carry connections until asked to stop."""
        with self._liveness, self.reactor, ExitStack() as listening:
            for sock in self._listening or self._listen():
                acceptor = Acceptor(sock, self.reactor, self._accepted, self._log.error, held=True)
                listening.callback(self._acceptors.clear)
                listening.callback(acceptor.close)
                self._acceptors.append(acceptor)
            self._prepare(self.config)
            with self._rules() as pause:

                def stop_capturing() -> None:
                    pause()
                    listening.close()

                await self.keep_links(life, before_drain=stop_capturing)

    def report(self) -> Report:
        return {**super().report(), "captured": [str(network) for network in self._plan.networks]}

    async def adopt(self, new: DialingConfig) -> None:
        """Of the rules, only those of this client's own; whoever else has them reloads them himself."""
        config = cast("ClientConfig", new)
        if self._backend is None:
            plan = capture_plan_of(config, with_servers=False)
        else:  # names are resolved, which may take a while
            plan = await asyncio.to_thread(capture_plan_of, config)
        require_reach(self._listening, plan)
        if self._backend is not None:
            self._backend.install(plan)
        self._plan, self._check = plan, DestinationCheck(plan)
        self._prepare(config)

    def _prepare(self, config: ClientConfig) -> None:
        for acceptor in self._acceptors:
            prepare(acceptor.socket, config.tcp_keepalive)  # what is accepted inherits it

    def opening_timeout(self, config: DialingConfig) -> float:
        return config.timeouts.open

    def link_up(self, end: LinkEnd) -> None:
        self._begin_to_accept()
        self.life.ready()

    def tick(self) -> None:
        super().tick()
        if self.all_tried:
            self._begin_to_accept()
        self._liveness.tell(up=self.usable_links > 0 and not self._draining)
        for acceptor in self._acceptors:
            acceptor.tick()

    def _begin_to_accept(self) -> None:
        """Not before there is a link, or none to be had: the connection that a socket unit started
        the client for is there before either.
        """
        if not self._accepting:
            self._accepting = True
            for acceptor in self._acceptors:
                acceptor.begin()

    # Capture.

    def _listen(self) -> Iterator[socket.socket]:
        """Sockets where captured connections arrive.

        REDIRECT sends this host's own to a loopback address, and a gateway's to the address of
        the interface that they came in by (iptables-extensions(8)).
        """
        hosts = ["0.0.0.0"] if self._plan.gateway else ["127.0.0.1"]
        if has_ipv6():
            hosts.append("::" if self._plan.gateway else "::1")
        return (listen(host, self._plan.listen_port) for host in hosts)

    @contextmanager
    def _rules(self) -> Iterator[Callable[[], None]]:
        """Install the capture rules, and remove them in any case, after the last connection.

        Yields what is to be called before a drain, so that nothing more is captured.
        """
        if not self.config.capture.enabled:
            yield lambda: None
            return
        rules = self._backend = backend(self.config.capture.backend)

        def pause() -> None:
            with self._logged("capture_not_paused"):
                rules.install(self._plan.paused())

        try:
            rules.install(self._plan)
            networks = " ".join(map(str, self._plan.networks))
            self._log.info("capture_installed", backend=rules.name, networks=networks)
            yield pause
        finally:
            with self._logged("capture_not_removed"):
                rules.remove()
                self._log.info("capture_removed", backend=rules.name)

    @contextmanager
    def _logged(self, event: str) -> Iterator[None]:
        """Log what the packet filter refuses; a client that ends has to go on ending."""
        try:
            yield
        except CaptureError as error:
            self._log.error(event, error=error, hint="run: tunneler capture remove")

    def _accepted(self, sock: socket.socket, peer: tuple[str, int]) -> None:
        """Take one captured connection, or refuse it."""
        source = Endpoint.of(peer[0].removeprefix("::ffff:"), peer[1])  # of a socket of both families
        try:
            sock.setblocking(False)
            original = original_destination(sock)
            # Only where it could be the listener itself: it costs a system call.
            here = accepted_at(sock) if original.port == self._plan.listen_port else None
            refusal = self._check.refuse_reason(original, here)
        except (CaptureError, OSError) as error:
            self._log.warning("capture_refused", source=source, reason=error)
            reset(sock)
            return
        if refusal is not None:
            self._log.warning("capture_refused", source=source, original_target=original, reason=refusal)
            reset(sock)
            return
        self._carry(sock, source, original)

    def _carry(self, sock: socket.socket, source: Endpoint, original: Endpoint) -> None:
        # A secret of this process, so that no other client can guess, and take, its ids.
        salt = b"%s/%d" % (self._secret, next(self._counter))
        connection = FourTuple(source, original).connection_id(salt)
        end = self._pick(connection)
        if end is None:
            self._refuse(sock, connection, source, original, Code.LINK_LOST, "no link to a server")
            return
        if self.connection_count >= self.config.limits.max_connections:
            self._refuse(sock, connection, source, original, Code.LIMITED, "limits.max_connections reached")
            return
        self._log.debug("connection_captured", connection=connection, source=source, original_target=original)
        request = Open(connection, source, original, limit=0, keepalive=self._spares_keepalive)
        end.open(request, sock, watch_idle=not self._spares_keepalive)

    def _refuse(
        self,
        sock: socket.socket,
        connection: ConnectionId,
        source: Endpoint,
        original: Endpoint,
        code: Code,
        detail: str,
    ) -> None:
        reset(sock)
        self._log.warning(
            "connection_refused",
            connection=connection,
            source=source,
            original_target=original,
            cause=code.name.lower(),
            detail=detail,
        )

    def _pick(self, connection: ConnectionId) -> LinkEnd | None:
        """The link for a connection: the same for the same id while the same links are up.

        Rendezvous hashing (Thaler and Ravishankar, 1998): losing a server moves only its own.
        """
        ends = [end for end in self.ends if end.usable]
        if len(ends) < 2:
            return ends[0] if ends else None
        return max(ends, key=lambda end: sha256(connection + str(end.driver.stream.peer).encode()).digest())

    # Connections.

    def connection_opened(self, end: LinkEnd, splice: Splice, proxy: Party | None) -> None:
        request = splice.request
        self._log.debug(  # the server says it at info, and the end of it says the same and more
            "connection_opened",
            connection=request.connection,
            peer=proxy,
            source=request.source,
            original_target=request.destination,
        )
