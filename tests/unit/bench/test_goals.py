"""What was asked for, against what a run reached."""

from __future__ import annotations

import pytest

from bench.goals import GOALS, PEERS
from bench.measure import Sample
from bench.report import goal_table
from bench.results import Results
from bench.scene import Growth


def figure(subject: str, case: str, value: float) -> Sample:
    return Sample(1, subject, case, value, 1)


def row(*samples: Sample) -> list[str]:
    """The one row that these samples are enough for."""
    _, only = goal_table(Results(samples))
    return only


@pytest.mark.parametrize(("value", "met"), [(1800, "yes"), (1799, "no")])
def test_a_rate_is_compared_with_the_best_peer(value: float, met: str) -> None:
    peers = [figure("v2ray", "http-32", 900), figure("nebula", "http-32", 1000)]
    assert row(figure("tunneler", "http-32", value), *peers) == [
        "keep-alive, 32 connections",
        ">= 1.8 x the best peer",
        "1.80 x nebula",
        met,
    ]


def test_who_does_less_and_who_is_ours_is_no_peer() -> None:
    others = ("direct", "tunneler-grpcio", "v2ray-plain")
    assert goal_table(Results([figure(s, "http-32", 1) for s in ("tunneler", *others)]))[1:] == []
    assert not set(PEERS) & {*others, "tunneler"}


@pytest.mark.parametrize(("case", "most"), [("http-1-pinned", 100), ("http-1", 130)])
def test_a_latency_is_compared_with_the_lowest(case: str, most: float) -> None:
    peers = [figure("v2ray", case, 100), figure("nebula", case, 200)]
    assert row(figure("tunneler", case, most), *peers)[2:] == [f"{most / 100:.2f} x v2ray", "yes"]
    assert row(figure("tunneler", case, most + 1), *peers)[3] == "no"


@pytest.mark.parametrize("case", ["bulk", "bulk-reversed"])
def test_bulk_is_compared_with_v2ray(case: str) -> None:
    others = [figure("v2ray", case, 100), figure("nebula", case, 500)]
    assert row(figure("tunneler", case, 300), *others)[2:] == ["3.00 x v2ray", "yes"]


def test_processor_time_is_that_of_all_roles() -> None:
    cheap = Sample(1, "tunneler", "http-32", 1, 1e6, cpu={"client": 60, "server": 70})
    dear = Sample(1, "tunneler", "http-32", 1, 1e6, cpu={"client": 60, "server": 71})
    assert row(cheap)[2:] == ["130 µs", "yes"]
    assert row(dear)[2:] == ["131 µs", "no"]


def test_peak_memory_is_that_of_the_largest_role_under_load() -> None:
    load = Sample(1, "tunneler", "bulk", 1, peak_bytes={"client": 50_000_000, "proxy": 60_000_000})
    held = Sample(1, "tunneler", "idle-10000", 1, 1, peak_bytes={"proxy": 10**9}, growth={"x": Growth(0, 0)})
    assert goal_table(Results([load, held]))[1][2:] == ["60.0 MB (proxy)", "yes"]


def test_an_idle_connection_is_judged_by_the_largest_role() -> None:
    growth = {"client": Growth(150_000, 0), "proxy": Growth(200_001, 0)}
    assert row(Sample(1, "tunneler", "idle-10000", 1, 10, growth=growth))[2:] == ["20.0 KB (proxy)", "no"]


def test_a_run_without_figures_judges_nothing() -> None:
    assert [goal.judge(Results([])) for goal in GOALS] == [None] * len(GOALS)
