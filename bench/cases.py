"""What is measured: iperf3 for bulk, wrk for requests, idle connections. Cases run inside the client host."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from enum import StrEnum

from bench.conditions import many_descriptors, one_processor
from bench.idle import hold
from bench.scene import CaseError, Measurement, Scene

IPERF_PORT = 5201
HTTP_PORT = 80
GRACE = 60
"""Seconds that a load generator may take beyond the time it was asked to run for."""

_TIME_UNITS = {"us": 1.0, "ms": 1e3, "s": 1e6, "m": 60e6}


class Work(StrEnum):
    """What processor time is divided by."""

    GIGABIT = "Gbit"
    REQUEST = "request"
    CONNECTION = "connection"
    """Held, not made: their cost is memory."""


@dataclass(frozen=True, slots=True)
class Case:
    """``run`` measures; it raises :class:`CaseError`, or what Host.run raises.

    Everything, the load and the target included, is started ``under`` a condition.
    """

    name: str
    title: str
    unit: str
    work: Work
    run: Callable[[Scene], Measurement]
    lower_is_better: bool = False
    under: Callable[[], AbstractContextManager[object]] = nullcontext


def _bulk(*options: str) -> Callable[[Scene], Measurement]:
    def run(scene: Scene) -> Measurement:
        time = ("-t", str(scene.seconds))
        command = ("iperf3", "-c", scene.address, "-p", str(IPERF_PORT), *time, "-J", *options)
        return parse_iperf3(scene.client.run(*command, timeout=scene.seconds + GRACE, check=False).stdout)

    return run


def _requests(scene: Scene, connections: int, *options: str) -> WrkReport:
    command = ("wrk", "-t1", f"-c{connections}", f"-d{scene.seconds}s", "--latency", *options)
    url = f"http://{scene.address}:{HTTP_PORT}/"
    return parse_wrk(scene.client.run(*command, url, timeout=scene.seconds + GRACE).stdout)


def _rate(connections: int, *options: str) -> Callable[[Scene], Measurement]:
    return lambda scene: _requests(scene, connections, *options).as_rate()


def _latency(scene: Scene) -> Measurement:
    return _requests(scene, 1).as_latency()


def _idle(connections: int) -> Callable[[Scene], Measurement]:
    return lambda scene: hold(scene, connections)


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
        "http-1-pinned",
        "HTTP keep-alive, 1 connection, one processor, p50",
        "µs",
        Work.REQUEST,
        _latency,
        lower_is_better=True,
        under=one_processor,
    ),
    Case(
        "http-new",
        "new connection per request, 32 at once",
        "req/s",
        Work.REQUEST,
        _rate(32, "-H", "Connection: close"),
    ),
    Case(
        "idle-10000",
        "10,000 idle connections, the largest role's memory for each",
        "KiB",
        Work.CONNECTION,
        _idle(10_000),
        lower_is_better=True,
        under=many_descriptors,
    ),
)
