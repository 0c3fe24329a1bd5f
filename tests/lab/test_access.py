"""Who comes by ssh reaches the hosts of a bare lab, whatever happens to them, and nobody else is let in."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from testbed import standard_topology, wait_until
from tests.lab import access
from tests.lab.bed import How
from tests.lab.nspawn import NspawnBed

pytestmark = pytest.mark.timeout(300)  # the tree may have to be made first


@dataclass(frozen=True)
class Visitor:
    """A bare lab, and the directory of one who comes by ssh."""

    bed: NspawnBed
    directory: Path

    def ssh(self, host: str, script: str, *options: str) -> subprocess.CompletedProcess[str]:
        command = ("ssh", "-F", str(self.directory / access.SSH_CONFIG), *options)
        return subprocess.run(
            (*command, f"{host}.{self.bed.name}", script),
            capture_output=True,
            text=True,
            timeout=20,
            check=False,
        )


@pytest.fixture(scope="module")
def visitor(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Visitor]:
    directory = tmp_path_factory.mktemp("access")
    with NspawnBed(bare=True) as bed:
        bed.up(standard_topology())
        access.give(bed, bed.name, directory)
        yield Visitor(bed, directory)


def test_ssh_reaches_every_host_of_the_inventory(visitor: Visitor) -> None:
    inventory = yaml.safe_load((visitor.directory / access.INVENTORY).read_text())
    names = [name for group in inventory["all"]["children"].values() for name in group["hosts"]]
    assert sorted(names) == ["client", "proxy", "server"]
    for name in names:
        assert visitor.ssh(name, "uname -n").stdout == f"{name}\n"


def test_a_bare_host_has_nothing_of_the_product(visitor: Visitor) -> None:
    for name in ("client", "server", "proxy"):
        found = visitor.ssh(name, "find / -xdev -iname '*tunneler*'")
        assert (found.returncode, found.stdout) == (0, "")


def test_ssh_works_with_the_cables_cut_and_after_a_reboot(visitor: Visitor) -> None:
    visitor.bed.link("client", "access", up=False)
    visitor.bed.reboot("client", How.POWER_CUT)
    wait_until(lambda: visitor.ssh("client", "true").returncode == 0, 20, "ssh reaches the client again")


def test_another_key_is_refused(visitor: Visitor, tmp_path: Path) -> None:
    key = tmp_path / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], timeout=20, check=True)
    config = (visitor.directory / access.SSH_CONFIG).read_text()
    other = tmp_path / "config"
    other.write_text(config.replace(str(visitor.directory / access.KEY), str(key)))
    done = visitor.ssh("client", "true", "-F", str(other), "-o", "BatchMode=yes")
    assert (done.returncode, "Permission denied" in done.stderr) == (255, True)


def test_ssh_says_which_lab_is_not_up(visitor: Visitor) -> None:
    options = ("-o", "LogLevel=INFO", "-o", f"HostName=client.{visitor.bed.name}.gone")
    assert f"{visitor.bed.name}.gone is not up" in visitor.ssh("client", "true", *options).stderr


def test_only_its_owner_reads_the_key(visitor: Visitor) -> None:
    assert (visitor.directory / access.KEY).stat().st_mode & 0o777 == 0o600
