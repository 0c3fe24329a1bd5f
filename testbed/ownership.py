"""Who owns which lab, written down where a later run finds it.

A lab's namespaces outlive a SIGKILL of the process that made them. Each lab therefore has
an entry under /run, made before its first namespace and removed after its last: its
owner's pid and start time, and the names it may use. Only names in an entry whose owner is
gone are ever swept.
"""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

LEDGER = Path("/run/tunneler-testbed")
KEPT = 0
"""Owner of a lab that somebody asked to keep: no process, so no process's end frees it."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One lab: ``prefix`` is unique on this machine while the entry exists."""

    prefix: str
    owner: int
    owner_started: int
    namespaces: tuple[str, ...]

    @property
    def path(self) -> Path:
        return LEDGER / self.prefix

    def abandoned(self) -> bool:
        """Whether the owner ended without removing the lab (its pid may be another's by now)."""
        return self.owner != KEPT and start_time(self.owner) != self.owner_started


def claim(hosts: Iterable[str]) -> Entry:
    """Enter a new lab of this process; namespaces are named ``<prefix>-<host>``."""
    names = tuple(hosts)
    LEDGER.mkdir(mode=0o755, exist_ok=True)
    pid = os.getpid()
    for number in itertools.count():
        prefix = f"tun{pid:x}.{number}" if number else f"tun{pid:x}"
        entry = Entry(prefix, pid, start_time(pid), tuple(f"{prefix}-{name}" for name in names))
        try:
            descriptor = os.open(entry.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
        except FileExistsError:
            continue
        _write(descriptor, entry)
        return entry
    raise AssertionError("itertools.count() has no end")


def keep(entry: Entry) -> None:
    """Let the lab outlive its owner."""
    kept = Entry(entry.prefix, KEPT, 0, entry.namespaces)
    _write(os.open(entry.path, os.O_WRONLY | os.O_TRUNC), kept)


def release(entry: Entry) -> None:
    """Strike out a lab of which nothing is left."""
    entry.path.unlink(missing_ok=True)


def entries() -> Iterator[Entry]:
    """Every lab on this machine."""
    for path in sorted(LEDGER.glob("tun*")):
        try:
            owner, started, namespaces = json.loads(path.read_text(encoding="ascii"))
        except (FileNotFoundError, ValueError):  # just released, or not yet written
            continue
        yield Entry(path.name, owner, started, tuple(namespaces))


def _write(descriptor: int, entry: Entry) -> None:
    with os.fdopen(descriptor, "w", encoding="ascii") as file:
        json.dump([entry.owner, entry.owner_started, entry.namespaces], file)


def start_time(pid: int) -> int:
    """When a process started, in clock ticks since boot (proc(5), field 22 of stat); 0 if it is gone."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return 0
    # The command, field 2, may itself hold spaces and parentheses: count from the last one.
    state, *fields = stat[stat.rindex(")") + 2 :].split()
    return 0 if state == "Z" else int(fields[18])
