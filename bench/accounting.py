"""What a role costs: processor time and peak memory of its processes, from /proc (proc(5)).

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


def peak_bytes(roles: Mapping[str, Iterable[int]]) -> dict[str, int]:
    """Highest resident set so far of each role: the sum over its processes (VmHWM).

    Pages that a role's processes share are counted once for each, so of a role with many
    processes this is an upper bound.
    """
    table = _processes()
    return {role: sum(map(_high_water_mark, _family(pids, table))) for role, pids in roles.items()}


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


def _high_water_mark(pid: int) -> int:
    try:
        status = (PROC / str(pid) / "status").read_text(encoding="utf-8", errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return 0
    for line in status.splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * BYTES_PER_KIB
    return 0  # a zombie has no memory, and no such line
