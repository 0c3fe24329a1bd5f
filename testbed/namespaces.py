"""A lab: a topology made real in network namespaces, and gone again without a trace.

Laws of this file:

* nothing but the names of the namespaces ever appears in the machine's own network: a veth
  pair is made with both its ends already inside;
* whatever ends the program (an exception, SIGINT, SIGTERM), the lab goes down; what a
  SIGKILL leaves behind, :meth:`Lab.sweep` of a later run removes;
* processes are ended by pid, and awaited, before their namespace is deleted: a namespace
  without a name lives on for as long as a process is inside.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Self

from testbed import ownership
from testbed.hosts import Host, pids_in
from testbed.processes import CommandFailed, Process, end_pids, execute, wait_until
from testbed.signals import TerminationGuard, interruptions_deferred
from testbed.topology import HostSpec, Topology

NAMESPACE_DIRECTORY = Path("/run/netns")
SETUP_TIMEOUT = 20.0
"""Seconds for one ip(8) or sysctl(8) command; they take milliseconds."""
FIRST_LINK_INDEX = 10
"""Above the loopback's, and those of the tunnel devices that some kernels put into every namespace."""

_guard = TerminationGuard()


class Lab:
    """The hosts of a topology, up between :meth:`up` and :meth:`down` (or inside ``with``).

    Needs root. Several labs may exist at once, in one process or in many.
    """

    def __init__(self, topology: Topology) -> None:
        self.topology = topology
        self._entry: ownership.Entry | None = None
        self._hosts: dict[str, Host] = {}
        self._started: list[Process] = []

    @property
    def prefix(self) -> str:
        """What the names of its namespaces begin with; the machine has no other lab of that prefix."""
        if self._entry is None:
            raise RuntimeError("the lab is not up")
        return self._entry.prefix

    def host(self, name: str) -> Host:
        """The host of that name, else a LookupError; RuntimeError unless the lab is up."""
        spec = self.topology.host(name)
        if self._entry is None:
            raise RuntimeError("the lab is not up")
        return self._hosts[spec.name]

    def up(self) -> None:
        """Make the hosts. If anything fails on the way, what was made is removed first.

        Raises:
            CommandFailed: the kernel or ip(8) refused something (are you root?).
        """
        if self._entry is not None:
            raise RuntimeError("the lab is up already")
        _guard.hold()
        try:
            with interruptions_deferred():
                self._entry = ownership.claim(spec.name for spec in self.topology.hosts)
            for spec, namespace in zip(self.topology.hosts, self._entry.namespaces, strict=True):
                _make_namespace(namespace, spec)
                self._hosts[spec.name] = Host(spec, namespace, self._started)
            for number, (net, (one, other)) in enumerate(self.topology.nets().items()):
                _make_cable(net, self._hosts[one].namespace, self._hosts[other].namespace, number)
            for host in self._hosts.values():
                _ip_batch(host.namespace, link_commands(host.spec))
            for host in self._hosts.values():
                wait_until(partial(_links_ready, host.namespace), SETUP_TIMEOUT, f"links of {host.name} up")
        except BaseException:
            if self._entry is None:
                _guard.release()
            self.down()
            raise

    def down(self) -> None:
        """End every process in the lab and remove it; harmless if it is down already."""
        if self._entry is None:
            return
        with interruptions_deferred():
            for process in reversed(self._started):
                process.stop()
            _remove(self._entry)
            self._forget()

    def keep(self) -> None:
        """Let go of a lab that shall stay up, with its programs, after this process; see :meth:`sweep`."""
        if self._entry is None:
            raise RuntimeError("the lab is not up")
        with interruptions_deferred():
            ownership.keep(self._entry)
            self._forget()

    @staticmethod
    def sweep(*, kept: bool = False) -> list[str]:
        """Remove every lab whose owner ended without doing so; the names of the namespaces removed.

        Args:
            kept: also remove labs that were let go with :meth:`keep`.
        """
        removed: list[str] = []
        for entry in list(ownership.entries()):
            if entry.abandoned() or (kept and entry.owner == ownership.KEPT):
                removed += _remove(entry)
        return removed

    def _forget(self) -> None:
        self._entry = None
        self._hosts.clear()
        self._started.clear()
        _guard.release()

    def __enter__(self) -> Self:
        self.up()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.down()


def _make_namespace(namespace: str, spec: HostSpec) -> None:
    execute(("ip", "netns", "add", namespace), timeout=SETUP_TIMEOUT)
    execute(
        ("ip", "netns", "exec", namespace, "sysctl", "-q", "-w", *kernel_settings(spec)),
        timeout=SETUP_TIMEOUT,
    )


def kernel_settings(spec: HostSpec) -> tuple[str, ...]:
    """What sysctl(8) sets in the network namespace of a host."""
    # Written out, not left to the default: a new namespace may start with the machine's own values
    # (Documentation/networking/ip-sysctl.rst, net.core.devconf_inherit_init_net).
    forwards = int(spec.forwards)
    return (
        f"net.ipv4.ip_forward={forwards}",
        f"net.ipv6.conf.all.forwarding={forwards}",
        "net.ipv6.conf.all.disable_ipv6=0",
        "net.ipv6.conf.default.disable_ipv6=0",
        # No duplicate address detection: nobody else is on the cable, and it costs a second.
        "net.ipv6.conf.default.accept_dad=0",
        "net.ipv6.conf.default.accept_ra=0",
    )


def _make_cable(net: str, one: str, other: str, number: int) -> None:
    # Ends with unlike indexes: if both had the same (each is its host's first), the kernel would take the
    # device for one without a peer and put off acting on its carrier by up to a second
    # (net/core/link_watch.c, linkwatch_urgent_event).
    first = FIRST_LINK_INDEX + 2 * number
    here = ("ip", "-n", one, "link", "add", net, "index", str(first), "type", "veth")
    there = ("peer", "name", net, "index", str(first + 1), "netns", other)
    execute((*here, *there), timeout=SETUP_TIMEOUT)


def link_commands(spec: HostSpec) -> Iterator[str]:
    """What ip(8) does in the network namespace of a host that has its interfaces: addresses and routes."""
    yield "link set lo up"
    for attachment in spec.attachments:
        for address in attachment.addresses:
            yield f"addr add {address} dev {attachment.net}{' nodad' if address.version == 6 else ''}"
        yield f"link set {attachment.net} up"
    for route in spec.routes:
        yield f"route add {route.destination} via {route.via}"


def _ip_batch(namespace: str, commands: Iterable[str]) -> None:
    script = "\n".join(commands) + "\n"
    execute(("ip", "-n", namespace, "-batch", "-"), timeout=SETUP_TIMEOUT, input=script)


def _links_ready(namespace: str) -> bool:
    # Until the kernel has acted on the carrier, IPv6 is silent.
    links = execute(("ip", "-n", namespace, "-o", "link", "show", "type", "veth"), timeout=SETUP_TIMEOUT)
    return all(" state UP " in line for line in links.stdout.splitlines())


def _remove(entry: ownership.Entry) -> list[str]:
    """Remove what exists of a lab; the names of the namespaces that did."""
    existing = [name for name in entry.namespaces if (NAMESPACE_DIRECTORY / name).exists()]
    for namespace in existing:
        end_pids(partial(pids_in, namespace))
        try:
            execute(("ip", "netns", "delete", namespace), timeout=SETUP_TIMEOUT)
        except CommandFailed:
            if (NAMESPACE_DIRECTORY / namespace).exists():  # else a sweep at the same time was faster
                raise
    ownership.release(entry)
    return existing
