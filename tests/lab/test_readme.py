"""What the README says about services, typed on the lab that it says to bring up."""

from __future__ import annotations

import shlex
from collections.abc import Iterator

import pytest

from testbed.processes import execute
from tests.lab.rollout import PAGE
from tests.readme import ROOT, example

UP_TIMEOUT = 120.0
RUN_TIMEOUT = 30.0
CURL = "runuser -u nobody -- curl -sS --max-time 10 http://100.64.1.5/"

pytestmark = pytest.mark.timeout(UP_TIMEOUT)


def checkout(command: str, timeout: float = RUN_TIMEOUT) -> str:
    """What a command prints that is typed in the checkout."""
    return execute(("env", f"--chdir={ROOT}", "bash", "-euc", command), timeout=timeout).stdout


def on(host: str, command: str) -> str:
    """What a command prints that is typed on a host of the lab."""
    return checkout(f"scripts/lab run {host} bash -euc {shlex.quote(command)} 2>&1")


@pytest.fixture(scope="module", autouse=True)
def enabling() -> Iterator[str]:
    """The lab of this checkout is up; the other command of that example."""
    enable, up = example("README.md", "systemctl enable").splitlines()
    checkout(up, UP_TIMEOUT)
    yield enable
    checkout("scripts/lab down")


def test_a_client_is_enabled(enabling: str) -> None:
    on("client", "systemctl disable --now tunneler-client.socket; systemctl stop 'tunneler*'")
    on("client", enabling)
    assert on("client", "systemctl is-active tunneler-client.service || true") == "inactive\n"
    assert on("client", CURL) == PAGE
    assert on("client", "systemctl is-active tunneler-client.service") == "active\n"


def test_a_server_is_started_by_hand() -> None:
    on("server", "systemctl stop tunneler-server.socket tunneler-server.service")
    started = example("README.md", "tunneler-server --config").strip()
    said = on("server", f"timeout --preserve-status 3 {started}")
    assert "listening" in said
    on("server", "systemctl start tunneler-server.socket")
