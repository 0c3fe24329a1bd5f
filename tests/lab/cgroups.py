"""The control group of a lab: everything that belongs to it, in a place that no crash can hide.

Every process of a lab, its keeper first, is in one cgroup of the machine's unified hierarchy (cgroup-v2 in
the kernel's admin-guide). That makes the hierarchy the ledger: it is seen from every mount namespace, it
outlives whoever made a lab, and what is in a group can be ended at once (cgroup.kill, Linux 5.14).

The group's name says whose it is: ``tunneler-lab-<checkout>-<pid>-<start time>`` ends with that process;
``tunneler-lab-<checkout>`` is one that a person asked for, and stays until it is taken down.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator
from pathlib import Path

from testbed.ownership import start_time
from testbed.processes import wait_until

CHECKOUT = hashlib.sha256(os.fspath(Path(__file__).parents[2]).encode()).hexdigest()[:8]
KEPT = f"tunneler-lab-{CHECKOUT}"
_NAME = re.compile(r"tunneler-lab-[0-9a-f]{8}(?:-(?P<owner>[0-9]+)-(?P<started>[0-9]+)(?:\.[0-9]+)?)?")
END_DEADLINE = 20.0
"""Seconds in which the kernel ends a group's processes; it takes a fraction of one."""


def hierarchy() -> Path:
    """Where the unified hierarchy is mounted.

    Raises:
        FileNotFoundError: nowhere.
    """
    for line in Path("/proc/self/mountinfo").read_text(encoding="utf-8").splitlines():
        before, after = line.split(" - ")
        if after.startswith("cgroup2 "):
            return Path(before.split()[4])
    raise FileNotFoundError("no cgroup2 file system is mounted: a lab needs one, see cgroups(7)")


def owned(number: int) -> str:
    """The name of this process's lab of that number."""
    return f"{KEPT}-{os.getpid()}-{start_time(os.getpid())}.{number}"


def labs() -> Iterator[Path]:
    """The groups of all labs on this machine, the nested ones of their hosts not included."""
    yield from (path for path in sorted(hierarchy().glob("tunneler-lab-*")) if _NAME.fullmatch(path.name))


def abandoned(group: Path) -> bool:
    """Whether nobody is left to take this lab down: its owner is gone; or, of a kept one, all of it."""
    name = _NAME.fullmatch(group.name)
    if name is None or not group.exists():
        return False
    if name["owner"] is None:
        return not populated(group)
    return start_time(int(name["owner"])) != int(name["started"])


def owner(group: Path) -> int | None:
    """Pid of the process that a lab ends with; None for one that is kept."""
    name = _NAME.fullmatch(group.name)
    return int(name["owner"]) if name and name["owner"] else None


def populated(group: Path) -> bool:
    """Whether a process is left in it, at any depth."""
    try:
        return "populated 1" in (group / "cgroup.events").read_text(encoding="ascii")
    except OSError:  # removed: FileNotFoundError before it was opened, ENODEV after
        return False


def processes(group: Path) -> list[int]:
    """All pids in it, at any depth, as seen from here."""
    pids = []
    for path in _with_nested(group):
        try:
            pids += [int(pid) for pid in (path / "cgroup.procs").read_text(encoding="ascii").split()]
        except OSError:  # removed meanwhile
            continue
    return pids


def _with_nested(group: Path) -> list[Path]:
    """A group and those inside, the innermost last; what goes away meanwhile is passed over."""
    return [Path(path) for path, _, _ in os.walk(group)]


def join(group: Path) -> None:
    """Put this process into a group, which is made if need be, against whoever sweeps empty ones."""
    for attempt in range(10):
        try:
            group.mkdir(parents=True, exist_ok=True)
            (group / "cgroup.procs").write_text("0", encoding="ascii")
            return
        except OSError:
            if attempt == 9:
                raise


def end(group: Path) -> None:
    """End every process of a group, and remove it with the groups inside; harmless if it is gone.

    Raises:
        TimeoutError: a process could not be ended.
    """
    if not group.exists():
        return
    try:
        (group / "cgroup.kill").write_text("1", encoding="ascii")
    except OSError:
        if group.exists():
            raise
        return
    wait_until(lambda: not populated(group), END_DEADLINE, f"the processes of {group.name} end")
    for path in reversed(_with_nested(group)):
        try:
            path.rmdir()
        except FileNotFoundError:  # somebody swept at the same time
            continue


def sweep() -> list[str]:
    """Remove what abandoned labs left; their names."""
    gone = [group for group in labs() if abandoned(group)]
    for group in gone:
        end(group)
    return [group.name for group in gone]
