"""``python -m tests.lab.keeper GROUP``: keeps the hosts of one lab running, out of everybody's way.

It runs in a mount and a process namespace of its own, in the cgroup GROUP, and is the first process there.
Hence:

* when it ends, however, the kernel ends every process of the lab, and with them go all mounts and network
  namespaces, none of which ever had a name that the machine sees;
* all that it mounts and writes is on a tmpfs over /run, which only those see who enter: /proc/PID/root.

Its standard input is its owner: the first line says what to build, a second one, ``keep``, that the lab
shall stay; without that, end of file ends it. Later orders come by a FIFO, ``/run/lab/orders``, a line
each: ``start HOST`` boots one that is off, ``renew HOST`` gives one an empty disk when it boots next.
``/run/lab/state.json`` says how the hosts are.

A host that reboots, or whose first process is killed, boots again, with a network namespace as fresh as a
machine's. One that powers off stays off.
"""

from __future__ import annotations

import json
import os
import selectors
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

from tests.lab import cache, cgroups

PLACE = Path("/run/lab")
CGROUPS = Path("/sys/fs/cgroup")
SWITCH = "switch"
COMMAND_TIMEOUT = 20.0
REBOOT = 133
"""Exit status of systemd-nspawn when the host asked for a reboot (src/nspawn/nspawn.c)."""

CAPABILITIES = "CAP_NET_ADMIN,CAP_NET_RAW,CAP_BPF,CAP_PERFMON"
"""Beyond systemd-nspawn's own: packet filters, and what IPAddressDeny= and its like are made of."""


def enter(group: str) -> NoReturn:
    """Join the cgroup, and become what runs in the namespaces."""
    cgroups.join(cgroups.hierarchy() / group / "keeper")
    inside = (sys.executable, "-m", "tests.lab.keeper", "--inside", group)
    alone = ("--mount", "--propagation", "private", "--pid", "--fork", "--kill-child", "--mount-proc")
    os.execvp("unshare", ("unshare", *alone, *inside))  # noqa: S606 # the pid stays the same


class Machine:
    """One host: its disk, its cables, and the systemd-nspawn that runs it."""

    def __init__(self, spec: dict[str, Any], lowers: list[str], group: Path) -> None:
        self.name: str = spec["name"]
        self._spec = spec
        self._lowers = lowers
        self._group = group / self.name
        self.place = PLACE / self.name
        self.place.mkdir()
        self.notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.notify.bind(os.fspath(self.place / "notify"))
        self._nspawn: subprocess.Popen[bytes] | None = None
        self.boot = 0
        self.leader = 0
        self.state = "off"
        self.renew = False
        self._console = (self.place / "console.log").open("ab")
        self._make_disk()

    def start(self) -> None:
        """Boot, with cables as new."""
        if self.renew:
            _run("umount", self.place / "root")
            _run("rm", "-rf", self.place / "upper", self.place / "work")
            self._make_disk()
            self.renew = False
        self._make_cables()
        self._group.mkdir(exist_ok=True)
        self.boot += 1
        self.leader = 0
        self.state = "booting"
        self._nspawn = subprocess.Popen(
            ("sh", "-c", 'echo $$ >"$0" && exec "$@"', self._group / "cgroup.procs", *self._command()),
            stdin=subprocess.DEVNULL,
            stdout=self._console,
            stderr=self._console,
            env=self._environment(),
        )

    @property
    def pid(self) -> int:
        """Of its systemd-nspawn; 0 if it is off."""
        return self._nspawn.pid if self._nspawn else 0

    def ended(self, status: int) -> None:
        """Its systemd-nspawn has ended, and has been waited for."""
        if self._nspawn:
            self._nspawn.returncode = status
        self._nspawn = None
        if status == 0:
            self.state = "off"
        elif self.leader or status == REBOOT:
            self.start()
        else:
            self.state = "failed"

    def heard(self) -> None:
        """Take what systemd-nspawn says (sd_notify(3)): first of all, which process is the host's first."""
        for line in self.notify.recv(4096).decode(errors="replace").splitlines():
            key, _, value = line.partition("=")
            if key == "X_NSPAWN_LEADER_PID":
                self.leader = int(value)
                self.state = "running"

    def _make_disk(self) -> None:
        for name in ("upper", "work", "root"):
            (self.place / name).mkdir(mode=0o755, exist_ok=True)
        for path, content in self._spec["files"].items():
            file = self.place / "upper" / path.lstrip("/")
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(content, encoding="utf-8")
        layers = f"lowerdir={':'.join(self._lowers)},upperdir={self.place}/upper,workdir={self.place}/work"
        _run("mount", "-t", "overlay", "overlay", "-o", layers, self.place / "root")

    def _make_cables(self) -> None:
        if (Path("/run/netns") / self.name).exists():
            for cable in self._spec["cables"]:
                # At once; with the namespace alone they would go too, but some time later.
                subprocess.run(
                    ("ip", "-n", SWITCH, "link", "del", cable["port"]), capture_output=True, check=False
                )
            _run("ip", "netns", "delete", self.name)
        _run("ip", "netns", "add", self.name)
        _run("ip", "netns", "exec", self.name, "sysctl", "-q", "-w", *self._spec["sysctl"])
        for cable in self._spec["cables"]:
            port, net = cable["port"], cable["net"]
            there = ("peer", "name", net, "address", cable["mac"], "netns", self.name)
            _run("ip", "-n", SWITCH, "link", "add", port, "type", "veth", *there)
            _run("ip", "-n", SWITCH, "link", "set", port, "master", net, "up")
        _run("ip", "-n", self.name, "-batch", "-", input="\n".join(self._spec["ip"]) + "\n")

    def _command(self) -> tuple[str | Path, ...]:
        return (
            *(
                "systemd-nspawn",
                "--quiet",
                "--boot",
                "--directory",
                self.place / "root",
                "--machine",
                self.name,
            ),
            *(
                "--register=no",
                "--keep-unit",
                "--notify-ready=yes",
                "--link-journal=no",
                "--console=read-only",
            ),
            *("--resolv-conf=off", "--timezone=off", f"--network-namespace-path=/run/netns/{self.name}"),
            *(f"--capability={CAPABILITIES}", "--system-call-filter=bpf"),
            "systemd.unified_cgroup_hierarchy=1",
        )

    def _environment(self) -> dict[str, str]:
        return {
            "PATH": os.environ.get("PATH", "/usr/sbin:/usr/bin:/sbin:/bin"),
            "NOTIFY_SOCKET": os.fspath(self.place / "notify"),
            "SYSTEMD_NSPAWN_UNIFIED_HIERARCHY": "1",
            "SYSTEMD_NSPAWN_LOCK": "0",
            "SYSTEMD_NSPAWN_API_VFS_WRITABLE": "network",
        }


class Keeper:
    """The loop that all of it happens in."""

    def __init__(self, spec: dict[str, Any], group: str) -> None:
        self._held = [cache.hold(Path(lower)) for lower in spec["lowers"]]
        _make_place(spec["nets"])
        self._machines = {
            host["name"]: Machine(host, spec["lowers"], CGROUPS / group) for host in spec["hosts"]
        }
        self._selector = selectors.DefaultSelector()
        self._orders = os.open(PLACE / "orders", os.O_RDWR | os.O_NONBLOCK)
        self._listen()

    def run(self) -> None:
        """Until the owner is gone."""
        for machine in self._machines.values():
            machine.start()
        while True:
            self._tell()
            for key, _ in self._selector.select():
                react: Callable[[], None] = key.data
                react()

    def _listen(self) -> None:
        child, children = socket.socketpair()
        children.setblocking(False)
        child.setblocking(False)
        signal.set_wakeup_fd(children.fileno(), warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda number, frame: None)
        self._selector.register(child, selectors.EVENT_READ, partial(self._reap, child))
        self._sockets = (child, children)
        for machine in self._machines.values():
            self._selector.register(machine.notify, selectors.EVENT_READ, machine.heard)
        self._selector.register(self._orders, selectors.EVENT_READ, self._obey)
        self._selector.register(sys.stdin.fileno(), selectors.EVENT_READ, self._hear_owner)

    def _reap(self, wakeups: socket.socket) -> None:
        wakeups.recv(4096)
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            for machine in self._machines.values():
                if machine.pid == pid:
                    machine.ended(os.waitstatus_to_exitcode(status))

    def _obey(self) -> None:
        for line in os.read(self._orders, 4096).decode(errors="replace").splitlines():
            order, _, name = line.partition(" ")
            machine = self._machines[name]
            if order == "renew":
                machine.renew = True
            elif order == "start" and machine.pid == 0:
                machine.start()

    def _hear_owner(self) -> None:
        word = os.read(sys.stdin.fileno(), 4096)
        if not word:
            raise SystemExit(0)
        self._selector.unregister(sys.stdin.fileno())  # keep: from now on nobody's end is ours

    def _tell(self) -> None:
        state = {
            machine.name: {"state": machine.state, "boot": machine.boot, "leader": machine.leader}
            for machine in self._machines.values()
        }
        fresh = PLACE / "state.new"
        fresh.write_text(json.dumps(state), encoding="ascii")
        fresh.replace(PLACE / "state.json")


def _make_place(nets: list[str]) -> None:
    """The private /run, a hierarchy of cgroups that systemd-nspawn likes, and the switch."""
    _run("mount", "-t", "tmpfs", "-o", "mode=755", "tunneler-lab", "/run")
    PLACE.mkdir()
    os.mkfifo(PLACE / "orders")
    # Over whatever mixture this machine has.
    _run("umount", "--recursive", CGROUPS)
    _run("mount", "-t", "cgroup2", "cgroup2", CGROUPS)
    _run("ip", "netns", "add", SWITCH)
    # Bridges that pass on everything at once, and take no part themselves.
    _run("ip", "netns", "exec", SWITCH, "sysctl", "-q", "-w", "net.ipv6.conf.default.disable_ipv6=1")
    for net in nets:
        _run("ip", "-n", SWITCH, "link", "add", net, "type", "bridge", "forward_delay", "0")
        _run("ip", "-n", SWITCH, "link", "set", net, "up")


def _run(*argv: str | Path, input: str | None = None) -> None:
    done = subprocess.run(
        argv, input=input, capture_output=True, text=True, timeout=COMMAND_TIMEOUT, check=False
    )
    if done.returncode != 0:
        raise SystemExit(f"{' '.join(map(str, argv))}: {done.stderr.strip() or done.returncode}")


def main() -> None:
    """Either half: outside the namespaces, or inside."""
    *inside, group = sys.argv[1:]
    if not inside:
        enter(group)
    line = b""
    while not line.endswith(b"\n"):  # unbuffered: what follows belongs to the loop
        byte = os.read(0, 1)
        if not byte:
            return
        line += byte
    Keeper(json.loads(line), group).run()


if __name__ == "__main__":
    main()
