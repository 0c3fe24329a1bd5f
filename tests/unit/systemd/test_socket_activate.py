"""Our programs as systemd's own tool starts them: at the first connection, with its socket."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.request import urlopen

import grpc
import pytest

from tests.loopback.trio import HOST, free_port
from tunneler.wire.health import CHECK, ServingStatus, response

PROGRAMS = Path(sys.executable).parent
PATIENCE = 20.0


@contextmanager
def activated(port: int, program: str, *flags: str, name: str = "") -> Iterator[subprocess.Popen[bytes]]:
    """What is to be started by a connection to ``port``; its standard output and error are one.

    Args:
        name: of the socket, as FileDescriptorName= would have it.
    """
    listen = ["--listen", f"{HOST}:{port}", *([f"--fdname={name}"] if name else [])]
    process = subprocess.Popen(
        ["systemd-socket-activate", *listen, str(PROGRAMS / program), *flags],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    with process:
        try:
            line_with(process, b"Listening on")
            yield process
        finally:
            process.kill()


def line_with(process: subprocess.Popen[bytes], words: bytes) -> bytes:
    """Read up to the first such line; the test's own timeout ends a wait that is too long."""
    assert process.stdout is not None
    for line in process.stdout:
        if words in line:
            return line
    raise AssertionError(f"{process.args!r} ended with {process.wait(PATIENCE)}, and never said {words!r}")


def test_a_client(tmp_path: Path) -> None:
    """Nobody redirected the connection, so the client refuses it: it came by the passed socket."""
    port = free_port()
    file = tmp_path / "client.json"
    settings = {"listen_port": port, "server_addr": f"{HOST}:{free_port()}", "tls": {"insecure": True}}
    file.write_text(json.dumps({**settings, "capture": {"enabled": False}}))
    with (
        activated(port, "tunneler-client", "--config", str(file)) as process,
        socket.create_connection((HOST, port)) as application,
    ):
        application.settimeout(PATIENCE)
        with pytest.raises(ConnectionResetError):
            application.recv(1)
        refused = json.loads(line_with(process, b"capture_refused"))
        assert "no original destination" in refused["reason"]
        process.terminate()
        assert process.wait(PATIENCE) == 0


def test_a_client_with_another_port_in_mind() -> None:
    port, other = free_port(), free_port()
    flags = ("--server", f"{HOST}:1", "--tls-insecure", "--no-capture", "--listen-port", str(other))
    with (
        activated(port, "tunneler-client", *flags) as process,
        socket.create_connection((HOST, port)),
    ):
        said = line_with(process, b"listen_port")
        assert process.wait(PATIENCE) == 2
    assert f"which is {port}, not {other}".encode() in said


def test_a_server_answers_the_connection_that_started_it() -> None:
    port = free_port()
    flags = ("--listen", f"{HOST}:{port}", "--tls-insecure", "--transport", "native")
    with (
        activated(port, "tunneler-server", *flags) as process,
        grpc.insecure_channel(f"{HOST}:{port}") as channel,
    ):
        check = channel.unary_unary(CHECK)  # type: ignore[call-arg]
        assert check(b"", timeout=PATIENCE, wait_for_ready=True) == response(ServingStatus.SERVING)
        listening = json.loads(line_with(process, b"listening"))
        assert listening["address"] == f"{HOST}:{port}"
        process.terminate()
        assert process.wait(PATIENCE) == 0


ROLES = {
    "server": ("--listen", f"{HOST}:{free_port()}"),
    "client": ("--server", f"{HOST}:1", "--no-capture", "--listen-port", str(free_port())),
    "proxy": ("--server", f"{HOST}:1", "--managed-cidr", "192.168.1.0/24"),
}


@pytest.mark.parametrize("role", ROLES)
def test_the_admin_port_of_a_role(role: str) -> None:
    port = free_port()
    with activated(
        port, f"tunneler-{role}", "--tls-insecure", *ROLES[role], name="tunneler-admin"
    ) as process:
        with urlopen(f"http://{HOST}:{port}/status", timeout=PATIENCE) as answer:
            status = json.load(answer)
        assert (status["role"], status["state"]) == (role, "ready" if role == "server" else "starting")
        line_with(process, b"admin_listening")
        process.terminate()
        assert process.wait(PATIENCE) == 0


def test_a_server_with_the_stock_transport() -> None:
    port = free_port()
    flags = ("--listen", f"{HOST}:{port}", "--tls-insecure", "--transport", "grpcio")
    with (
        activated(port, "tunneler-server", *flags) as process,
        socket.create_connection((HOST, port)),
    ):
        line_with(process, b"BindIPv6Only=both")
        assert process.wait(PATIENCE) == 2
