"""gRPC's knobs, each with the reason for its value.

Names and meanings: grpc's ``include/grpc/impl/channel_arg_names.h`` and, for the
experiments, ``src/core/lib/experiments/experiments.yaml``.
"""

from __future__ import annotations

import os
from typing import Final

from tunneler.protocol.frames import MAX_BATCH_ACCEPTED

EXPERIMENTS: Final = "-event_engine_client,-event_engine_listener"
"""The classic pollers: one thread hand-over less for each message (20 % less latency)."""

HANDSHAKE_MILLISECONDS: Final = 5_000
PING_MILLISECONDS: Final = 250
"""Shortest interval of a peer's keepalive PINGs; gRPC's own servers allow one in five minutes, and, without
a call, one in two hours (doc/keepalive.md). The third PING that comes earlier ends the connection."""

OPTIONS: Final = (
    ("grpc.max_receive_message_length", MAX_BATCH_ACCEPTED),
    ("grpc.max_send_message_length", MAX_BATCH_ACCEPTED),
    # A full batch in one HTTP/2 frame, not in dozens of 16 KiB.
    ("grpc.http2.max_frame_size", 16_777_215),
    # Receive window of a stream: room for the batches in flight on a fast path.
    ("grpc.http2.lookahead_bytes", 8 * 1024 * 1024),
    # Heartbeats are frames of our own, which prove that the peer's loop runs, not only its TCP.
    ("grpc.keepalive_time_ms", 2_147_483_647),
    # A link that is retried must not wait for the back-off of an earlier channel.
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.enable_http_proxy", 0),
    ("grpc.enable_retries", 0),
)

_SERVER_OPTIONS: Final = (
    *OPTIONS,
    # A peer that connects and says nothing is dropped.
    ("grpc.server_handshake_timeout_ms", HANDSHAKE_MILLISECONDS),
    ("grpc.max_concurrent_streams", 4),
    ("grpc.http2.min_ping_interval_without_data_ms", PING_MILLISECONDS),
    ("grpc.keepalive_permit_without_calls", 1),
)


def server_options(*, beside: bool) -> tuple[tuple[str, int], ...]:
    """Options of a server.

    Args:
        beside: it listens at an address where another socket does, too. Elsewhere a port in use is an
            error: two servers would each get half the links.
    """
    return (*_SERVER_OPTIONS, ("grpc.so_reuseport", int(beside)))


def configure_environment() -> None:
    """Set what gRPC reads from the environment; before its first import. An operator's own setting wins."""
    os.environ.setdefault("GRPC_EXPERIMENTS", EXPERIMENTS)
    os.environ.setdefault("GRPC_DNS_RESOLVER", "native")
