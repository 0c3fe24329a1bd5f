"""What a role costs: processor time, context switches and memory of its processes, from /proc (proc(5)).

A role is one or more processes with all their descendants. Work that the kernel does for a
process outside of its time slices (softirqs) is nobody's here.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

PROC = Path("/proc")
TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
BYTES_PER_KIB = 1024


@dataclass(frozen=True, slots=True)
class _Stat:
    parent: int
    ticks: int
    """User and system time of all its threads, and of the children it has awaited."""


@dataclass(frozen=True, slots=True)
class Switches:
    """Times that threads gave up a processor: to wait for something, or because another one's turn came."""

    voluntary: int
    involuntary: int

    def __add__(self, other: Switches) -> Switches:
        return Switches(self.voluntary + other.voluntary, self.involuntary + other.involuntary)

    def __sub__(self, other: Switches) -> Switches:
        return Switches(self.voluntary - other.voluntary, self.involuntary - other.involuntary)


def cpu_seconds(roles: Mapping[str, Iterable[int]]) -> dict[str, float]:
    """Processor seconds used so far by each role.

    A child that ends and is awaited moves from its own account to its parent's, so the
    difference of two readings holds whatever came and went in between.
    """
    table = _processes()
    return {
        role: sum(table[pid].ticks for pid in _family(pids, table)) / TICKS_PER_SECOND
        for role, pids in roles.items()
    }


def context_switches(roles: Mapping[str, Iterable[int]]) -> dict[str, Switches]:
    """Context switches so far of each role's threads; those of a thread that has ended are lost."""
    table = _processes()
    nothing = Switches(0, 0)
    return {
        role: sum((_switches(pid) for pid in _family(pids, table)), start=nothing)
        for role, pids in roles.items()
    }


def peak_bytes(roles: Mapping[str, Iterable[int]]) -> dict[str, int]:
    """Highest resident set so far of each role: the sum over its processes (VmHWM).

    Pages that a role's processes share are counted once for each, so of a role with many
    processes this is an upper bound.
    """
    table = _processes()
    return {
        role: sum(_kib(pid, "status", "VmHWM") for pid in _family(pids, table)) * BYTES_PER_KIB
        for role, pids in roles.items()
    }


def resident_bytes(roles: Mapping[str, Iterable[int]]) -> dict[str, int]:
    """Resident set of each role now, exactly: VmRSS is kept in a counter for each processor, and lags."""
    table = _processes()
    return {
        role: sum(_kib(pid, "smaps_rollup", "Rss") for pid in _family(pids, table)) * BYTES_PER_KIB
        for role, pids in roles.items()
    }


def descendants(pids: Iterable[int]) -> set[int]:
    """Those of ``pids`` that are alive, and everything that descends from them."""
    return _family(pids, _processes())


def _processes() -> dict[int, _Stat]:
    table = {}
    for directory in PROC.iterdir():
        if directory.name.isdigit():
            try:
                stat = (directory / "stat").read_text(encoding="utf-8", errors="replace")
            except (FileNotFoundError, ProcessLookupError):  # ended since the listing
                continue
            # Field 2, the command, may hold spaces: count from field 3 on, after its last parenthesis.
            fields = stat[stat.rindex(")") + 2 :].split()
            table[int(directory.name)] = _Stat(int(fields[1]), sum(map(int, fields[11:15])))
    return table


def _family(roots: Iterable[int], table: Mapping[int, _Stat]) -> set[int]:
    """Those of ``roots`` that are alive, and everything that descends from them."""
    family = {pid for pid in roots if pid in table}
    while grown := {pid for pid, stat in table.items() if stat.parent in family} - family:
        family |= grown
    return family


def _switches(pid: int) -> Switches:
    total = Switches(0, 0)
    try:
        threads = list((PROC / str(pid) / "task").iterdir())
    except (FileNotFoundError, ProcessLookupError):
        return total
    for thread in threads:
        fields = _fields(thread / "status")
        voluntary, involuntary = (
            int(fields.get(name, "0")) for name in ("voluntary_ctxt_switches", "nonvoluntary_ctxt_switches")
        )
        total += Switches(voluntary, involuntary)
    return total


def _kib(pid: int, file: str, name: str) -> int:
    """A size from /proc/PID/FILE; 0 for a zombie, which has no memory and no such line."""
    return int(_fields(PROC / str(pid) / file).get(name, "0 kB").split()[0])


def _fields(path: Path) -> dict[str, str]:
    """Lines ``name: value``; none if the process or thread has ended."""
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return {}
    return {name: value.strip() for name, _, value in (line.partition(":") for line in text.splitlines())}
