"""What a server says of its health, to whoever has a certificate of ours."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from tunneler.http2.codes import Status
from tunneler.transport.seam import CallRefused, UnaryHandler
from tunneler.wire.health import CHECK, ServingStatus, read_request, response

SERVICES = frozenset({"", "tunneler.v1.Tunnel"})
"""The server as a whole, by the empty name, and the one service that it has."""


def health_calls(is_draining: Callable[[], bool]) -> Mapping[str, UnaryHandler]:
    """The methods of ``grpc.health.v1.Health`` that a server offers."""

    def check(request: bytes) -> bytes:
        try:
            service = read_request(request)
        except ValueError:
            raise CallRefused(Status.INVALID_ARGUMENT) from None
        if service not in SERVICES:
            raise CallRefused(Status.NOT_FOUND)  # as health.proto has it
        return response(ServingStatus.NOT_SERVING if is_draining() else ServingStatus.SERVING)

    return {CHECK: check}
