"""Connections that are held and say nothing: what each role keeps in memory for one of them."""

from __future__ import annotations

import operator
import resource
import signal
import sys
import time
from collections.abc import Mapping
from functools import partial
from pathlib import Path

from bench import accounting, holder
from bench.scene import CaseError, Growth, Measurement, Scene
from testbed import Process

HOLDER_PORT = 7000
BYTES_PER_KIB = 1024
START_DEADLINE = 10.0
STEP_DEADLINE = 40.0
"""Seconds for each 1,000 connections. v2ray, with a TLS handshake for each, takes about seven."""
CLOSE_DEADLINE = 60.0

SETTLE_SECONDS = 1.0
SETTLED_SHARE = 0.005
SETTLED_LOOKS = 3
SETTLE_DEADLINE = 30.0
"""Memory has settled when three looks, a second apart, differ by less than 0.5 % in sum; 30 s at most."""

SPARE_DESCRIPTORS = 500
"""What a role needs besides its connections."""
CONNTRACK_LIMIT = Path("/proc/sys/net/netfilter/nf_conntrack_max")
TRACKED_PER_CONNECTION = 3
"""Entries of the kernel's table, over all namespaces: captured, at the site, and between the hosts."""


def hold(scene: Scene, wanted: int) -> Measurement:
    """Hold ``wanted`` connections, or as many as this machine lets one process of the subject have.

    The value is the KiB a connection of the role that takes most.

    Raises:
        CaseError: the kernel's limits do not allow it, or a connection ended while it was held.
    """
    count = min(wanted, _affordable(scene.subject.descriptors_per_connection))
    _check_conntrack(count)
    target = _spawn(scene, "target", "accept", str(HOLDER_PORT))
    target.wait_for_line(lambda line: line == "listening", START_DEADLINE)
    before = _settled(scene)
    client = _spawn(scene, "client", "dial", scene.address, str(HOLDER_PORT), str(count))
    failed_attempts = _wait_for_all(client, count)
    held = _settled(scene)
    if client.exit_status is not None:
        raise CaseError(f"not all {count} connections stayed: {client.tail()}")
    client.send_signal(signal.SIGTERM)
    client.wait(CLOSE_DEADLINE)
    target.wait_for_line(lambda line: line == "empty", CLOSE_DEADLINE)
    left = _settled(scene)
    target.stop()
    growth = {role: Growth(held[role] - before[role], left[role] - before[role]) for role in before}
    most = max((role.held for role in growth.values()), default=0)
    return Measurement(most / count / BYTES_PER_KIB, count, failed_attempts, growth)


def _wait_for_all(client: Process, count: int) -> int:
    """Wait until all are held; the number of attempts that failed on the way."""
    for step in range(holder.STEP, count, holder.STEP):
        client.wait_for_line(partial(operator.eq, f"{step} so far"), STEP_DEADLINE)
    line = client.wait_for_line(lambda line: line.startswith(f"held {count}, "), STEP_DEADLINE)
    return int(line.split()[2])


def _spawn(scene: Scene, host: str, *arguments: str) -> Process:
    # -I: nothing of this checkout, and no module of bench/ in the standard library's place.
    command = (sys.executable, "-I", holder.__file__, *arguments)
    return scene.lab.host(host).spawn(*command, log=scene.directory / f"holder-{host}.log")


def _affordable(descriptors_per_connection: int) -> int:
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    if hard == resource.RLIM_INFINITY:
        return sys.maxsize
    return max(1, (hard - SPARE_DESCRIPTORS) // descriptors_per_connection)


def _check_conntrack(count: int) -> None:
    if CONNTRACK_LIMIT.exists():
        limit = int(CONNTRACK_LIMIT.read_text(encoding="ascii"))
        if limit < TRACKED_PER_CONNECTION * count:
            needed = TRACKED_PER_CONNECTION * count
            raise CaseError(f"net.netfilter.nf_conntrack_max is {limit}; {count} connections need {needed}")


def _settled(scene: Scene) -> Mapping[str, int]:
    """Bytes by role, when they change no more; a subject that never settles is measured as it is."""
    end = time.monotonic() + SETTLE_DEADLINE
    looks = [accounting.resident_bytes(scene.subject.processes())]

    def steady() -> bool:
        sums = [sum(look.values()) for look in looks[-SETTLED_LOOKS:]]
        return len(sums) == SETTLED_LOOKS and max(sums) - min(sums) <= SETTLED_SHARE * max(sums)

    while not steady() and time.monotonic() < end:
        time.sleep(SETTLE_SECONDS)
        looks.append(accounting.resident_bytes(scene.subject.processes()))
    return looks[-1]
