"""Who is at the other end of a carrier."""

from __future__ import annotations

import ssl

from tunneler.addresses import Identity, Role
from tunneler.errors import PkiError, TransportError
from tunneler.transport.native.channel import Channel
from tunneler.transport.native.contexts import ALPN
from tunneler.transport.seam import Security


def check_protocol(channel: Channel) -> None:
    """Raises TransportError: TLS was not asked for HTTP/2 (RFC 9113 section 3.2)."""
    if channel.protocol != ALPN:
        raise TransportError(f"the peer does not offer HTTP/2 (ALPN {ALPN!r})")


def identity_of_peer(channel: Channel, security: Security, role: Role | None = None) -> Identity:
    """Read the identity out of the certificate that TLS has verified.

    Args:
        role: what it must be; None for any.

    Raises:
        TransportError: it names nobody, or somebody of another role.
    """
    certificate = channel.peer_certificate()
    if certificate is None:
        raise TransportError("the peer showed no certificate")
    try:
        identity = security.identify(ssl.DER_cert_to_PEM_cert(certificate).encode("ascii"))
    except PkiError as error:
        raise TransportError(f"the peer's certificate is not accepted: {error}") from error
    if role is not None and identity.role is not role:
        raise TransportError(f"the peer's certificate is that of {identity.uri}, which is not a {role}")
    return identity
