"""What the three roles set up alike."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

from tunneler.addresses import Role
from tunneler.capture.rules import CapturePlan
from tunneler.capture.select import plan_for
from tunneler.config.model import ClientConfig, DialingConfig, RoleConfig, ServerConfig
from tunneler.engine.backoff import Backoff
from tunneler.observability.log import EventLog
from tunneler.pki.credentials import EXPIRY_WARNING_DAYS, days_left, load_credentials
from tunneler.pki.identity import identity_of_certificate
from tunneler.protocol.link import Timing
from tunneler.transport.seam import Dialer, Listener, Security

_log = EventLog("setup")


def security_of(config: RoleConfig, role: Role) -> Security:
    """Load the certificate and key that the configuration names.

    Raises:
        PkiError: they cannot be used.
    """
    tls = config.tls
    if tls.insecure or tls.cert_file is None or tls.key_file is None or tls.ca_file is None:
        _log.warning("plaintext", hint="tls.insecure is set: nobody is authenticated, nothing is encrypted")
        return Security(None, identity_of_certificate)
    now = datetime.now(UTC)
    credentials = load_credentials(tls.cert_file, tls.key_file, tls.ca_file, role, now=now)
    days = days_left(credentials, now=now)
    if days < EXPIRY_WARNING_DAYS:
        _log.warning("certificate_expires_soon", file=tls.cert_file, days=days)
    return Security(credentials, identity_of_certificate)


def capture_plan_of(config: ClientConfig) -> CapturePlan:
    """What the client's rules must be.

    Raises:
        CaptureError: a server's name cannot be resolved.
    """
    return plan_for(
        networks=config.target_cidr,
        listen_port=config.listen_port,
        exclude=config.exclude,
        servers=config.server_addr,
        gateway=config.capture.gateway,
        user=config.capture.user,
    )


def timing_of(config: RoleConfig) -> Timing:
    timeouts = config.timeouts
    return Timing(timeouts.heartbeat, timeouts.silence, timeouts.handshake)


def backoff_of(config: RoleConfig) -> Backoff:
    timeouts = config.timeouts
    return Backoff(timeouts.backoff_start, timeouts.backoff_cap, timeouts.backoff_reset)


def dialer_of(config: DialingConfig, role: Role) -> Dialer:
    """The transport that the links of a client or proxy use."""
    from tunneler.transport.grpcio.settings import configure_environment

    configure_environment()
    from tunneler.transport.grpcio.dialer import GrpcDialer

    return GrpcDialer(role, security_of(config, role), config.timeouts.handshake)


def listener_of(config: ServerConfig, report: Callable[..., None]) -> Listener:
    """The transport that a server's links arrive by."""
    from tunneler.transport.grpcio.settings import configure_environment

    configure_environment()
    from tunneler.transport.grpcio.listener import GrpcListener

    return GrpcListener(security_of(config, Role.SERVER), report)
