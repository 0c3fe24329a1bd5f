"""The tables: medians over the rounds, ratios, cost and memory, as Markdown that reads well unrendered."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from statistics import median

from bench.cases import Case, Work
from bench.measure import Sample
from bench.subjects import OURS, UNRANKED

MIB = 1 << 20
ERROR_SHARE = 0.001
"""A figure is marked when more than this share of its requests failed."""

Table = list[list[str]]


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

    def peak(self, subject: str, role: str) -> int | None:
        """Highest resident set in bytes, over all cases and rounds."""
        peaks = [s.peak_bytes[role] for s in self.samples if s.subject == subject and role in s.peak_bytes]
        return max(peaks, default=None)

    def roles(self, subject: str) -> list[str]:
        """The roles that the subject has processes for, in the order of the path."""
        seen = {role for sample in self.samples if sample.subject == subject for role in sample.cpu}
        return [role for role in ("client", "server", "proxy") if role in seen]


def render(results: Results, subjects: Sequence[str], cases: Sequence[Case]) -> str:
    """All tables of a run, then what failed."""
    parts = [
        ("Speed: median (lowest-highest) over the rounds", speed_table(results, subjects, cases)),
        ("Ratios: above 1 is better for the first named", ratio_table(results, subjects, cases)),
        ("Processor time by role: µs per request, s per Gbit", cost_table(results, subjects, cases)),
        ("Peak resident memory by role, MiB", memory_table(results, subjects)),
    ]
    text = "\n\n".join(f"## {title}\n\n{markdown(table)}" for title, table in parts if len(table) > 1)
    failures = _failures(results)
    return f"{text}\n\n## Failures\n\n{failures}\n" if failures else f"{text}\n"


def speed_table(results: Results, subjects: Sequence[str], cases: Sequence[Case]) -> Table:
    rows = ([_title(case), *(_speed(results, subject, case) for subject in subjects)] for case in cases)
    return [["case", *subjects], *rows]


def ratio_table(results: Results, subjects: Sequence[str], cases: Sequence[Case]) -> Table:
    """Tunneler against each other subject and against the best peer; without it, each against none."""
    if OURS not in subjects:
        return [[]]
    others = [subject for subject in subjects if subject != OURS]
    peers = [subject for subject in others if subject not in UNRANKED]
    table = [["case", *(f"{OURS} / {other}" for other in others), f"{OURS} / best peer"]]
    for case in cases:
        ours = results.value(OURS, case.name)
        ratios = [_ratio(case, ours, results.value(other, case.name)) for other in others]
        against_peers = [
            r for other, r in zip(others, ratios, strict=True) if other in peers and r is not None
        ]
        best = min(against_peers, default=None)
        table.append([case.title, *(_number(ratio, " x") for ratio in (*ratios, best))])
    return table


def cost_table(results: Results, subjects: Sequence[str], cases: Sequence[Case]) -> Table:
    table = [["subject", "role", *(_cost_title(case) for case in cases)]]
    for subject in subjects:
        roles = results.roles(subject)
        rows = [[results.cost(subject, case.name, role) for case in cases] for role in roles]
        for role, row in zip(roles, rows, strict=True):
            table.append([subject, role, *map(_cost, row, cases)])
        if rows:
            totals = [_total(column) for column in zip(*rows, strict=True)]
            table.append([subject, "all", *map(_cost, totals, cases)])
    return table


def memory_table(results: Results, subjects: Sequence[str]) -> Table:
    roles = ("client", "server", "proxy")
    table = [["subject", *roles]]
    for subject in subjects:
        if results.roles(subject):
            peaks = [results.peak(subject, role) for role in roles]
            table.append([subject, *(_number(None if peak is None else peak / MIB) for peak in peaks)])
    return table


def markdown(table: Table) -> str:
    """Columns padded to one width, numbers to the right; the first row is the heading."""
    widths = [max(len(row[column]) for row in table) for column in range(len(table[0]))]
    ruler = ["-" * width if column == 0 else "-" * (width - 1) + ":" for column, width in enumerate(widths)]
    lines = []
    for row in (table[0], ruler, *table[1:]):
        cells = [
            cell.ljust(width) if column == 0 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _speed(results: Results, subject: str, case: Case) -> str:
    samples = results.of(subject, case.name)
    values = [sample.value for sample in samples if sample.value is not None]
    if not values:
        return "failed"
    text = f"{median(values):.0f}"
    if len(values) > 1:
        text += f" ({min(values):.0f}-{max(values):.0f})"
    bad = any(sample.errors > ERROR_SHARE * sample.work for sample in samples)
    bad = bad or any(sample.failure for sample in results.samples if _is(sample, subject, case))
    return f"{text} !" if bad else text


def _failures(results: Results) -> str:
    """One line for each different failure, and for each figure with failed requests."""
    lines = []
    for sample in results.samples:
        where = f"- {sample.subject}, {sample.case}"
        if sample.failure:
            lines.append(f"{where}: {' '.join(sample.failure.split())}")
        elif sample.errors:
            lines.append(f"{where}: {sample.errors} of {sample.work:.0f} requests failed")
    return "\n".join(dict.fromkeys(lines))


def _is(sample: Sample, subject: str, case: Case) -> bool:
    return (sample.subject, sample.case) == (subject, case.name)


def _ratio(case: Case, ours: float | None, other: float | None) -> float | None:
    if ours is None or other is None:
        return None
    return other / ours if case.lower_is_better else ours / other


def _title(case: Case) -> str:
    return f"{case.title}, {case.unit}"


def _cost_title(case: Case) -> str:
    return f"{case.name}, {'s/Gbit' if case.work is Work.GIGABIT else 'µs/req'}"


def _cost(seconds: float | None, case: Case) -> str:
    if seconds is None:
        return "-"
    return f"{seconds:.2f}" if case.work is Work.GIGABIT else f"{seconds * 1e6:.0f}"


def _total(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) if known else None


def _number(value: float | None, unit: str = "") -> str:
    return "-" if value is None else f"{value:.2f}{unit}" if unit else f"{value:.0f}"
