"""gRPC beside a socket that systemd listens on: real sockets, in network namespaces made for that."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tunneler.errors import ConfigError
from tunneler.transport.grpcio.adoption import AdoptedSocket

ROOT = Path(__file__).parents[3]
ON, OFF = "1", "0"
"""net.ipv4.tcp_migrate_req."""


def came_of(scenario: str, migrate: str, *within: str) -> Any:
    """What tests.unit.transport.adopting prints.

    Args:
        within: a command that runs another one.
    """
    program = (sys.executable, "-m", "tests.unit.transport.adopting", scenario, migrate)
    done = subprocess.run(
        ["unshare", "--net", *within, *program],
        cwd=ROOT,
        check=False,
        capture_output=True,
        text=True,
        timeout=50,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_what_queued_is_served() -> None:
    """Nobody notices that the service was not there, and nobody has to try again."""
    assert came_of("queued", ON) == {"failed": 0, "reports": []}


def test_what_queued_has_to_dial_again_where_the_kernel_moves_nothing() -> None:
    turned_away = ["queue_turned_away", {"address": "[::]:8081", "count": 20}]
    assert came_of("queued", OFF) == {"failed": 20, "reports": [turned_away]}


def test_a_patient_peer_is_served_in_any_case() -> None:
    assert came_of("queued_patiently", OFF)["failed"] == 0


def test_a_socket_that_systemd_looks_at_is_left_alone() -> None:
    """To it, a socket that stops to listen is broken."""
    assert came_of("queued_while_systemd_looks", ON)["failed"] == 20


def test_new_connections_go_to_grpc_as_long_as_it_listens() -> None:
    assert came_of("beside", OFF) == [10, 10, 20]


@pytest.mark.parametrize("migrate", [ON, OFF])
def test_a_service_that_starts_again_and_again(migrate: str) -> None:
    assert came_of("again", migrate) == [0] * 6


def test_what_a_service_that_was_killed_had_not_accepted() -> None:
    assert came_of("killed", ON) == 10


def test_one_address_written_as_grpc_binds_it() -> None:
    assert came_of("specific_address", ON) == 0


def test_a_socket_of_another_user() -> None:
    """The kernel lets only sockets of one user listen at one address."""
    assert came_of("owned_by_another", OFF) == 0


def test_a_socket_of_another_user_without_the_capability() -> None:
    said = came_of("owned_by_another", OFF, "setpriv", "--bounding-set=-chown")
    assert said.startswith("transport: grpcio cannot listen where the .socket unit does ([::]:8081); ")
    assert "it belongs to another user; let tunneler-server-sockets.service run before" in said


@pytest.fixture
def kept() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


@pytest.mark.parametrize(
    ("host", "reuse", "advice"),
    [
        ("127.0.0.1", True, "write ListenStream="),
        ("::", True, "BindIPv6Only=both"),
        ("::ffff:127.0.0.1", False, "set ReusePort=yes"),
    ],
)
def test_forms_that_grpc_cannot_bind(kept: ExitStack, host: str, reuse: bool, advice: str) -> None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    both = host.startswith("::ffff")
    sock = socket.create_server((host, 0), family=family, dualstack_ipv6=both, reuse_port=reuse)
    kept.callback(sock.close)
    with pytest.raises(ConfigError, match=r"grpcio cannot listen where the \.socket unit does") as caught:
        AdoptedSocket(sock, print)
    assert advice in str(caught.value)
