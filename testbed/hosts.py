"""A host of a lab: a network namespace in which programs run."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

from testbed.processes import Process, execute
from testbed.topology import HostSpec

COMMAND_TIMEOUT = 30.0
"""Seconds that a command of a test may take unless it says otherwise."""


class Host:
    """What a test does on a machine: run a program, or start one and leave it running."""

    def __init__(self, spec: HostSpec, namespace: str, started: list[Process]) -> None:
        """``started`` is the lab's list of programs, in the order in which they were started."""
        self.spec = spec
        self.namespace = namespace
        self._started = started

    @property
    def name(self) -> str:
        return self.spec.name

    @property
    def address(self) -> str:
        """The IPv4 address that it is known by."""
        return str(self.spec.ipv4())

    @property
    def address6(self) -> str:
        """The IPv6 address that it is known by."""
        return str(self.spec.ipv6())

    def address_on(self, net: str) -> str:
        """Its IPv4 address on one net."""
        return str(self.spec.ipv4(net))

    def run(
        self,
        *argv: str | os.PathLike[str],
        timeout: float = COMMAND_TIMEOUT,
        check: bool = True,
        input: str | None = None,
        env: Mapping[str, str] | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """Run a program to its end; ``env`` adds to the environment.

        Raises:
            CommandFailed: ``check`` is set and its exit status is not zero.
            subprocess.TimeoutExpired: after ``timeout`` seconds; it has been killed.
        """
        return execute(self.command(*argv), timeout=timeout, check=check, input=input, env=env)

    def spawn(
        self, *argv: str | os.PathLike[str], log: Path, env: Mapping[str, str] | None = None
    ) -> Process:
        """Start a program; the lab ends it, if nobody did before, when it goes down."""
        process = Process(self.command(*argv), log, env)
        self._started.append(process)
        return process

    def command(self, *argv: str | os.PathLike[str]) -> tuple[str, ...]:
        """The command line that runs ``argv`` here. ip(8) execs: the pid is the program's own."""
        return ("ip", "netns", "exec", self.namespace, *(os.fspath(argument) for argument in argv))

    def pids(self) -> list[int]:
        """Every process in this namespace, whoever started it."""
        return pids_in(self.namespace)


def pids_in(namespace: str) -> list[int]:
    """Every process in a network namespace; none if there is no such namespace."""
    listing = execute(("ip", "netns", "pids", namespace), timeout=COMMAND_TIMEOUT, check=False)
    return [int(pid) for pid in listing.stdout.split()]
