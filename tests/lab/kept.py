"""What the beds have in common: a keeper makes the hosts and keeps them, joined by bridges in a namespace.

That is :mod:`tests.lab.keeper`; this side starts it, asks it, and enters its namespaces.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import shlex
import subprocess
import sys
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import testinfra.backend.base
from testinfra.host import Host

from testbed.processes import wait_until
from testbed.signals import TerminationGuard, interruptions_deferred
from testbed.topology import Topology
from tests.lab import cgroups, program
from tests.lab.bed import BedError, Feature, How
from tests.lab.machines import PLACE, Spec

BOOT_DEADLINE = 60.0
"""Seconds from power-on to multi-user.target; four hosts take two on two quiet cores."""
COMMAND_TIMEOUT = 60.0
"""Seconds that a command on a host may take."""
ENVIRONMENT = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root", "LANG": "C.UTF-8", "TERM": "dumb"}

_guard = TerminationGuard()
_numbers = itertools.count(1)


class KeptBed(ABC):
    """See :class:`tests.lab.bed.Bed`. Needs root."""

    kind: str
    """Of machine; see :data:`tests.lab.keeper.KINDS`."""
    time_scale: float
    features: frozenset[Feature]

    def __init__(self, *, bare: bool = False) -> None:
        """``bare`` hosts have nothing of the product."""
        self.bare = bare
        self._topology: Topology | None = None
        self._keeper = 0
        self._group: Path | None = None
        self._popen: subprocess.Popen[bytes] | None = None
        self._hosts: dict[str, Host] = {}

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

    # What each does in its own way.

    @abstractmethod
    def _make(self, topology: Topology) -> Spec:
        """What to ask the keeper for, ``kind`` excepted; makes what the hosts boot from, if need be.

        Raises:
            BedError: this machine lacks a program.
            MakingFailed: it cannot be made.
        """

    @abstractmethod
    def command(self, name: str, *argv: str) -> tuple[str, ...]:
        """The command line that runs ``argv`` as root on a host, in :data:`ENVIRONMENT`.

        Raises:
            BedError: the host is not running.
        """

    @abstractmethod
    def connection(self, name: str, port: int) -> tuple[str, ...]:
        """The command line whose standard input and output are a connection to a port of a host.

        Raises:
            BedError: the host is not running.
        """

    @abstractmethod
    def link(self, name: str, net: str, up: bool) -> None:
        """See Bed."""

    # Life.

    def up(self, topology: Topology, *, name: str = "") -> None:
        """See Bed; ``name`` of the cgroup is one of this process's own unless given."""
        if self._group is not None:
            raise BedError("the lab is up already")
        cgroups.sweep()
        spec = {"kind": self.kind, **self._make(topology)}
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
            self._say(json.dumps(spec))
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
    def found(cls, topology: Topology, name: str) -> Self | None:
        """The lab of that name and of this kind, made by whichever process; None if there is none."""
        group = cgroups.hierarchy() / name
        for pid in cgroups.processes(group / "keeper"):
            place = _place(pid)
            if (place / "state.json").exists() and (place / "kind").read_text("ascii") == cls.kind:
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

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.down()

    # Hosts.

    def host(self, name: str) -> Host:
        self.topology.host(name)
        return self._hosts.setdefault(name, Host(BedBackend(self, name)))

    def run(
        self, name: str, *argv: str, input: bytes | None = None, timeout: float = COMMAND_TIMEOUT
    ) -> subprocess.CompletedProcess[bytes]:
        """Run a program on a host to its end; the exit status is the caller's to look at.

        ``timeout`` is in seconds of a quick machine.
        """
        standard_input = subprocess.DEVNULL if input is None else None
        return subprocess.run(
            self.command(name, *argv),
            input=input,
            stdin=standard_input,
            capture_output=True,
            timeout=timeout * self.time_scale,
            check=False,
            start_new_session=True,
        )

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
            text = self._place("state.json").read_text(encoding="ascii")
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
        return self._place(name, "console.log").read_text(encoding="utf-8", errors="replace")

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
            self._running(name)
            self._order("cut", name)

    def reset(self, names: Sequence[str] = ()) -> None:
        before = self.state()
        for host in self.topology.hosts:
            for attachment in host.attachments:
                if before[host.name]["state"] == "running":
                    self.link(host.name, attachment.net, up=True)
        for name in names:
            self._order("renew", name)
        for name, state in before.items():
            if state["state"] in ("off", "failed"):
                self._order("start", name)
        renewed = {name: before[name]["boot"] for name in names}
        self._wait_up([host.name for host in self.topology.hosts], renewed)

    # The keeper.

    def _place(self, *parts: str) -> Path:
        """Something in the keeper's place, as seen from here."""
        return _place(self._keeper).joinpath(*parts)

    def _say(self, line: str) -> None:
        if self._popen is None or self._popen.stdin is None:
            raise BedError("this process did not bring the lab up")
        self._popen.stdin.write(line.encode() + b"\n")
        self._popen.stdin.flush()

    def _order(self, order: str, name: str) -> None:
        with self._place("orders").open("w", encoding="ascii") as orders:
            orders.write(f"{order} {name}\n")

    def _inside(self, *argv: str) -> tuple[str, ...]:
        """The command line that runs a program of this machine where the keeper is."""
        return ("nsenter", "--target", str(self._keeper), "--mount", *argv)

    def _do_inside(self, *argv: str) -> None:
        done = subprocess.run(
            self._inside(*argv), capture_output=True, text=True, timeout=COMMAND_TIMEOUT, check=False
        )
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

    def _running(self, name: str) -> dict[str, Any]:
        """How a host is that is running, else a BedError."""
        state = self.state().get(name)
        if state is None or state["state"] != "running":
            raise BedError(f"{name} is not running")
        return state


class BedBackend(testinfra.backend.base.BaseBackend):  # type: ignore[misc] # published without types
    """Runs testinfra's commands."""

    NAME = "bed"

    def __init__(self, bed: KeptBed, name: str) -> None:
        super().__init__(name)
        self._bed = bed
        self._encoding = "UTF-8"

    def run(self, command: str, *args: str, **kwargs: Any) -> testinfra.backend.base.CommandResult:
        line = self.get_command(command, *args)
        done = self._bed.run(self.hostname, "sh", "-c", line)
        return self.result(done.returncode, self.encode(line), done.stdout, done.stderr)


def hosts_file(topology: Topology) -> str:
    """What every host knows of the others; see hosts(5)."""
    names = "".join(f"{address}\t{host.name}\n" for host in topology.hosts for address in host.addresses())
    return f"127.0.0.1\tlocalhost\n::1\tlocalhost\n{names}"


def cable(name: str, net: str) -> Spec:
    """What joins a host to a net."""
    return {"net": net, "port": port_name(name, net), "mac": _mac(name, net)}


def _mac(name: str, net: str) -> str:
    """The address of a host's interface, which a reboot does not change: neighbours remember it.

    A local, unicast one (RFC 7042, section 2.1), from the names.
    """
    digest = hashlib.sha256(f"{name} {net}".encode()).digest()
    return ":".join(f"{byte:02x}" for byte in (0x02, *digest[:5]))


def port_name(name: str, net: str) -> str:
    """The switch's end of a cable; the kernel allows 15 characters."""
    return f"{name}-{net}"[:15]


def _place(keeper: int) -> Path:
    return Path(f"/proc/{keeper}/root{PLACE}")
