"""What a test-bed is: real hosts for a topology, whatever they are made of.

Tests use this interface and testinfra's hosts alone; so one suite fits every bed. A bed that cannot do
something leaves it out of its ``features``.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from types import TracebackType
from typing import Protocol, Self

from testinfra.host import Host

from testbed.topology import Topology


class Feature(enum.Enum):
    """What not every bed has."""

    RESOURCE_LIMITS = "MemoryMax=, TasksMax= and CPUQuota= have an effect"
    DELAY = "links can be made slow"
    OWN_KERNEL = "a host may load modules and set any sysctl"


class How(enum.Enum):
    """Ways to restart a host."""

    ORDERLY = "systemctl reboot"
    POWER_CUT = "no unit is stopped, nothing is synced"


class BedError(Exception):
    """The bed could not do what it was asked for; says what it saw."""


class Bed(Protocol):
    """A test-bed. Between ``up`` and ``down`` there are hosts; ``with`` does both."""

    time_scale: float
    """How much longer than on a quick machine everything takes here: deadlines are multiplied by it."""
    features: frozenset[Feature]

    @property
    def topology(self) -> Topology:
        """What it was brought up with."""

    def up(self, topology: Topology) -> None:
        """Make the hosts, and boot them to multi-user.target.

        Raises:
            BedError: it did not work; nothing is left.
        """

    def down(self) -> None:
        """End and remove everything; harmless if there is nothing."""

    def host(self, name: str) -> Host:
        """A host, to run things on as root; LookupError if there is no such."""

    def put(
        self, name: str, path: str, content: bytes | str, *, mode: int = 0o644, owner: str = "root"
    ) -> None:
        """Write a file on a host, directories above it included; ``owner`` is chown(1)'s."""

    def reboot(self, name: str, how: How) -> None:
        """Restart a host, and wait until it is at multi-user.target."""

    def link(self, name: str, net: str, up: bool) -> None:
        """Plug in or pull the cable between a host and a net."""

    def reset(self, names: Sequence[str] = ()) -> None:
        """Plug in all cables, and boot what is off; hosts that are named get the disks they had first."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...
