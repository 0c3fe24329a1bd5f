"""A role as a program that a service manager started: what it is told from readiness to the end."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.loopback.manager import PATIENCE, FakeManager
from tests.loopback.trio import HOST, free_port


class Service:
    """A server that reads ``server.yaml``."""

    def __init__(self, directory: Path, pki: Path) -> None:
        self.manager = FakeManager(directory / "notify")
        self._file = directory / "server.yaml"
        self._log = directory / "log"
        self._tls = {
            "cert_file": str(pki / "server" / "cert.pem"),
            "key_file": str(pki / "server" / "key.pem"),
            "ca_file": str(pki / "ca" / "cert.pem"),
        }
        self.port = free_port()
        self.write()

    def write(self, **options: Any) -> None:
        content = {"listen_addr": f"{HOST}:{self.port}", "tls": self._tls, "log": {"output": str(self._log)}}
        self._file.write_text(json.dumps({**content, **options}))  # YAML is more than JSON

    def start(self) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [sys.executable, "-m", "tunneler", "server", "--config", str(self._file)],
            env={**os.environ, "NOTIFY_SOCKET": self.manager.address, "WATCHDOG_USEC": "2000000"},
        )

    def events(self, name: str) -> list[dict[str, Any]]:
        """Those of a name, up to now."""
        lines = self._log.read_text().splitlines() if self._log.exists() else []
        return [event for event in map(json.loads, lines) if event["event"] == name]

    def wait_for_event(self, name: str) -> dict[str, Any]:
        deadline = time.monotonic() + PATIENCE
        while not self.events(name):
            assert time.monotonic() < deadline, name
            time.sleep(0.01)  # it is looked again until then
        return self.events(name)[-1]


@pytest.fixture
def service(tmp_path: Path, pki: Path) -> Iterator[Service]:
    made = Service(tmp_path, pki)
    with made.manager:
        yield made


@contextmanager
def running(service: Service) -> Iterator[subprocess.Popen[bytes]]:
    with service.start() as process:
        try:
            yield process
        finally:
            process.kill()


def test_a_life(service: Service) -> None:
    with running(service) as process:
        assert service.manager.wait_for("READY=1") == "READY=1\nSTATUS=0 links, 0 connections"
        service.manager.wait_for("WATCHDOG=1")

        service.write(limits={"max_links": 7}, transport="grpcio")
        process.send_signal(signal.SIGHUP)
        assert "MONOTONIC_USEC=" in service.manager.wait_for("RELOADING=1")
        service.manager.wait_for("READY=1")
        assert service.wait_for_event("reloaded")["changed"] == "limits.max_links"
        assert service.wait_for_event("restart_needed")["changed"] == "transport"

        service.write(limts={})
        process.send_signal(signal.SIGHUP)
        service.manager.wait_for("RELOADING=1")
        service.manager.wait_for("READY=1")
        assert "unknown key; did you mean limits?" in service.wait_for_event("reload_refused")["error"]

        process.send_signal(signal.SIGTERM)
        service.manager.wait_for("STOPPING=1")
        assert process.wait(PATIENCE) == 0


def test_a_hangup_while_it_starts(service: Service) -> None:
    """From the time that it reads its configuration on; before, it is Python that starts."""
    with running(service) as process:
        deadline = time.monotonic() + PATIENCE
        while not hangup_is_blocked(process.pid):
            assert time.monotonic() < deadline
        process.send_signal(signal.SIGHUP)
        service.manager.wait_for("READY=1")
        service.manager.wait_for("RELOADING=1")
        service.manager.wait_for("READY=1")
        assert service.wait_for_event("reloaded")["changed"] == "nothing"


def hangup_is_blocked(pid: int) -> bool:
    """As proc_pid_status(5) tells."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("SigBlk:"):
            return bool(int(line.split()[1], 16) >> (signal.SIGHUP - 1) & 1)
    return False
