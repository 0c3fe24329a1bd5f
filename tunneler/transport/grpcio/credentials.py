"""TLS material in the forms that gRPC takes.

gRPC negotiates TLS 1.3 where the peer can, and has no way in Python to refuse 1.2.
"""

from __future__ import annotations

from collections.abc import Callable
from threading import Lock

import grpc

from tunneler.transport.seam import TlsMaterial


def channel_credentials(material: TlsMaterial) -> grpc.ChannelCredentials:
    """What a dialler shows, and whom it believes."""
    return grpc.ssl_channel_credentials(
        root_certificates=material.certificate_authority,
        private_key=material.private_key,
        certificate_chain=material.certificate_chain,
    )


def server_credentials(source: Callable[[], TlsMaterial]) -> grpc.ServerCredentials:
    """What a listener shows, and whom it believes: asked for before each handshake."""
    current = source()
    lock = Lock()  # gRPC asks on threads of its own

    def renewed() -> grpc.ServerCertificateConfiguration | None:
        nonlocal current
        with lock:
            material = source()
            if material is current:
                return None
            current = material
            return _configuration(material)

    return grpc.dynamic_ssl_server_credentials(
        _configuration(current),
        renewed,  # type: ignore[arg-type]  # None means no change; the stubs do not know
        require_client_authentication=True,
    )


def _configuration(material: TlsMaterial) -> grpc.ServerCertificateConfiguration:
    return grpc.ssl_server_certificate_configuration(
        [(material.private_key, material.certificate_chain)], root_certificates=material.certificate_authority
    )
