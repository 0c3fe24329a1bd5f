"""From samples to tables."""

from __future__ import annotations

from bench.accounting import Switches
from bench.cases import CASES
from bench.measure import Sample
from bench.report import (
    cost_table,
    growth_table,
    markdown,
    memory_table,
    ratio_table,
    render,
    speed_table,
    switch_table,
)
from bench.results import Results
from bench.scene import Growth

RATE = next(case for case in CASES if case.name == "http-32")
LATENCY = next(case for case in CASES if case.name == "http-1")


GROWTH = {"client": Growth(200 << 10, 10 << 10)}


def sample(subject: str, value: float, *, case: str = "http-32", errors: int = 0, number: int = 1) -> Sample:
    return Sample(
        number, subject, case, value, 1000, errors, {"client": 0.1, "proxy": 0.3}, {"client": 5 << 20}
    )


def test_median_and_range() -> None:
    results = Results([sample("nebula", value, number=n) for n, value in enumerate((30, 10, 20))])
    assert speed_table(results, ["nebula"], [RATE])[1][1] == "20 (10-30)"


def test_a_failed_round_is_marked_and_explained() -> None:
    results = Results([sample("nebula", 20), Sample(2, "nebula", "http-32", failure="no\nanswer")])
    assert speed_table(results, ["nebula"], [RATE])[1][1] == "20 !"
    assert "- nebula, http-32: no answer" in render(results, ["nebula"], [RATE])


def test_nothing_but_failures() -> None:
    results = Results([Sample(1, "nebula", "http-32", failure="no answer")])
    assert speed_table(results, ["nebula"], [RATE])[1][1] == "failed"
    assert ratio_table(results, ["tunneler", "nebula"], [RATE])[1][1:] == ["-", "-"]


def test_few_failed_requests_are_told_but_not_marked() -> None:
    few, many = sample("nebula", 20, errors=1), sample("sshuttle", 20, errors=2)
    results = Results([few, many])
    assert speed_table(results, ["nebula", "sshuttle"], [RATE])[1][1:] == ["20", "20 !"]
    assert "nebula, http-32: 1 of 1000 requests failed" in render(results, ["nebula"], [RATE])


def test_the_best_peer_is_the_hardest_to_beat() -> None:
    results = Results(
        [sample("direct", 400), sample("tunneler", 100), sample("v2ray", 80), sample("nebula", 50)]
    )
    heading, row = ratio_table(results, ["direct", "tunneler", "v2ray", "nebula"], [RATE])
    assert heading[1:] == [f"tunneler / {other}" for other in ("direct", "v2ray", "nebula", "best peer")]
    assert row[1:] == ["0.25 x", "1.25 x", "2.00 x", "1.25 x"]


def test_of_latencies_the_lower_is_better() -> None:
    results = Results([sample("tunneler", 200, case="http-1"), sample("v2ray", 400, case="http-1")])
    assert ratio_table(results, ["tunneler", "v2ray"], [LATENCY])[1][1:] == ["2.00 x", "2.00 x"]


def test_cost_is_per_unit_of_work() -> None:
    rows = cost_table(Results([sample("nebula", 1)]), ["nebula"], [RATE])[1:]
    assert rows == [["nebula", "client", "100"], ["nebula", "proxy", "300"], ["nebula", "all", "400"]]


def test_memory_is_the_highest_of_all_rounds() -> None:
    low = Sample(2, "nebula", "http-1", 1, 1, 0, {"client": 0.0}, {"client": 4 << 20})
    assert memory_table(Results([sample("nebula", 1), low]), ["nebula"])[1] == ["nebula", "5", "-", "-"]


def test_memory_for_held_connections_is_no_peak_under_load() -> None:
    held = Sample(1, "nebula", "idle-10000", 1, 10, peak_bytes={"client": 9 << 20}, growth=GROWTH)
    assert memory_table(Results([sample("nebula", 1), held]), ["nebula"])[1] == ["nebula", "5", "-", "-"]
    assert growth_table(Results([held]), ["nebula"], CASES)[1] == ["nebula", "10", "20.0 / 1.0", "-", "-"]


def test_context_switches_are_per_request() -> None:
    switches = {"server": Switches(2000, 500)}
    one = Sample(1, "nebula", "http-32", 1, 1000, cpu={"server": 1.0}, switches=switches)
    assert switch_table(Results([one]), ["nebula"], [RATE]) == [
        ["subject", "role", "http-32"],
        ["nebula", "server", "2.00 + 0.50"],
    ]


def test_columns_line_up() -> None:
    assert markdown([["case", "x"], ["a", "100"]]).splitlines() == [
        "| case |   x |",
        "| ---- | --: |",
        "| a    | 100 |",
    ]
