"""What the project set itself for speed and cost, judged by one run.

A ratio is that of the medians. "Best peer" is the best of those that do what tunneler does
(:data:`bench.subjects.UNRANKED` tells who does not) and that this run has a figure of.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from bench.results import ROLES, Results
from bench.subjects import OURS, SUBJECTS, UNRANKED

KB = 1000
MB = 1000 * KB
MICROSECONDS = 1e6
PEERS = tuple(name for name in SUBJECTS if name != OURS and name not in UNRANKED)


@dataclass(frozen=True, slots=True)
class Outcome:
    """How far a run got."""

    reached: str
    met: bool


@dataclass(frozen=True, slots=True)
class Goal:
    """``judge`` gives None for a run without the figures for it."""

    what: str
    asked: str
    judge: Callable[[Results], Outcome | None]


def _rate(what: str, case: str, least: float, *peers: str) -> Goal:
    """At least ``least`` times the highest figure of ``peers`` (all of them, if none is named)."""

    def judge(results: Results) -> Outcome | None:
        ours, theirs = results.value(OURS, case), _figures(results, case, peers or PEERS)
        if ours is None or not theirs:
            return None
        best = max(theirs, key=theirs.__getitem__)
        ratio = ours / theirs[best]
        return Outcome(f"{ratio:.2f} x {best}", ratio >= least)

    return Goal(what, f">= {least:g} x {peers[0] if peers else 'the best peer'}", judge)


def _latency(what: str, case: str, most: float) -> Goal:
    """At most ``most`` times the lowest figure of all peers."""

    def judge(results: Results) -> Outcome | None:
        ours, theirs = results.value(OURS, case), _figures(results, case, PEERS)
        if ours is None or not theirs:
            return None
        best = min(theirs, key=theirs.__getitem__)
        ratio = ours / theirs[best]
        return Outcome(f"{ratio:.2f} x {best}", ratio <= most)

    return Goal(what, f"<= {most:g} x the best peer", judge)


def _figures(results: Results, case: str, peers: tuple[str, ...]) -> dict[str, float]:
    figures = {peer: results.value(peer, case) for peer in peers}
    return {peer: figure for peer, figure in figures.items() if figure is not None}


def _processor_time(what: str, case: str, most: float) -> Goal:
    def judge(results: Results) -> Outcome | None:
        cost = results.total_cost(OURS, case)
        if cost is None:
            return None
        return Outcome(f"{cost * MICROSECONDS:.0f} µs", cost * MICROSECONDS <= most)

    return Goal(what, f"<= {most:g} µs", judge)


def _each_role(
    what: str, most: float, unit: tuple[int, str], size_of: Callable[[Results, str], float | None]
) -> Goal:
    """At most ``most`` units of memory in the role that needs most."""
    scale, name = unit

    def judge(results: Results) -> Outcome | None:
        sizes = {role: size for role in ROLES if (size := size_of(results, role)) is not None}
        if not sizes:
            return None
        largest = max(sizes, key=sizes.__getitem__)
        size = sizes[largest] / scale
        return Outcome(f"{size:.1f} {name} ({largest})", size <= most)

    return Goal(what, f"<= {most:g} {name}", judge)


def _idle_connection(results: Results, role: str) -> float | None:
    growth = results.growth(OURS, "idle-10000", role)
    return None if growth is None else growth[0]


GOALS = (
    _rate("keep-alive, 32 connections", "http-32", 1.8),
    _rate("new connections", "http-new", 2),
    _latency("p50 of 1 connection, one processor", "http-1-pinned", 1),
    _latency("p50 of 1 connection", "http-1", 1.3),
    _rate("bulk", "bulk", 3, "v2ray"),
    _rate("bulk reversed", "bulk-reversed", 3, "v2ray"),
    _processor_time("processor time a request, all roles (http-32)", "http-32", 130),
    _each_role("peak memory of a role under load", 60, (MB, "MB"), lambda r, role: r.peak(OURS, role)),
    _each_role("memory of a role for an idle connection", 20, (KB, "KB"), _idle_connection),
)
