"""What a case has to work with, and what it gives back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from bench.subjects import Subject
from testbed import Host, Lab


class CaseError(Exception):
    """The case could not measure anything; the text says why."""


@dataclass(frozen=True, slots=True)
class Scene:
    """A lab with a subject in it that has come to rest, and the seconds that a load shall last."""

    lab: Lab
    subject: Subject
    directory: Path
    seconds: int

    @property
    def client(self) -> Host:
        return self.lab.host("client")

    @property
    def address(self) -> str:
        """Where a program in the client host finds the target."""
        return self.subject.target_address


@dataclass(frozen=True, slots=True)
class Growth:
    """Memory of one role beyond what it had before, in bytes: with all connections held, and after them."""

    held: int
    left: int


@dataclass(frozen=True, slots=True)
class Measurement:
    """The figure of a case (in its unit), the work that was done meanwhile, and failed requests.

    ``growth``, by role, is what holding connections took; only the case that holds them has it.
    """

    value: float
    work: float
    errors: int = 0
    growth: Mapping[str, Growth] = field(default_factory=dict)
