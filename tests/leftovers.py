"""What a test run left behind: processes that run, network namespaces that have a name, cgroups of labs."""

from __future__ import annotations

import os
import re
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.lab import cgroups

NAMESPACES = Path("/run/netns")
RUN_VARIABLE = "TESTS_OF_TUNNELER_RUN"
"""Environment variable by which every process that a run starts is known, whoever its parent is now."""
POLL_INTERVAL = 0.05
"""Seconds between two looks at what may just be going away."""


@dataclass(frozen=True, slots=True)
class Leftovers:
    """One test run's view of the machine: ``watch`` before the first test, ``find`` after the last."""

    run: str
    namespaces_before: frozenset[str]

    @classmethod
    def watch(cls) -> Leftovers:
        """Remember what was there before, and mark what this process starts from now on."""
        run = f"{os.getpid()}-{time.monotonic_ns()}"
        os.environ[RUN_VARIABLE] = run
        return cls(run, frozenset(_namespaces()))

    def find(self, patience: float) -> list[str]:
        """One line for each thing left behind; what goes away within ``patience`` seconds is not."""
        deadline = time.monotonic() + patience
        while True:
            found = [f"network namespace {name}" for name in self._new_namespaces()]
            found += [f"process {pid}: {_command_line(pid)}" for pid in self.processes()]
            found += [f"cgroup {group}" for group in cgroups.labs() if cgroups.owner(group) == os.getpid()]
            if not found or time.monotonic() >= deadline:
                return found
            time.sleep(POLL_INTERVAL)

    def processes(self) -> list[int]:
        """Pids of this run's processes, this one excepted: its mark, or this process as an ancestor."""
        mark = f"{RUN_VARIABLE}={self.run}".encode()
        descendants = set(_descendants(os.getpid()))
        return [
            pid
            for pid in _pids()
            if pid != os.getpid() and _is_alive(pid) and (pid in descendants or mark in _environment(pid))
        ]

    def end_processes(self) -> None:
        """Kill what is left, so that one failed run does not spoil the next."""
        for pid in self.processes():
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue

    def _new_namespaces(self) -> list[str]:
        new = sorted(set(_namespaces()) - self.namespaces_before)
        if _namespaces_are_private():
            return new
        # Somebody else may be making namespaces too; ours bear our pid in their names.
        ours = re.compile(rf"(?<![0-9a-f])({os.getpid()}|{os.getpid():x})(?![0-9a-f])")
        return [name for name in new if ours.search(name)]


def _namespaces() -> list[str]:
    return os.listdir(NAMESPACES) if NAMESPACES.is_dir() else []


def _namespaces_are_private() -> bool:
    """Whether scripts/test mounted a directory of names for this run alone."""
    return NAMESPACES.is_dir() and NAMESPACES.stat().st_dev != NAMESPACES.parent.stat().st_dev


def _pids() -> Iterator[int]:
    return (int(entry) for entry in os.listdir("/proc") if entry.isdigit())


def _descendants(pid: int) -> Iterator[int]:
    """Children, their children and so on; the kernel lists children by thread (proc(5))."""
    for children in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in map(int, _read(children).split()):
            yield child
            yield from _descendants(child)


def _is_alive(pid: int) -> bool:
    """Whether a process still runs; a zombie has ended, and only waits for its parent to look."""
    state = _read(Path(f"/proc/{pid}/stat")).rpartition(b")")[2].split()
    return bool(state) and state[0] not in (b"Z", b"X")


def _environment(pid: int) -> list[bytes]:
    return _read(Path(f"/proc/{pid}/environ")).split(b"\0")


def _command_line(pid: int) -> str:
    return _read(Path(f"/proc/{pid}/cmdline")).replace(b"\0", b" ").decode(errors="replace").strip()


def _read(path: Path) -> bytes:
    """A file under /proc; empty once its process is gone."""
    try:
        return path.read_bytes()
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return b""
