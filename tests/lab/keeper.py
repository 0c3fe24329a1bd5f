"""``python -m tests.lab.keeper GROUP``: keeps the hosts of one lab running, out of everybody's way.

It runs in a mount and a process namespace of its own, in the cgroup GROUP, and is the first process there.
Hence:

* when it ends, however, the kernel ends every process of the lab, and with them go all mounts and network
  namespaces, none of which ever had a name that the machine sees;
* all that it mounts and writes is on a tmpfs over /run, which only those see who enter: /proc/PID/root.

Its standard input is its owner: the first line says what to build, a second one, ``keep``, that the lab
shall stay; without that, end of file ends it. Later orders come by a FIFO, ``/run/lab/orders``, a line
each: ``start HOST`` boots one that is off, ``renew HOST`` gives one the disk that it had first, at once if it
runs, or else when it boots next; ``cut HOST`` cuts its power.
``/run/lab/state.json`` says how the hosts are, ``/run/lab/kind`` of which kind they are.

A host that reboots, or whose first process is killed, boots again, with a network as fresh as a machine's.
One that powers off stays off.
"""

from __future__ import annotations

import json
import os
import selectors
import signal
import socket
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NoReturn

from tests.lab import cache, cgroups
from tests.lab.machines import CGROUPS, PLACE, SWITCH, Container, Machine, Spec, execute
from tests.lab.virtual import KEY, MANAGEMENT, VirtualMachine

KINDS: dict[str, type[Machine]] = {"container": Container, "virtual machine": VirtualMachine}


def enter(group: str) -> NoReturn:
    """Join the cgroup, and become what runs in the namespaces."""
    cgroups.join(cgroups.hierarchy() / group / "keeper")
    inside = (sys.executable, "-m", "tests.lab.keeper", "--inside", group)
    alone = ("--mount", "--propagation", "private", "--pid", "--fork", "--kill-child", "--mount-proc")
    os.execvp("unshare", ("unshare", *alone, *inside))  # noqa: S606 # the pid stays the same


class Keeper:
    """The loop that all of it happens in."""

    def __init__(self, spec: Spec, group: str) -> None:
        self._held = [cache.hold(Path(tree)) for tree in spec["trees"]]
        _make_place(spec)
        kind = KINDS[spec["kind"]]
        self._machines = {host["name"]: kind(host, spec, CGROUPS / group) for host in spec["hosts"]}
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
            for descriptor, react in machine.ears():
                self._selector.register(descriptor, selectors.EVENT_READ, react)
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
                machine.reaped(pid, os.waitstatus_to_exitcode(status))

    def _obey(self) -> None:
        for line in os.read(self._orders, 4096).decode(errors="replace").splitlines():
            order, _, name = line.partition(" ")
            machine = self._machines[name]
            if order == "renew":
                machine.renew = True
            if order in ("renew", "cut") and machine.state == "running":
                machine.cut_power()
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


def _make_place(spec: Spec) -> None:
    """The private /run, a hierarchy of cgroups that systemd-nspawn likes, and the switch."""
    execute("mount", "-t", "tmpfs", "-o", "mode=755", "tunneler-lab", "/run")
    PLACE.mkdir()
    (PLACE / "kind").write_text(spec["kind"], encoding="ascii")
    os.mkfifo(PLACE / "orders")
    # Over whatever mixture this machine has.
    execute("umount", "--recursive", CGROUPS)
    execute("mount", "-t", "cgroup2", "cgroup2", CGROUPS)
    execute("ip", "netns", "add", SWITCH)
    # Bridges that pass on everything at once, and take no part themselves.
    execute("ip", "netns", "exec", SWITCH, "sysctl", "-q", "-w", "net.ipv6.conf.default.disable_ipv6=1")
    for net in spec["nets"]:
        _make_bridge(net)
    if management := spec.get(MANAGEMENT):
        _make_bridge(MANAGEMENT)
        execute("ip", "-n", SWITCH, "addr", "add", management["address"], "dev", MANAGEMENT)
        KEY.touch(mode=0o600)
        KEY.write_text(management["key"], encoding="ascii")


def _make_bridge(net: str) -> None:
    execute("ip", "-n", SWITCH, "link", "add", net, "type", "bridge", "forward_delay", "0")
    execute("ip", "-n", SWITCH, "link", "set", net, "up")


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
