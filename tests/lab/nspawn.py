"""The first bed: systemd-nspawn containers booted from one tree, joined by bridges in a namespace.

What makes the hosts and keeps them is :mod:`tests.lab.keeper`; this side starts it, asks it, and enters its
namespaces.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import shlex
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import testinfra.backend.base
from testinfra.host import Host

from testbed.namespaces import kernel_settings, link_commands
from testbed.processes import Process, wait_until
from testbed.signals import TerminationGuard, interruptions_deferred
from testbed.topology import Topology
from tests.lab import base, cgroups, program
from tests.lab.bed import BedError, Feature, How

BOOT_DEADLINE = 60.0
"""Seconds from power-on to multi-user.target; four hosts take two on two quiet cores."""
COMMAND_TIMEOUT = 60.0
"""Seconds that a command on a host may take."""
STATE = "run/lab/state.json"
ENVIRONMENT = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root", "LANG": "C.UTF-8", "TERM": "dumb"}

_guard = TerminationGuard()
_numbers = itertools.count(1)


class NspawnBed:
    """See :class:`tests.lab.bed.Bed`. Needs root."""

    time_scale = 1.0
    features: frozenset[Feature] = frozenset()

    def __init__(self, *, bare: bool = False) -> None:
        """``bare`` hosts have nothing of the product."""
        self._bare = bare
        self._topology: Topology | None = None
        self._keeper = 0
        self._group: Path | None = None
        self._popen: subprocess.Popen[bytes] | None = None
        self._hosts: dict[str, Host] = {}
        self._leaders: dict[tuple[str, int], int] = {}

    @property
    def name(self) -> str:
        """Of the lab's cgroup, by which :meth:`found` finds it."""
        if self._group is None:
            raise BedError("the lab is not up")
        return self._group.name

    @property
    def topology(self) -> Topology:
        if self._topology is None:
            raise BedError("the lab is not up")
        return self._topology

    # Life.

    def up(self, topology: Topology, *, name: str = "") -> None:
        """See Bed; ``name`` of the cgroup is one of this process's own unless given."""
        if self._group is not None:
            raise BedError("the lab is up already")
        cgroups.sweep()
        lowers = [str(tree()) for tree in ((base.tree,) if self._bare else (program.tree, base.tree))]
        _guard.hold()
        log = tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace")  # noqa: SIM115 # closed below
        try:
            with interruptions_deferred():
                self._topology = topology
                self._group = cgroups.hierarchy() / (name or cgroups.owned(next(_numbers)))
                self._popen = subprocess.Popen(
                    (sys.executable, "-m", "tests.lab.keeper", self._group.name),
                    cwd=program.ROOT,
                    stdin=subprocess.PIPE,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                )
                self._keeper = self._popen.pid
            self._say(json.dumps(_spec(topology, lowers)))
            self._wait_up([host.name for host in topology.hosts], {})
        except BaseException as error:
            with interruptions_deferred():
                self.down()
            log.seek(0)
            said = log.read().strip()
            if isinstance(error, TimeoutError | BedError | BrokenPipeError):
                raise BedError(f"{error}\n{said}") from error
            raise
        finally:
            log.close()

    def keep(self) -> None:
        """Let the lab stay when this process ends; :meth:`found` finds it again."""
        self._say("keep")
        self._forget()

    @classmethod
    def found(cls, topology: Topology, name: str) -> NspawnBed | None:
        """The lab of that name, made by whichever process; None if there is none."""
        group = cgroups.hierarchy() / name
        pids = cgroups.processes(group / "keeper")
        for pid in pids:
            if Path(f"/proc/{pid}/root/{STATE}").exists():
                bed = cls()
                bed._topology, bed._group, bed._keeper = topology, group, pid
                return bed
        return None

    def down(self) -> None:
        if self._group is None:
            return
        with interruptions_deferred():
            if self._popen is not None:
                # First of all: it may not have come as far as its cgroup yet.
                self._popen.kill()
                self._popen.wait(COMMAND_TIMEOUT)
            cgroups.end(self._group)
            self._forget()

    def _forget(self) -> None:
        if self._popen is not None:
            if self._popen.stdin:
                self._popen.stdin.close()
            # A lab that is kept outlives this process, which shall not be warned that it did not wait.
            self._popen.returncode = self._popen.poll() or 0
            _guard.release()
        self._popen, self._group, self._topology = None, None, None
        self._hosts.clear()
        self._leaders.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.down()

    # Hosts.

    def host(self, name: str) -> Host:
        self.topology.host(name)
        return self._hosts.setdefault(name, Host(NsenterBackend(self, name)))

    def command(self, name: str, *argv: str) -> tuple[str, ...]:
        """The command line that runs ``argv`` as root on a host, with even more privileges than that has."""
        variables = (f"{key}={value}" for key, value in ENVIRONMENT.items())
        inside = ("nsenter", "--target", str(self._leader(name)), "--all", "--wdns=/", "--root")
        return (*inside, "env", "-i", *variables, *argv)

    def network_command(self, name: str, *argv: str) -> tuple[str, ...]:
        """The command line that runs a program of this machine in the network namespace of a host."""
        return ("nsenter", "--target", str(self._leader(name)), "--net", *argv)

    def run(
        self, name: str, *argv: str, input: bytes | None = None, timeout: float = COMMAND_TIMEOUT
    ) -> subprocess.CompletedProcess[bytes]:
        """Run a program on a host to its end; the exit status is the caller's to look at."""
        standard_input = subprocess.DEVNULL if input is None else None
        return subprocess.run(
            self.command(name, *argv),
            input=input,
            stdin=standard_input,
            capture_output=True,
            timeout=timeout,
            check=False,
            start_new_session=True,
        )

    def spawn(self, name: str, *argv: str, log: Path) -> Process:
        """Start a program on a host; who starts it stops it, or the lab's end does."""
        return Process(self.command(name, *argv), log)

    def put(
        self, name: str, path: str, content: bytes | str, *, mode: int = 0o644, owner: str = "root"
    ) -> None:
        data = content.encode() if isinstance(content, str) else content
        file = shlex.quote(path)
        # Moved into its place, so that nobody reads half of it.
        script = (
            f"umask 077 && mkdir -p -m 755 $(dirname {file}) && cat >{file}.new && chmod {mode:o} {file}.new"
            f" && chown {shlex.quote(owner)} {file}.new && mv {file}.new {file}"
        )
        done = self.run(name, "sh", "-c", script, input=data)
        if done.returncode != 0:
            raise BedError(f"{name}: cannot write {path}: {done.stderr.decode(errors='replace').strip()}")

    def state(self) -> dict[str, dict[str, Any]]:
        """How the hosts are, by name: ``state``, ``boot`` (a number that grows), ``leader``."""
        try:
            text = Path(f"/proc/{self._keeper}/root/{STATE}").read_text(encoding="ascii")
        except (FileNotFoundError, ProcessLookupError):
            if self._popen is not None and self._popen.poll() is not None:
                raise BedError(f"the keeper of the lab ended with status {self._popen.returncode}") from None
            return {}
        hosts: dict[str, dict[str, Any]] = json.loads(text)
        return hosts

    def booted(self, name: str) -> bool:
        """Whether a host is at multi-user.target, whatever its services wait for."""
        if self.state().get(name, {}).get("state") != "running":
            return False
        try:
            return self.run(name, "systemctl", "--quiet", "is-active", "multi-user.target").returncode == 0
        except (BedError, ProcessLookupError):  # gone meanwhile
            return False

    def console(self, name: str) -> str:
        """What a host has printed on its console."""
        path = Path(f"/proc/{self._keeper}/root/run/lab/{name}/console.log")
        return path.read_text(encoding="utf-8", errors="replace")

    # Faults.

    def reboot(self, name: str, how: How) -> None:
        before = self.state()[name]["boot"]
        self.start_reboot(name, how)
        self._wait_up([name], {name: before})

    def start_reboot(self, name: str, how: How) -> None:
        """Reboot without waiting."""
        if how is How.ORDERLY:
            # May be cut off before it has said that it did what it was asked for.
            self.run(name, "systemctl", "--no-block", "reboot")
        else:
            os.kill(self._leader(name), signal.SIGKILL)

    def link(self, name: str, net: str, up: bool) -> None:
        self._inside("ip", "-n", "switch", "link", "set", _port(name, net), "up" if up else "down")

    def reset(self, names: Sequence[str] = ()) -> None:
        before = self.state()
        for host in self.topology.hosts:
            for attachment in host.attachments:
                if before[host.name]["state"] == "running":
                    self.link(host.name, attachment.net, up=True)
        for name in names:
            self._order("renew", name)
            if before[name]["state"] == "running":
                self.start_reboot(name, How.POWER_CUT)
        for name, state in before.items():
            if state["state"] in ("off", "failed"):
                self._order("start", name)
        renewed = {name: before[name]["boot"] for name in names}
        self._wait_up([host.name for host in self.topology.hosts], renewed)

    # The keeper.

    def _say(self, line: str) -> None:
        if self._popen is None or self._popen.stdin is None:
            raise BedError("this process did not bring the lab up")
        self._popen.stdin.write(line.encode() + b"\n")
        self._popen.stdin.flush()

    def _order(self, order: str, name: str) -> None:
        with Path(f"/proc/{self._keeper}/root/run/lab/orders").open("w", encoding="ascii") as orders:
            orders.write(f"{order} {name}\n")

    def _inside(self, *argv: str) -> None:
        command = ("nsenter", "--target", str(self._keeper), "--mount", *argv)
        done = subprocess.run(command, capture_output=True, text=True, timeout=COMMAND_TIMEOUT, check=False)
        if done.returncode != 0:
            raise BedError(f"{' '.join(argv)}: {done.stderr.strip()}")

    def _wait_up(self, names: list[str], after: dict[str, int]) -> None:
        """Wait until hosts are at multi-user.target, at a boot that is later than the one given."""
        missing = list(names)

        def all_up() -> bool:
            state = self.state()
            for name in list(missing):
                host = state.get(name, {"boot": 0, "state": "off"})
                if host["state"] == "failed":
                    raise BedError(f"{name} does not boot:\n{self.console(name)[-2000:]}")
                if host["boot"] > after.get(name, 0) and self.booted(name):
                    missing.remove(name)
            return not missing

        try:
            wait_until(all_up, BOOT_DEADLINE * self.time_scale, "hosts at multi-user.target")
        except TimeoutError as error:
            consoles = "\n".join(f"== {name}\n{self.console(name)[-2000:]}" for name in missing)
            raise BedError(f"{error}: {', '.join(missing)} missing\n{consoles}") from None

    def _leader(self, name: str) -> int:
        """Pid, as seen from here, of a host's first process."""
        state = self.state().get(name)
        if state is None or state["state"] != "running" or self._group is None:
            raise BedError(f"{name} is not running")
        key = (name, state["boot"])
        if key not in self._leaders:
            self._leaders[key] = _outer_pid(self._group / name, state["leader"])
        return self._leaders[key]


class NsenterBackend(testinfra.backend.base.BaseBackend):  # type: ignore[misc] # published without types
    """Runs testinfra's commands by nsenter(1)."""

    NAME = "nsenter"

    def __init__(self, bed: NspawnBed, name: str) -> None:
        super().__init__(name)
        self._bed = bed
        self._encoding = "UTF-8"

    def run(self, command: str, *args: str, **kwargs: Any) -> testinfra.backend.base.CommandResult:
        line = self.get_command(command, *args)
        done = self._bed.run(self.hostname, "sh", "-c", line)
        return self.result(done.returncode, self.encode(line), done.stdout, done.stderr)


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


def _spec(topology: Topology, lowers: list[str]) -> dict[str, Any]:
    names = "".join(f"{address}\t{host.name}\n" for host in topology.hosts for address in host.addresses())
    known = f"127.0.0.1\tlocalhost\n::1\tlocalhost\n{names}"
    return {
        "lowers": lowers,
        "nets": list(topology.nets()),
        "hosts": [
            {
                "name": host.name,
                "sysctl": kernel_settings(host),
                "cables": [
                    {"net": at.net, "port": _port(host.name, at.net), "mac": _mac(host.name, at.net)}
                    for at in host.attachments
                ],
                "ip": list(link_commands(host)),
                "files": {"/etc/hosts": known, "/etc/hostname": f"{host.name}\n"},
            }
            for host in topology.hosts
        ],
    }


def _mac(name: str, net: str) -> str:
    """The address of a host's interface, which a reboot does not change: neighbours remember it.

    A local, unicast one (RFC 7042, section 2.1), from the names.
    """
    digest = hashlib.sha256(f"{name} {net}".encode()).digest()
    return ":".join(f"{byte:02x}" for byte in (0x02, *digest[:5]))


def _port(name: str, net: str) -> str:
    """The switch's end of a cable; the kernel allows 15 characters."""
    return f"{name}-{net}"[:15]
