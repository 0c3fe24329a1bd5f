"""A control host's view: playbooks that are run against a bare lab, and what they said they did."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from testbed import standard_topology
from testbed.processes import execute
from testbed.suite import PROGRAMS
from tests.lab import access, program
from tests.lab.kept import KeptBed
from tests.lab.rollout import Rollout, run, serve_page

ANSIBLE = program.ROOT / "ansible"
PLAYBOOK_TIMEOUT = 600.0
"""Seconds; from bare hosts it takes one to two minutes, mostly ssh and Python on both sides."""
BUNDLE_TIMEOUT = 300.0
OLD, NEW, BROKEN = "0.1.0", "0.1.1", "0.1.2"
"""Versions: the first two have a bundle."""
HOSTS = ("server", "proxy", "client")

_RECAP = re.compile(r"^(\w+) +: ok=\d+ +changed=(\d+) +unreachable=(\d+) +failed=(\d+)", re.MULTILINE)
_TASK = re.compile(r"^(?:TASK|RUNNING HANDLER) \[(.*)\] \*+$")
_CHANGED = re.compile(r"^changed: \[(\w+)")


@dataclass(frozen=True)
class Outcome:
    """What ansible-playbook said."""

    status: int
    output: str

    @property
    def changes(self) -> dict[str, int]:
        """Number of changes by host."""
        return {host: int(changed) for host, changed, _, _ in _RECAP.findall(self.output)}

    @property
    def changed(self) -> list[str]:
        """Names of the tasks that changed something, handlers included, in order."""
        names: list[str] = []
        task = ""
        for line in self.output.splitlines():
            if found := _TASK.match(line):
                task = found[1]
            elif _CHANGED.match(line) and task not in names:
                names.append(task)
        return names


@dataclass(frozen=True)
class Control:
    """Runs playbooks against the lab."""

    bed: KeptBed
    inventory: Path
    bundles: Path
    collections: Path | None = None
    """Where the collection is installed; the checkout's own playbooks if it is not."""

    def play(self, playbook: str, *arguments: str, version: str = OLD) -> Outcome:
        """Run a playbook to its end, whatever that is."""
        variables = (
            "-e",
            f"tunneler_version={version}",
            "-e",
            f"tunneler_bundle={self.bundles}/{version}.pex",
        )
        command = (str(PROGRAMS / "ansible-playbook"), "-i", str(self.inventory), *variables, *arguments)
        directory, name, environment = ANSIBLE, f"playbooks/{playbook}.yml", {}
        if self.collections is not None:
            directory, name = self.inventory.parent, f"tunneler.tunneler.{playbook}"
            environment = {"ANSIBLE_COLLECTIONS_PATH": str(self.collections)}
        done = execute(
            ("env", f"--chdir={directory}", *command, name),
            timeout=PLAYBOOK_TIMEOUT * self.bed.time_scale,
            check=False,
            env={
                "ANSIBLE_NOCOLOR": "1",
                "PATH": os.environ["PATH"],
                "HOME": os.environ["HOME"],
                **environment,
            },
        )
        return Outcome(done.returncode, done.stdout + done.stderr)

    def run(self, host: str, script: str) -> str:
        """Run a script on a host; BedError unless it succeeds."""
        return run(self.bed, host, script)

    def wait_for_path(self) -> None:
        """Wait until the client reaches the target; BedError: not in time."""
        Rollout(self.bed, self.inventory.parent).wait_for_path()

    def files(self, host: str) -> set[str]:
        """Names of what is on the disk of a host, without what every boot and every login writes."""
        passed = "/root/.ansible /tmp /var/tmp /var/log /var/cache /var/lib/systemd"
        prune = " -o ".join(f"-path {path}" for path in passed.split())
        return set(self.run(host, f"find / -xdev \\( {prune} \\) -prune -o -print").splitlines())

    def state(self, host: str) -> str:
        """What the product is on a host: its files with their contents, and its processes."""
        return self.run(
            host,
            "find /etc/tunneler /opt/tunneler /usr/lib/systemd/system/tunneler* /etc/systemd/system"
            " -type f -not -path '*/__pycache__/*' -exec sha256sum {} + 2>/dev/null | sort"
            "; readlink /opt/tunneler/current"
            "; systemctl show --property=Id,MainPID,ActiveState,UnitFileState 'tunneler*'",
        )

    def pid(self, host: str, unit: str = "") -> int:
        """Of the main process of a host's service."""
        return int(self.run(host, f"systemctl show --value -p MainPID {unit or f'tunneler-{host}'}.service"))


@contextmanager
def bare_hosts(
    bed: KeptBed, directory: Path, bundles: Path, collections: Path | None = None
) -> Iterator[Control]:
    """The view of bare hosts, of which the target serves a page; ``directory`` is for the way to them."""
    with bed:
        bed.up(standard_topology())
        serve_page(bed)
        yield Control(bed, access.give(bed, bed.name, directory), bundles, collections)


def make_bundle(directory: Path, version: str) -> Path:
    """A bundle of the checkout under some version."""
    bundle = directory / f"{version}.pex"
    execute((str(program.ROOT / "scripts/bundle"), str(bundle), version), timeout=BUNDLE_TIMEOUT)
    return bundle
