"""The examples of the collection's READMEs, in turn, on the lab that the first of them brings up."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from testbed.processes import execute
from tests.lab.rollout import PAGE
from tests.readme import ROOT, example

ROLL_OUT_TIMEOUT = 600.0
pytestmark = [pytest.mark.slow, pytest.mark.timeout(2 * ROLL_OUT_TIMEOUT)]

NAMES = {"relay.example.org": "server", "site-1.example.org": "proxy", "desk.example.org": "client"}
"""The hosts of the examples are those of the lab."""
MINE = ROOT / "ansible/inventory/mine"


def typed(block: str, **environment: str) -> str:
    """What a block prints that is typed in the checkout."""
    command = ("env", f"--chdir={ROOT}", "bash", "-euc", block)
    ours = {"ANSIBLE_NOCOLOR": "1", "PATH": os.environ["PATH"], "HOME": os.environ["HOME"]}
    done = execute(command, timeout=ROLL_OUT_TIMEOUT, env=ours | environment, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def on(host: str, command: str) -> str:
    """What a command prints that is typed on a host of the lab."""
    return typed(f"scripts/lab run {host} {command}")


@pytest.fixture(scope="module")
def rolled_out() -> Iterator[str]:
    """What the first example prints: from a checkout to a path through bare hosts."""
    assert typed("scripts/lab status || true") == "down\n", (
        "scripts/lab down first: it is this checkout's lab"
    )
    try:
        yield typed(example("README.md", "scripts/bundle"))
    finally:
        shutil.rmtree(MINE, ignore_errors=True)
        typed("scripts/lab down")


@pytest.fixture
def named(rolled_out: str) -> None:
    """The hosts know the relay by its name."""
    for host, address in (("proxy", "10.77.2.1"), ("client", "10.77.1.1"), ("server", "127.0.0.1")):
        known = f"grep -qs relay /etc/hosts || echo {address} relay.example.org >>/etc/hosts"
        on(host, f"bash -c '{known}'")


def test_from_a_checkout_to_a_path(rolled_out: str) -> None:
    assert rolled_out.endswith(PAGE)


def test_each_role_by_itself(named: None, tmp_path: Path) -> None:
    plays = (
        example("ansible/roles/server/README.md", "- hosts"),
        example("ansible/roles/proxy/README.md", "- hosts"),
        example("ansible/roles/client/README.md", "- hosts"),
    )
    book = tmp_path / "roles.yml"
    book.write_text("---\n" + "\n".join(plays))
    typed(f"cd ansible && ../.venv/bin/ansible-playbook -i ../.lab/inventory.yml {book}")
    assert "server_addr: relay.example.org:8081" in on("client", "cat /etc/tunneler/client.yaml")
    assert on("client", "curl -sS --retry 20 --retry-all-errors http://100.64.1.5/") == PAGE


def test_an_inventory_of_ones_own(named: None, tmp_path: Path) -> None:
    """The example's hosts, reached as ~/.ssh/config may say."""
    assert not MINE.exists()
    config = tmp_path / "ssh_config"
    config.write_text(_ssh_config())
    typed(example("ansible/README.md", "scripts/bundle"), ANSIBLE_SSH_ARGS=f"-F {config}")
    assert (MINE / "pki/ca/cert.pem").exists()
    assert on("client", "curl -sS --retry 20 --retry-all-errors http://100.64.1.5/") == PAGE


def _ssh_config() -> str:
    """That of the lab, under the names of the example."""
    text = (ROOT / ".lab/ssh_config").read_text(encoding="utf-8")
    found = re.search(r"^Host \*\.(\S+)\n", text)
    assert found
    options = text[found.end() :]
    return "".join(f"Host {name}\n    HostName {host}.{found[1]}\n{options}" for name, host in NAMES.items())
