"""What is measured: iperf3 for bulk, wrk for requests. Each case runs inside the client host."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from testbed import Host

IPERF_PORT = 5201
HTTP_PORT = 80
GRACE = 60
"""Seconds that a load generator may take beyond the time it was asked to run for."""

_TIME_UNITS = {"us": 1.0, "ms": 1e3, "s": 1e6, "m": 60e6}


class CaseError(Exception):
    """The load generator could not measure anything."""


class Work(StrEnum):
    """What processor time is divided by."""

    GIGABIT = "Gbit"
    REQUEST = "request"


@dataclass(frozen=True, slots=True)
class Measurement:
    """The figure of a case (in its unit), the work that was done meanwhile, and failed requests."""

    value: float
    work: float
    errors: int = 0


@dataclass(frozen=True, slots=True)
class Case:
    """``run(client, address, seconds)`` measures; it raises :class:`CaseError`, or what Host.run raises."""

    name: str
    title: str
    unit: str
    work: Work
    run: Callable[[Host, str, int], Measurement]
    lower_is_better: bool = False


def _bulk(*options: str) -> Callable[[Host, str, int], Measurement]:
    def run(client: Host, address: str, seconds: int) -> Measurement:
        command = ("iperf3", "-c", address, "-p", str(IPERF_PORT), "-t", str(seconds), "-J", *options)
        return parse_iperf3(client.run(*command, timeout=seconds + GRACE, check=False).stdout)

    return run


def _requests(connections: int, *options: str) -> Callable[[Host, str, int], str]:
    def run(client: Host, address: str, seconds: int) -> str:
        command = ("wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--latency", *options)
        return client.run(*command, f"http://{address}:{HTTP_PORT}/", timeout=seconds + GRACE).stdout

    return run


def _rate(connections: int, *options: str) -> Callable[[Host, str, int], Measurement]:
    load = _requests(connections, *options)
    return lambda client, address, seconds: parse_wrk(load(client, address, seconds)).as_rate()


def _latency(client: Host, address: str, seconds: int) -> Measurement:
    return parse_wrk(_requests(1)(client, address, seconds)).as_latency()


@dataclass(frozen=True, slots=True)
class WrkReport:
    """What wrk printed; the latency is the median, in microseconds."""

    requests: int
    per_second: float
    p50: float
    errors: int

    def as_rate(self) -> Measurement:
        return Measurement(self.per_second, self.requests, self.errors)

    def as_latency(self) -> Measurement:
        return Measurement(self.p50, self.requests, self.errors)


def parse_iperf3(output: str) -> Measurement:
    """Read ``iperf3 -J``: megabits per second at the receiver."""
    try:
        report = json.loads(output)
    except json.JSONDecodeError:
        raise CaseError(f"iperf3 printed no JSON: {output[-200:]!r}") from None
    if "error" in report:
        raise CaseError(f"iperf3: {report['error']}")
    received = report["end"]["sum_received"]
    if not received["bytes"]:
        raise CaseError("iperf3: nothing arrived")
    return Measurement(received["bits_per_second"] / 1e6, received["bytes"] * 8 / 1e9)


def parse_wrk(output: str) -> WrkReport:
    """Read what ``wrk --latency`` prints for people; it has no other form."""
    requests = re.search(r"^\s*(\d+) requests in ", output, re.MULTILINE)
    rate = re.search(r"^Requests/sec:\s*([\d.]+)", output, re.MULTILINE)
    median = re.search(r"^\s*50%\s+([\d.]+)(us|ms|s|m)$", output, re.MULTILINE)
    if not (requests and rate and median) or int(requests[1]) == 0:
        raise CaseError(f"wrk completed no request: {output[-200:]!r}")
    sockets = re.search(
        r"Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)", output, re.MULTILINE
    )
    refused = re.search(r"Non-2xx or 3xx responses: (\d+)", output)
    errors = sum(map(int, sockets.groups())) if sockets else 0
    errors += int(refused[1]) if refused else 0
    return WrkReport(int(requests[1]), float(rate[1]), float(median[1]) * _TIME_UNITS[median[2]], errors)


CASES = (
    Case("bulk", "bulk, 1 connection", "Mbit/s", Work.GIGABIT, _bulk()),
    Case("bulk-reversed", "bulk reversed", "Mbit/s", Work.GIGABIT, _bulk("-R")),
    Case("bulk-8", "bulk, 8 connections", "Mbit/s", Work.GIGABIT, _bulk("-P", "8")),
    Case("http-32", "HTTP keep-alive, 32 connections", "req/s", Work.REQUEST, _rate(32)),
    Case("http-1", "HTTP keep-alive, 1 connection, p50", "µs", Work.REQUEST, _latency, lower_is_better=True),
    Case(
        "http-new",
        "new connection per request, 32 at once",
        "req/s",
        Work.REQUEST,
        _rate(32, "-H", "Connection: close"),
    ),
)
