"""What the three roles set up alike."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, contextmanager, nullcontext
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING

from tunneler.addresses import Role
from tunneler.config.hosts import is_loopback
from tunneler.engine.backoff import Backoff
from tunneler.errors import PkiError
from tunneler.observability import log
from tunneler.observability.admin_door import AdminDoor
from tunneler.observability.log import EventLog
from tunneler.pki.credentials import EXPIRY_WARNING_DAYS, Credentials, days_left
from tunneler.pki.identity import identity_of_certificate
from tunneler.pki.renewal import RenewedCredentials
from tunneler.protocol.link import Timing
from tunneler.roles.passed import address_of
from tunneler.roles.reports import Report
from tunneler.sockets.acceptor import listen
from tunneler.sockets.reactor import Reactor
from tunneler.transport.seam import Dialer, Listener, Security

if TYPE_CHECKING:
    from tunneler.capture.rules import CapturePlan
    from tunneler.config.model import ClientConfig, DialingConfig, RoleConfig, ServerConfig

_log = EventLog("setup")

AdminPort = Callable[[Callable[[], Report]], AbstractAsyncContextManager[None]]

SPARE_PEERS = 64
"""Peers beyond limits.max_links that a server lets in: to be told so, or for a health check."""

TLS_VERSIONS = {"1.3": ssl.TLSVersion.TLSv1_3, "1.2": ssl.TLSVersion.TLSv1_2}


def security_of(config: RoleConfig, role: Role) -> Security:
    """Load the certificate and key that the configuration names, and follow their files from then on.

    Raises:
        PkiError: they cannot be used.
    """
    tls = config.tls
    minimum = TLS_VERSIONS[tls.min_version]
    if tls.insecure or tls.cert_file is None or tls.key_file is None or tls.ca_file is None:
        _log.warning("plaintext", hint="tls.insecure is set: nobody is authenticated, nothing is encrypted")
        return Security(None, identity_of_certificate, minimum)

    def renewed(credentials: Credentials) -> None:
        days = days_left(credentials, now=datetime.now(UTC))
        _log.info("certificate_renewed", file=material.files[0], days=days)
        _warn_of_expiry(material)

    def not_renewed(error: PkiError) -> None:
        file = material.files[0]
        _log.error("certificate_not_renewed", file=file, reason=error, hint="new links use the old one")

    material = RenewedCredentials(
        tls.cert_file, tls.key_file, tls.ca_file, role, renewed=renewed, not_renewed=not_renewed
    )
    _warn_of_expiry(material)
    return Security(material, identity_of_certificate, minimum)


def _reloaded_credentials(security: Security, config: RoleConfig) -> Callable[[], None]:
    """Check the certificate and key that a changed configuration names; calling what is returned uses them.

    Files that are named as before and cannot be used are no reason to refuse the rest: the log
    says so, and new links use what was loaded from them last.

    Raises:
        PkiError: others are named, and cannot be used.
    """
    tls, material = config.tls, security.material
    if not isinstance(material, RenewedCredentials):
        return lambda: None
    if tls.cert_file is None or tls.key_file is None or tls.ca_file is None:
        return material.look
    files = (tls.cert_file, tls.key_file, tls.ca_file)
    return material.look if files == material.files else material.moved_to(*files)


@contextmanager
def reconfigured(role: Role, old: RoleConfig, new: RoleConfig, security: Security) -> Iterator[None]:
    """Put the log and the credentials of another configuration in force, around what the role does about it.

    Raises:
        TunnelerError: it cannot be. Nothing has changed then, nor if the block raises.
    """
    use_credentials = _reloaded_credentials(security, new)
    configure_log(role, new)
    try:
        yield
    except BaseException:
        configure_log(role, old)
        raise
    use_credentials()


def configure_log(role: Role, config: RoleConfig) -> None:
    """Raises ConfigError: there cannot be such a log."""
    log.configure(role, config.log.level, config.log.format, config.log.output)


def _warn_of_expiry(material: RenewedCredentials) -> None:
    days = days_left(material(), now=datetime.now(UTC))
    if days < EXPIRY_WARNING_DAYS:
        _log.warning("certificate_expires_soon", file=material.files[0], days=days)


def capture_plan_of(config: ClientConfig, *, with_servers: bool = True) -> CapturePlan:
    """What the client's rules must be.

    Args:
        with_servers: exclude the servers' addresses, which takes as long as their names take to resolve.

    Raises:
        CaptureError: a server's name cannot be resolved.
    """
    from tunneler.capture.select import plan_for

    return plan_for(
        networks=config.target_cidr,
        listen_port=config.listen_port,
        exclude=config.exclude,
        servers=config.server_addr if with_servers else (),
        gateway=config.capture.gateway,
        user=config.capture.user,
    )


def admin_of(config: RoleConfig, passed: Sequence[socket.socket]) -> AdminPort:
    """The admin port, if there is to be one: it answers, with what a function reports, while it is open.

    Args:
        passed: sockets for it, instead of ``admin.listen``.

    Raises:
        TransportError: the address cannot be had.
    """
    address = config.admin.listen
    listening = passed or ([listen(*address)] if address is not None else ())
    if not listening:
        return lambda _: nullcontext()
    _log.info("admin_listening", address=" ".join(map(_name_of, listening)))
    for sock in listening:
        if sock.family != socket.AF_UNIX and not is_loopback(address_of(sock).host):
            _log.warning("admin_exposed", address=_name_of(sock))
    return partial(AdminDoor, listening)


def _name_of(sock: socket.socket) -> str:
    return sock.getsockname() if sock.family == socket.AF_UNIX else str(address_of(sock))


def timing_of(config: RoleConfig) -> Timing:
    timeouts = config.timeouts
    return Timing(timeouts.heartbeat, timeouts.silence, timeouts.handshake)


def backoff_of(config: RoleConfig) -> Backoff:
    timeouts = config.timeouts
    return Backoff(timeouts.backoff_start, timeouts.backoff_cap, timeouts.backoff_reset)


def dialer_of(config: DialingConfig, role: Role, security: Security, reactor: Reactor) -> Dialer:
    """The transport that the links of a client or proxy use."""
    timeout = config.timeouts.handshake
    if config.transport == "native":
        from tunneler.transport.native.dialer import NativeDialer

        return NativeDialer(role, security, reactor, timeout)
    from tunneler.transport.grpcio.settings import configure_environment

    configure_environment()
    from tunneler.transport.grpcio.dialer import GrpcDialer

    return GrpcDialer(role, security, timeout)


def listener_of(
    config: ServerConfig,
    security: Security,
    reactor: Reactor,
    max_links: Callable[[], int],
    report: Callable[..., None],
) -> Listener:
    """The transport that a server's links arrive by."""
    if config.transport == "native":
        from tunneler.transport.native.listener import NativeListener

        return NativeListener(security, reactor, lambda: max_links() + SPARE_PEERS, report)
    from tunneler.transport.grpcio.settings import configure_environment

    configure_environment()
    from tunneler.transport.grpcio.listener import GrpcListener

    return GrpcListener(security, report)
