"""One program of the suite on a host of a lab: its configuration file, its process, its log."""

from __future__ import annotations

import json
import os
import re
import signal
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from testbed.hosts import Host
from testbed.processes import Process, ProcessEndedError, wait_until
from tunneler.addresses import Role

Event = dict[str, Any]
"""One line of a role's log."""
Settings = Mapping[str, Any]
"""Part of a configuration file."""

PROGRAMS = Path(sys.executable).parent
"""Where the console scripts are: beside the Python of the virtual environment."""

READY_EVENTS = {
    Role.SERVER: ("listening",),
    Role.PROXY: ("registered",),
    Role.CLIENT: ("capture_installed", "link_up"),
}
READY_DEADLINE = 20.0
"""Seconds from start to ready; it takes about one, on an idle machine."""
STOP_DEADLINE = 40.0
"""Seconds from SIGTERM to the end; longer than a drain takes by default."""
EVENT_DEADLINE = 10.0


@dataclass(frozen=True, slots=True)
class Usage:
    """What a process holds at a moment (proc(5)); memory in bytes."""

    descriptors: int
    threads: int
    memory: int
    peak_memory: int

    @classmethod
    def of(cls, pid: int) -> Usage:
        """FileNotFoundError if there is no such process."""
        process = Path(f"/proc/{pid}")
        status = dict(re.findall(r"(?m)^(VmRSS|VmHWM|Threads):\s+(\d+)", (process / "status").read_text()))
        return cls(
            descriptors=len(os.listdir(process / "fd")),
            threads=int(status["Threads"]),
            memory=int(status["VmRSS"]) * 1024,
            peak_memory=int(status["VmHWM"]) * 1024,
        )


class Member:
    """One program of the suite, with its configuration file and its log.

    Each start has a log file of its own: ``<name>.1.log``, ``<name>.2.log`` and so on.
    """

    def __init__(self, name: str, role: Role, host: Host, directory: Path, settings: Settings) -> None:
        self.name = name
        self.role = role
        self.host = host
        self.config_file = directory / f"{name}.yaml"
        self.settings = settings
        self._directory = directory
        self._starts = 0
        self._process: Process | None = None
        self._events: list[Event] = []
        self._read = 0

    @property
    def program(self) -> Path:
        return PROGRAMS / f"tunneler-{self.role}"

    @property
    def process(self) -> Process:
        """The program as it was started last."""
        if self._process is None:
            raise RuntimeError(f"{self.name} was never started")
        return self._process

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.exit_status is None

    # Life.

    def start(self, settings: Settings | None = None) -> None:
        """Start the program and return at once.

        Args:
            settings: replace those that it had before, section by section.
        """
        if settings is not None:
            self.settings = merged(self.settings, settings)
        self.config_file.write_text(yaml.safe_dump(dict(self.settings), sort_keys=False))
        self._starts += 1
        self._events, self._read = [], 0
        self._process = self.host.spawn(
            self.program,
            *("--config", self.config_file),
            log=self._directory / f"{self.name}.{self._starts}.log",
            # iptables takes a lock in the file system, which the namespaces share; each host has its own.
            env={"XTABLES_LOCKFILE": str(self._directory / f"{self.host.name}.xtables.lock")},
        )

    def wait_ready(self, deadline: float = READY_DEADLINE) -> None:
        """Wait until its log says that it works."""
        for event in READY_EVENTS[self.role]:
            self.wait_for(event, deadline)

    def restart(self, settings: Settings | None = None) -> None:
        """Stop it if it runs, start it, and wait until it works."""
        if self.running:
            self.stop()
        self.start(settings)
        self.wait_ready()

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Ask it to stop, and wait; its exit status."""
        self.process.send_signal(number)
        return self.process.wait(STOP_DEADLINE)

    def kill(self) -> None:
        """SIGKILL: no farewell to anybody."""
        self.process.kill()

    def usage(self) -> Usage:
        return Usage.of(self.pid)

    # Log.

    def events(self, event: str | None = None, *, since: int = 0, **fields: object) -> list[Event]:
        """What it has logged since its last start: all, or the events of that name and those fields.

        Args:
            since: leave out what was there at that :meth:`mark`.
        """
        self._read_log()
        return [
            line
            for line in self._events[since:]
            if event in (None, line["event"]) and all(line.get(key) == value for key, value in fields.items())
        ]

    def mark(self) -> int:
        """A place in the log: its end at this moment."""
        self._read_log()
        return len(self._events)

    def wait_for(
        self, event: str, deadline: float = EVENT_DEADLINE, *, since: int = 0, **fields: object
    ) -> Event:
        """The first such event, waited for if need be.

        Raises:
            ProcessEndedError: the program ended without it.
            TimeoutError: it did not come within ``deadline`` seconds. Both show the end of the log.
        """
        found: list[Event] = []

        def arrived() -> bool:
            ended = not self.running  # asked before the log is read: all that it wrote is then there
            found.extend(self.events(event, since=since, **fields))
            if ended and not found:
                raise ProcessEndedError(f"{self.process}: no {event} in its log\n{self.process.tail()}")
            return bool(found)

        try:
            wait_until(arrived, deadline, f"{event} {fields or ''} in the log of {self.name}")
        except TimeoutError as error:
            raise TimeoutError(f"{error}\n{self.process.tail()}") from None
        return found[0]

    def _read_log(self) -> None:
        with self.process.log.open("rb") as log:
            log.seek(self._read)
            fresh = log.read()
        fresh = fresh[: fresh.rfind(b"\n") + 1]
        self._read += len(fresh)
        # What is no JSON object (a traceback, say) belongs to no event; it is in the file for people.
        self._events += [json.loads(line) for line in fresh.splitlines() if line.startswith(b"{")]


def merged(base: Settings, more: Settings) -> dict[str, Any]:
    """``base`` with the values of ``more``; sections are merged, anything else is replaced."""
    result = dict(base)
    for key, value in more.items():
        before = result.get(key)
        if isinstance(value, Mapping) and isinstance(before, Mapping):
            result[key] = merged(before, value)
        else:
            result[key] = value
    return result
