"""The first bed: systemd-nspawn containers booted from one tree."""

from __future__ import annotations

from pathlib import Path

from testbed.namespaces import kernel_settings, link_commands
from testbed.topology import Topology
from tests.lab import base, cgroups, program
from tests.lab.bed import BedError, Feature
from tests.lab.kept import ENVIRONMENT, KeptBed, cable, hosts_file, port_name
from tests.lab.machines import SWITCH, Spec


class NspawnBed(KeptBed):
    """Containers, which share the kernel of this machine, and its speed."""

    kind = "container"
    time_scale = 1.0
    features: frozenset[Feature] = frozenset()

    def __init__(self, *, bare: bool = False) -> None:
        super().__init__(bare=bare)
        self._leaders: dict[tuple[int, str, int], int] = {}

    def _make(self, topology: Topology) -> Spec:
        trees = (base.tree,) if self.bare else (program.tree, base.tree)
        known = hosts_file(topology)
        return {
            "trees": [str(tree()) for tree in trees],
            "nets": list(topology.nets()),
            "hosts": [
                {
                    "name": host.name,
                    "sysctl": kernel_settings(host),
                    "cables": [cable(host.name, at.net) for at in host.attachments],
                    "ip": list(link_commands(host)),
                    "files": {"/etc/hosts": known, "/etc/hostname": f"{host.name}\n"},
                }
                for host in topology.hosts
            ],
        }

    def command(self, name: str, *argv: str) -> tuple[str, ...]:
        """See KeptBed; with even more privileges than root of the host has."""
        variables = (f"{key}={value}" for key, value in ENVIRONMENT.items())
        inside = ("nsenter", "--target", str(self._leader(name)), "--all", "--wdns=/", "--root")
        return (*inside, "env", "-i", *variables, *argv)

    def connection(self, name: str, port: int) -> tuple[str, ...]:
        return ("nsenter", "--target", str(self._leader(name)), "--net", "nc", "-N", "127.0.0.1", str(port))

    def link(self, name: str, net: str, up: bool) -> None:
        self._do_inside("ip", "-n", SWITCH, "link", "set", port_name(name, net), "up" if up else "down")

    def _leader(self, name: str) -> int:
        """Pid, as seen from here, of a host's first process."""
        state = self._running(name)
        key = (self._keeper, name, state["boot"])
        if key not in self._leaders:
            self._leaders[key] = _outer_pid(cgroups.hierarchy() / self.name / name, state["leader"])
        return self._leaders[key]


def _outer_pid(group: Path, leader: int) -> int:
    """The pid here of the process that is ``leader`` for the keeper and 1 for itself (proc(5), NSpid)."""
    for pid in cgroups.processes(group):
        try:
            status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8", errors="replace")
        except (FileNotFoundError, ProcessLookupError):
            continue
        numbers = next(line for line in status.splitlines() if line.startswith("NSpid:")).split()
        if numbers[-2:] == [str(leader), "1"]:
            return pid
    raise BedError(f"no process of {group.name} is its first")
