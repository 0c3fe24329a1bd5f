"""TLS contexts: mutual, for HTTP/2, with certificates that may be renewed."""

from __future__ import annotations

import os
import ssl
from collections.abc import Callable
from typing import Final

from tunneler.errors import TransportError
from tunneler.transport.seam import Security, TlsMaterial

ALPN: Final = "h2"
"""RFC 9113 section 3.2."""

_FOR_HTTP2: Final = "ECDHE+AESGCM:ECDHE+CHACHA20"
"""TLS 1.2 with forward secrecy and authenticated encryption; RFC 9113 section 9.2.2 forbids the rest."""


def context_source(security: Security, *, server_side: bool) -> Callable[[], ssl.SSLContext]:
    """A function that returns the context for a new link; made anew when the material is.

    Raises:
        ValueError: the security is plaintext.
    """
    material_source = security.material
    if material_source is None:
        raise ValueError("plaintext has no TLS context")
    made: tuple[TlsMaterial, ssl.SSLContext] | None = None

    def current() -> ssl.SSLContext:
        nonlocal made
        material = material_source()
        if made is None or made[0] is not material:
            made = (material, _make(material, security.minimum_version, server_side=server_side))
        return made[1]

    return current


def _make(material: TlsMaterial, minimum: ssl.TLSVersion, *, server_side: bool) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER if server_side else ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = minimum
    context.set_ciphers(_FOR_HTTP2)
    context.set_alpn_protocols([ALPN])
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
    context.verify_mode = ssl.CERT_REQUIRED
    if server_side:
        context.num_tickets = 0  # every link is a new handshake: nobody would use them
    try:
        context.load_verify_locations(cadata=material.certificate_authority.decode("ascii"))
        _load_pair(context, material)
    except (OSError, ValueError) as error:  # SSLError is of the first, UnicodeDecodeError of the second
        raise TransportError(f"the certificate, its key or the authority cannot be used: {error}") from error
    return context


def _load_pair(context: ssl.SSLContext, material: TlsMaterial) -> None:
    """Load what is in memory, which ssl can do from a file only: one without a name."""
    descriptor = os.memfd_create("tunneler-tls", os.MFD_CLOEXEC)
    try:
        with open(descriptor, "wb", closefd=False) as file:
            file.write(material.private_key + b"\n" + material.certificate_chain)
        # With a password, even of no use, it does not ask for one at a terminal.
        context.load_cert_chain(f"/proc/self/fd/{descriptor}", password="")
    finally:
        os.close(descriptor)
