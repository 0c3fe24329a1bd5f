"""All samples of a run, and what is to be known of them: medians over the rounds."""

from __future__ import annotations

from collections.abc import Iterable
from statistics import median

from bench.measure import Sample

ROLES = ("client", "server", "proxy")
"""In the order of the path."""


class Results:
    """All samples of a run, and the questions that the tables ask of them."""

    def __init__(self, samples: Iterable[Sample]) -> None:
        self.samples = tuple(samples)

    def of(self, subject: str, case: str) -> list[Sample]:
        """The samples of one cell that have a figure."""
        return [s for s in self.samples if (s.subject, s.case) == (subject, case) and s.value is not None]

    def value(self, subject: str, case: str) -> float | None:
        """Median over the rounds; None if every round failed."""
        values = [sample.value for sample in self.of(subject, case) if sample.value is not None]
        return median(values) if values else None

    def cost(self, subject: str, case: str, role: str) -> float | None:
        """Median processor seconds per unit of work."""
        costs = [s.cpu[role] / s.work for s in self.of(subject, case) if role in s.cpu and s.work]
        return median(costs) if costs else None

    def total_cost(self, subject: str, case: str) -> float | None:
        """Median processor seconds per unit of work, of all roles together."""
        costs = [sum(s.cpu.values()) / s.work for s in self.of(subject, case) if s.cpu and s.work]
        return median(costs) if costs else None

    def switches(self, subject: str, case: str, role: str) -> tuple[float, float] | None:
        """Median voluntary and involuntary context switches per unit of work."""
        samples = [s for s in self.of(subject, case) if role in s.switches and s.work]
        if not samples:
            return None
        voluntary = median(s.switches[role].voluntary / s.work for s in samples)
        return voluntary, median(s.switches[role].involuntary / s.work for s in samples)

    def system_calls(self, subject: str, case: str, role: str) -> float | None:
        """Median system calls per unit of work; None where they were not counted."""
        samples = [s for s in self.of(subject, case) if role in s.system_calls and s.work]
        return median(s.system_calls[role] / s.work for s in samples) if samples else None

    def growth(self, subject: str, case: str, role: str) -> tuple[float, float] | None:
        """Median bytes for each connection: while they were held, and after all were closed."""
        samples = [s for s in self.of(subject, case) if role in s.growth and s.work]
        if not samples:
            return None
        held = median(s.growth[role].held / s.work for s in samples)
        return held, median(s.growth[role].left / s.work for s in samples)

    def peak(self, subject: str, role: str) -> int | None:
        """Highest resident set in bytes, over all rounds and all cases but those that hold connections."""
        peaks = [
            s.peak_bytes[role]
            for s in self.samples
            if s.subject == subject and role in s.peak_bytes and not s.growth
        ]
        return max(peaks, default=None)

    def roles(self, subject: str) -> list[str]:
        """The roles that the subject has processes for, in the order of the path."""
        seen = {role for sample in self.samples if sample.subject == subject for role in sample.cpu}
        return [role for role in ROLES if role in seen]
