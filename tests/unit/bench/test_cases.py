"""Reading what the load generators print."""

from __future__ import annotations

import json

import pytest

from bench.cases import parse_iperf3, parse_wrk
from bench.scene import CaseError, Measurement

WRK = """\
Running 5s test @ http://192.168.1.5:80/
  1 threads and 32 connections
  Thread Stats   Avg      Stdev     Max   +/- Stdev
    Latency     7.95ms    2.05ms  31.12ms   80.11%
    Req/Sec     4.05k   318.00     4.56k    74.00%
  Latency Distribution
     50%    {median}
     75%    8.70ms
  20163 requests in 5.01s, 7.02MB read
{errors}Requests/sec:   4026.62
Transfer/sec:      1.40MB
"""


@pytest.mark.parametrize(("median", "microseconds"), [("64.00us", 64), ("7.62ms", 7620), ("1.02s", 1.02e6)])
def test_wrk_median_in_microseconds(median: str, microseconds: float) -> None:
    report = parse_wrk(WRK.format(median=median, errors=""))
    assert report.as_latency().value == pytest.approx(microseconds)
    assert report.as_rate() == Measurement(4026.62, 20163)


def test_wrk_errors_are_added_up() -> None:
    errors = "  Socket errors: connect 1, read 20, write 0, timeout 3\n  Non-2xx or 3xx responses: 400\n"
    assert parse_wrk(WRK.format(median="7.62ms", errors=errors)).errors == 424


def test_wrk_without_a_request_is_a_failure() -> None:
    nothing = WRK.replace("20163 requests", "0 requests").format(median="0.00us", errors="")
    with pytest.raises(CaseError, match="no request"):
        parse_wrk(nothing)


def test_iperf3_counts_what_was_received() -> None:
    end = {
        "sum_sent": {"bytes": 9, "bits_per_second": 9.0},
        "sum_received": {"bytes": 10**9, "bits_per_second": 5e8},
    }
    assert parse_iperf3(json.dumps({"end": end})) == Measurement(500.0, 8.0)


@pytest.mark.parametrize(
    ("output", "reason"),
    [
        ('{"error": "the server is busy"}', "the server is busy"),
        ('{"end": {"sum_received": {"bytes": 0, "bits_per_second": 0}}}', "nothing arrived"),
        ("killed", "no JSON: 'killed'"),
    ],
)
def test_iperf3_failures(output: str, reason: str) -> None:
    with pytest.raises(CaseError, match=reason):
        parse_iperf3(output)
