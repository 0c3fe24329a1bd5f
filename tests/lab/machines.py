"""What a lab's keeper runs: one machine a host, of whichever kind; and the kind that is a container.

Everything here happens in the namespaces of the keeper (:mod:`tests.lab.keeper`).
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

PLACE = Path("/run/lab")
CGROUPS = Path("/sys/fs/cgroup")
SWITCH = "switch"
"""The network namespace where the bridges are, one for each net."""
COMMAND_TIMEOUT = 20.0
REBOOT = 133
"""Exit status of systemd-nspawn when the host asked for a reboot (src/nspawn/nspawn.c)."""

CAPABILITIES = "CAP_NET_ADMIN,CAP_NET_RAW,CAP_BPF,CAP_PERFMON"
"""Beyond systemd-nspawn's own: packet filters, and what IPAddressDeny= and its like are made of."""

Spec = dict[str, Any]
"""What a bed asks for, as JSON: the whole of it, or the part of one host."""
Ear = tuple[int, Callable[[], None]]
"""A descriptor to watch, and what to do when it can be read."""


class Machine(ABC):
    """One host: its disk, its cables, and the process that runs it.

    Its ``state`` is off, booting, running or failed; ``boot`` counts; ``leader`` is the pid, here, of the
    process whose end is the host's.
    """

    def __init__(self, host: Spec, lab: Spec, group: Path) -> None:
        """``host`` is its part of ``lab``; its processes go into a group of its own below ``group``."""
        self.name: str = host["name"]
        self.spec = host
        self.lab = lab
        self.place = PLACE / self.name
        self.place.mkdir()
        self.console = (self.place / "console.log").open("ab")
        self.boot = 0
        self.leader = 0
        self.state = "off"
        self.renew = False
        self._group = group / self.name
        self._process: subprocess.Popen[bytes] | None = None
        self.make_disk()

    @abstractmethod
    def make_disk(self) -> None:
        """Make the disk of a host that has never booted."""

    @abstractmethod
    def remove_disk(self) -> None:
        """Remove it with all that the host has written; the host is off."""

    @abstractmethod
    def make_cables(self) -> None:
        """Join it to its nets, with cables as new."""

    @abstractmethod
    def command(self) -> tuple[str | Path, ...]:
        """The command line of the process that runs it."""

    @abstractmethod
    def ears(self) -> Iterable[Ear]:
        """By what one hears of it."""

    @abstractmethod
    def cut_power(self) -> None:
        """End a host that runs, at once; it boots again."""

    def environment(self) -> dict[str, str]:
        """Of that process."""
        return {"PATH": os.environ.get("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")}

    def start(self) -> None:
        """Boot."""
        if self.renew:
            self.remove_disk()
            self.make_disk()
            self.renew = False
        self.make_cables()
        self.boot += 1
        self.leader = 0
        self.state = "booting"
        self._process = self.launch(*self.command())

    def launch(self, *argv: str | Path) -> subprocess.Popen[bytes]:
        """Start a program in the group of the host; what it prints goes to the console."""
        self._group.mkdir(exist_ok=True)
        return subprocess.Popen(
            ("sh", "-c", 'echo $$ >"$0" && exec "$@"', self._group / "cgroup.procs", *argv),
            stdin=subprocess.DEVNULL,
            stdout=self.console,
            stderr=self.console,
            env=self.environment(),
        )

    @property
    def pid(self) -> int:
        """Of the process that runs it; 0 if it is off."""
        return self._process.pid if self._process else 0

    def reaped(self, pid: int, status: int) -> None:
        """Some process of the lab has ended, and has been waited for."""
        if self._process is not None and self._process.pid == pid:
            self._process.returncode = status
            self._process = None
            self._ended(status)

    def _ended(self, status: int) -> None:
        if status == 0:
            self.state = "off"
        elif self.leader or status == REBOOT:
            self.start()
        else:
            self.state = "failed"


class Container(Machine):
    """A host in systemd-nspawn(1): an overlay over ``lab["trees"]``, and a network namespace."""

    def __init__(self, host: Spec, lab: Spec, group: Path) -> None:
        super().__init__(host, lab, group)
        self._notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._notify.bind(os.fspath(self.place / "notify"))

    def ears(self) -> Iterable[Ear]:
        return ((self._notify.fileno(), self._heard),)

    def _heard(self) -> None:
        """Take what systemd-nspawn says (sd_notify(3)): first of all, which process is the host's first."""
        for line in self._notify.recv(4096).decode(errors="replace").splitlines():
            key, _, value = line.partition("=")
            if key == "X_NSPAWN_LEADER_PID":
                self.leader = int(value)
                self.state = "running"

    def cut_power(self) -> None:
        with suppress(ProcessLookupError):  # it has just gone down, and nobody has heard of that yet
            os.kill(self.leader, signal.SIGKILL)

    def make_disk(self) -> None:
        for name in ("upper", "work", "root"):
            (self.place / name).mkdir(mode=0o755, exist_ok=True)
        for path, content in self.spec["files"].items():
            file = self.place / "upper" / path.lstrip("/")
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(content, encoding="utf-8")
        lowers = ":".join(self.lab["trees"])
        layers = f"lowerdir={lowers},upperdir={self.place}/upper,workdir={self.place}/work"
        execute("mount", "-t", "overlay", "overlay", "-o", layers, self.place / "root")

    def remove_disk(self) -> None:
        execute("umount", self.place / "root")
        execute("rm", "-rf", self.place / "upper", self.place / "work")

    def make_cables(self) -> None:
        if (Path("/run/netns") / self.name).exists():
            for cable in self.spec["cables"]:
                # At once; with the namespace alone they would go too, but some time later.
                remove_port(cable["port"])
            execute("ip", "netns", "delete", self.name)
        execute("ip", "netns", "add", self.name)
        execute("ip", "netns", "exec", self.name, "sysctl", "-q", "-w", *self.spec["sysctl"])
        for cable in self.spec["cables"]:
            port, net = cable["port"], cable["net"]
            there = ("peer", "name", net, "address", cable["mac"], "netns", self.name)
            execute("ip", "-n", SWITCH, "link", "add", port, "type", "veth", *there)
            execute("ip", "-n", SWITCH, "link", "set", port, "master", net, "up")
        execute("ip", "-n", self.name, "-batch", "-", input="\n".join(self.spec["ip"]) + "\n")

    def command(self) -> tuple[str | Path, ...]:
        tree = ("--directory", self.place / "root", "--machine", self.name)
        alone = ("--register=no", "--keep-unit", "--notify-ready=yes", "--link-journal=no")
        unlike = ("--console=read-only", "--resolv-conf=off", "--timezone=off")
        allowed = (f"--capability={CAPABILITIES}", "--system-call-filter=bpf")
        network = f"--network-namespace-path=/run/netns/{self.name}"
        kernel = "systemd.unified_cgroup_hierarchy=1"
        return ("systemd-nspawn", "--quiet", "--boot", *tree, *alone, *unlike, *allowed, network, kernel)

    def environment(self) -> dict[str, str]:
        return {
            **super().environment(),
            "NOTIFY_SOCKET": os.fspath(self.place / "notify"),
            "SYSTEMD_NSPAWN_UNIFIED_HIERARCHY": "1",
            "SYSTEMD_NSPAWN_LOCK": "0",
            "SYSTEMD_NSPAWN_API_VFS_WRITABLE": "network",
        }


def remove_port(port: str) -> None:
    """Remove the switch's end of a cable, and with it the cable; harmless if it is gone."""
    subprocess.run(
        ("ip", "-n", SWITCH, "link", "del", port), capture_output=True, timeout=COMMAND_TIMEOUT, check=False
    )


def execute(*argv: str | Path, input: str | None = None) -> None:
    """Run a command to its end; SystemExit, which ends the lab, if it fails."""
    done = subprocess.run(
        argv, input=input, capture_output=True, text=True, timeout=COMMAND_TIMEOUT, check=False
    )
    if done.returncode != 0:
        raise SystemExit(f"{' '.join(map(str, argv))}: {done.stderr.strip() or done.returncode}")
