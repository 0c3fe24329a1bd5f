"""What a subject is: a program, or no program, that brings the client's traffic to the target."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

from testbed import Lab, Process

SITE = "192.168.1.0/24"
"""The network behind the proxy."""

CACHE = Path(os.environ.get("BENCH_OF_TUNNELER_CACHE", Path.home() / ".cache" / "tunneler-bench"))
"""Where ``bench/setup`` puts the peers: their programs alone, nothing installed on the machine."""


class SubjectError(Exception):
    """The subject cannot be started here; the text says why."""


class Subject(Protocol):
    """One column of the table.

    A subject is made for one lab, started once and stopped once. ``start`` may return
    before traffic flows: the harness waits for the target's answer.
    """

    descriptors_per_connection: int
    """Files that one of its processes needs for a connection: 2 if it accepts it and dials on."""

    def start(self, lab: Lab) -> None: ...

    def stop(self) -> None: ...

    def processes(self) -> Mapping[str, Sequence[int]]:
        """Role -> pids whose cost, with that of their descendants, is the role's."""
        ...

    @property
    def target_address(self) -> str:
        """The address at which a program on the client finds the target."""
        ...


class Roles:
    """The programs of a subject by role, for subjects that are made of such."""

    def __init__(self) -> None:
        self._programs: dict[str, list[Process]] = {}

    def add(self, role: str, process: Process) -> Process:
        self._programs.setdefault(role, []).append(process)
        return process

    def pids(self) -> dict[str, list[int]]:
        return {role: [process.pid for process in programs] for role, programs in self._programs.items()}

    def stop(self) -> None:
        """End them all, the last one added first."""
        for programs in reversed(self._programs.values()):
            for process in reversed(programs):
                process.stop()

    def check(self) -> None:
        """Raise SubjectError if one of them has ended."""
        for role, programs in self._programs.items():
            for process in programs:
                if process.exit_status is not None:
                    raise SubjectError(f"{role} ended: {process}\n{process.tail()}")


def program(name: str, *directories: Path) -> str:
    """Full path of a program from ``directories``, else from the search path.

    Raises:
        SubjectError: there is none.
    """
    path = os.pathsep.join(
        [*(str(directory) for directory in directories), os.environ.get("PATH", os.defpath)]
    )
    found = shutil.which(name, path=path)
    if found is None:
        raise SubjectError(f"{name} is not installed: run bench/setup")
    return found
