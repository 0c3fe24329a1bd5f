"""A role that cannot start: one line that says why, and a status that says whether to try again."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.loopback.manager import FakeManager
from tunneler.errors import ExitStatus
from tunneler.pki.issue import LEAF_VALIDITY
from tunneler.pki.store import generate

PROGRAMS = Path(sys.executable).parent
NOW = datetime.now(UTC)
ROLES = {
    "client": ["--server", "127.0.0.1:1", "--no-capture"],
    "server": ["--listen", "127.0.0.1:1"],
    "proxy": ["--server", "127.0.0.1:1", "--managed-cidr", "192.168.1.0/24"],
}


def files(directory: Path, role: str) -> dict[str, Path]:
    return {
        "cert": directory / role / "cert.pem",
        "key": directory / role / "key.pem",
        "ca": directory / "ca" / "cert.pem",
    }


def started(role: str, directory: Path, *flags: str, **environment: str) -> tuple[int, str]:
    """The status and the only line of a program that ends by itself; a service manager is told the same."""
    tls = [f"--tls-{name}={path}" for name, path in files(directory, role).items()]
    with FakeManager(directory / "notify") as manager:
        ended = ended_by_itself(
            role, [*ROLES[role], *tls, *flags], NOTIFY_SOCKET=manager.address, **environment
        )
        said = [line for message in manager.said() for line in message.splitlines()]
    (line,) = ended.stderr.splitlines()
    assert line.startswith(f"tunneler-{role}: ")
    reason = line.removeprefix(f"tunneler-{role}: ")
    assert said[-1] == f"STATUS={reason}"
    assert "READY=1" not in said
    return ended.returncode, reason


def ended_by_itself(role: str, flags: list[str], **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [PROGRAMS / f"tunneler-{role}", *flags],
        env={**os.environ, **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


@pytest.fixture
def pki(tmp_path: Path) -> Path:
    generate(tmp_path, ["127.0.0.1"], force=False, now=NOW)
    return tmp_path


@pytest.fixture
def taken() -> Iterator[str]:
    """A port that somebody else listens at."""
    with socket.create_server(("127.0.0.1", 0)) as sock:
        yield str(sock.getsockname()[1])


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("name", ["cert", "key", "ca"])
def test_a_file_is_missing(pki: Path, role: str, name: str) -> None:
    file = files(pki, role)[name]
    file.unlink()
    status, line = started(role, pki)
    assert status == ExitStatus.CREDENTIALS
    assert line == f"{file}: no such file; make it with tunneler-gencerts or correct the path"


@pytest.mark.parametrize("role", ROLES)
def test_a_wrong_configuration(pki: Path, role: str) -> None:
    status, line = started(role, pki, TUNNELER_LOG_LEVEL="loud")
    assert status == ExitStatus.USAGE
    assert line == "TUNNELER_LOG_LEVEL: log.level: expected 'debug', 'info', 'warning' or 'error', not 'loud'"


@pytest.mark.parametrize("role", ROLES)
def test_a_key_that_others_can_read(pki: Path, role: str) -> None:
    key = files(pki, role)["key"]
    key.chmod(0o644)
    status, line = started(role, pki)
    assert status == ExitStatus.CREDENTIALS
    assert line.startswith(f"{key}: others can get at this private key (mode 0644); ")


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize(
    ("made", "status", "complaint"),
    [
        (NOW - LEAF_VALIDITY - timedelta(days=1), ExitStatus.CREDENTIALS, "expired on "),
        (NOW + timedelta(days=1), ExitStatus.FAILURE, "valid only from "),
    ],
    ids=["expired", "not_yet_valid"],
)
def test_a_certificate_of_another_time(
    tmp_path: Path, role: str, made: datetime, status: ExitStatus, complaint: str
) -> None:
    """It would be refused by every peer, so the role does not start with it."""
    generate(tmp_path, ["127.0.0.1"], force=False, now=made)
    found, line = started(role, tmp_path)
    assert (found, line.split(": ", 1)[0]) == (status, str(files(tmp_path, role)["cert"]))
    assert complaint in line


@pytest.mark.parametrize("transport", ["native", "grpcio"])
def test_the_servers_port_is_in_use(pki: Path, taken: str, transport: str) -> None:
    """By a server that is about to end, perhaps: worth another try."""
    status, line = started("server", pki, "--listen", f"127.0.0.1:{taken}", "--transport", transport)
    assert status == ExitStatus.FAILURE
    assert line == f"cannot listen on 127.0.0.1:{taken}: Address already in use; is another program using it?"


def test_the_capture_port_is_in_use(pki: Path, taken: str) -> None:
    status, line = started("client", pki, "--listen-port", taken)
    assert status == ExitStatus.FAILURE
    assert line == f"cannot listen on 127.0.0.1:{taken}: Address already in use; is another program using it?"


@pytest.mark.parametrize("role", ROLES)
def test_the_admin_port_is_in_use(pki: Path, role: str, taken: str) -> None:
    status, line = started(role, pki, TUNNELER_ADMIN_LISTEN=f"127.0.0.1:{taken}")
    assert status == ExitStatus.FAILURE
    assert line == f"cannot listen on 127.0.0.1:{taken}: Address already in use; is another program using it?"
