"""The tables, as Markdown that reads well unrendered; what is in them is in :mod:`bench.results`."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median

from bench.cases import Case, Work
from bench.goals import GOALS
from bench.measure import Sample
from bench.results import ROLES, Results
from bench.subjects import OURS, UNRANKED

MIB = 1 << 20
KIB = 1 << 10
ERROR_SHARE = 0.001
"""A figure is marked when more than this share of its requests failed."""

FEW = 10
"""Figures below this are given with one digit more."""

Table = list[list[str]]


def render(results: Results, subjects: Sequence[str], cases: Sequence[Case]) -> str:
    """All tables of a run, then what failed."""
    parts = [
        ("Speed: median (lowest-highest) over the rounds", speed_table(results, subjects, cases)),
        ("Ratios: above 1 is better for the first named", ratio_table(results, subjects, cases)),
        ("Processor time by role: µs per request, s per Gbit", cost_table(results, subjects, cases)),
        (
            "Context switches a request by role: voluntary + involuntary",
            switch_table(results, subjects, cases),
        ),
        ("System calls a request by role", system_call_table(results, subjects, cases)),
        ("Peak resident memory by role under load, MiB", memory_table(results, subjects)),
        (
            "Memory by role for each idle connection, KiB: while held / left when all are closed",
            growth_table(results, subjects, cases),
        ),
        ("Asked for and reached", goal_table(results)),
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
    for case in _with_load(cases):
        ours = results.value(OURS, case.name)
        ratios = [_ratio(case, ours, results.value(other, case.name)) for other in others]
        against_peers = [
            r for other, r in zip(others, ratios, strict=True) if other in peers and r is not None
        ]
        best = min(against_peers, default=None)
        table.append([case.title, *(_number(ratio, " x") for ratio in (*ratios, best))])
    return table


def cost_table(results: Results, subjects: Sequence[str], cases: Sequence[Case]) -> Table:
    cases = _with_load(cases)
    table = [["subject", "role", *(_cost_title(case) for case in cases)]]
    for subject in subjects:
        roles = results.roles(subject)
        rows = [[results.cost(subject, case.name, role) for case in cases] for role in roles]
        for role, row in zip(roles, rows, strict=True):
            table.append([subject, role, *map(_cost, row, cases)])
        if rows:
            totals = [results.total_cost(subject, case.name) for case in cases]
            table.append([subject, "all", *map(_cost, totals, cases)])
    return table if cases else [[]]


def switch_table(results: Results, subjects: Sequence[str], cases: Sequence[Case]) -> Table:
    cases = [case for case in cases if case.work is Work.REQUEST]
    table = [["subject", "role", *(case.name for case in cases)]]
    for subject in subjects:
        for role in results.roles(subject):
            cells = [_switches(results.switches(subject, case.name, role)) for case in cases]
            table.append([subject, role, *cells])
    return table if cases else [[]]


def system_call_table(results: Results, subjects: Sequence[str], cases: Sequence[Case]) -> Table:
    cases = [case for case in cases if case.work is Work.REQUEST]
    table = [["subject", "role", *(case.name for case in cases)]]
    for subject in subjects:
        for role in results.roles(subject):
            calls = [results.system_calls(subject, case.name, role) for case in cases]
            if any(calls):
                table.append([subject, role, *("-" if n is None else f"{n:.1f}" for n in calls)])
    return table


def growth_table(results: Results, subjects: Sequence[str], cases: Sequence[Case]) -> Table:
    table = [["subject", "held", *ROLES]]
    for subject in subjects:
        for case in cases:
            if case.work is Work.CONNECTION and (samples := results.of(subject, case.name)):
                cells = [_growth(results.growth(subject, case.name, role)) for role in ROLES]
                table.append([subject, f"{samples[0].work:.0f}", *cells])
    return table


def goal_table(results: Results) -> Table:
    """What the project set itself, and how far this run got; without the cases for it, nothing."""
    table = [["", "asked for", "reached", ""]]
    for goal in GOALS:
        outcome = goal.judge(results)
        if outcome is not None:
            table.append([goal.what, goal.asked, outcome.reached, "yes" if outcome.met else "no"])
    return table


def memory_table(results: Results, subjects: Sequence[str]) -> Table:
    table = [["subject", *ROLES]]
    for subject in subjects:
        peaks = [results.peak(subject, role) for role in ROLES]
        if any(peaks):
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
    digits = 0 if median(values) >= FEW else 1
    text = f"{median(values):.{digits}f}"
    if len(values) > 1:
        text += f" ({min(values):.{digits}f}-{max(values):.{digits}f})"
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
            what = "connections" if sample.growth else "requests"
            lines.append(f"{where}: {sample.errors} of {sample.work:.0f} {what} failed")
    return "\n".join(dict.fromkeys(lines))


def _with_load(cases: Sequence[Case]) -> list[Case]:
    """Those in which something happens all the time: what is held costs memory alone."""
    return [case for case in cases if case.work is not Work.CONNECTION]


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


def _switches(per_request: tuple[float, float] | None) -> str:
    return "-" if per_request is None else " + ".join(f"{number:.2f}" for number in per_request)


def _growth(per_connection: tuple[float, float] | None) -> str:
    return "-" if per_connection is None else " / ".join(f"{size / KIB:.1f}" for size in per_connection)


def _number(value: float | None, unit: str = "") -> str:
    return "-" if value is None else f"{value:.2f}{unit}" if unit else f"{value:.0f}"
