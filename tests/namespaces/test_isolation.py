"""One reader that stops reading costs the others neither time nor memory."""

from __future__ import annotations

import socket
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from testbed import Host, Lab, wait_until
from testbed.suite import Member, Suite, Usage
from tests.namespaces.applications import TIMEOUT, Pair, receive_exactly, reset

MEBIBYTE = 1024 * 1024
STALL_SECONDS = 30.0
BASELINE_SECONDS = 8.0
PERIOD = 1.0
"""Seconds over which one 99th percentile is taken."""
NOISE = 0.001
"""Seconds by which two 99th percentiles of the same thing differ on a busy machine."""
HELD_UP = 0.5
"""Seconds that no machine is busy enough for: such an exchange was held up by the stalled connections."""

BUDGET = 8 * MEBIBYTE
MARGIN = 16 * MEBIBYTE
"""What a role may hold beside its windows: batches that are being read and written, twice (gRPC's
flow control window is 8 MiB a link), and what the allocator keeps of them."""
ROLES = ("client", "server", "proxy")
BLOCK = bytes(MEBIBYTE)


@pytest.fixture(scope="module")
def suite(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Suite]:
    budget = {"limits": {"memory_budget": BUDGET}}
    with Suite(lab, tmp_path_factory.mktemp("suite"), log_level="info") as suite:
        suite.add_three_roles(client=budget, server=budget, proxy=budget)
        suite.start()
        yield suite


class Flood:
    """Somebody who sends as fast as the other end reads, until the end of a ``with`` block."""

    def __init__(self, sender: socket.socket) -> None:
        self._sender = sender
        self._sent = 0
        self._last = time.monotonic()
        self._thread = threading.Thread(target=self._send)
        self._over = False

    def _send(self) -> None:
        self._sender.settimeout(0.1)
        while not self._over:
            try:
                self._sent += self._sender.send(BLOCK)
                self._last = time.monotonic()
            except TimeoutError:
                continue
            except OSError:
                break

    @property
    def stalled(self) -> bool:
        """Whether nothing could be sent for a second: all that the path may hold is full."""
        return self._sent > 0 and time.monotonic() - self._last > 1.0

    def __enter__(self) -> Flood:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over = True
        self._thread.join(TIMEOUT)


@contextmanager
def stalled_both_ways(client: Host, target: Host) -> Iterator[None]:
    """A connection of which the application reads nothing, and one of which the target reads nothing."""
    with Pair.open(client, target) as down, Pair.open(client, target) as up:
        with Flood(down.target) as one, Flood(up.application) as other:
            wait_until(lambda: one.stalled and other.stalled, TIMEOUT, "both senders held back")
            yield
            assert one.stalled
            assert other.stalled
        reset(down.application)
        reset(up.application)


def p99s(pairs: list[Pair], seconds: float) -> list[float]:
    """99th percentiles of small exchanges, one for each period of that time; in seconds."""
    end = time.monotonic() + seconds
    result = []
    while (begin := time.monotonic()) < end:
        times = []
        while time.monotonic() - begin < PERIOD:
            for pair in pairs:
                before = time.perf_counter()
                pair.application.sendall(b"small request")
                receive_exactly(pair.target, 13)
                pair.target.sendall(b"small answer")
                receive_exactly(pair.application, 12)
                times.append(time.perf_counter() - before)
        result.append(statistics.quantiles(times, n=100)[98])
    return result


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_a_reader_that_stalls_for_30_seconds(suite: Suite, client: Host, target: Host) -> None:
    with ExitStack() as stack:
        pairs = [stack.enter_context(Pair.open(client, target)) for _ in range(4)]
        p99s(pairs, PERIOD)  # warm
        calm = p99s(pairs, BASELINE_SECONDS)
        with stalled_both_ways(client, target):
            during = p99s(pairs, STALL_SECONDS)
        calm += p99s(pairs, BASELINE_SECONDS)
    # Whatever else this machine does makes some seconds slower, and none faster: compare the good ones.
    without, meanwhile = (statistics.quantiles(periods, n=4)[0] for periods in (calm, during))
    print(f"p99 {without * 1e3:.2f} ms without, {meanwhile * 1e3:.2f} ms during the stall", end=" ")
    print(
        f"(medians {statistics.median(calm) * 1e3:.2f} and {statistics.median(during) * 1e3:.2f} ms,", end=" "
    )
    print(f"worst seconds {max(calm) * 1e3:.2f} and {max(during) * 1e3:.2f} ms)")
    assert meanwhile < without * 1.1 + NOISE
    assert max(during) < HELD_UP


# ---------------------------------------------------------------------------- memory


@contextmanager
def memory_growth(members: list[Member]) -> Iterator[Callable[[], dict[str, int]]]:
    """Peak of each member's memory since the beginning, in bytes beyond what it had then."""
    before = {}
    for member in members:
        before[member.name] = member.usage().memory
        # proc(5), clear_refs: 5 makes the peak begin anew.
        Path(f"/proc/{member.pid}/clear_refs").write_text("5")
    yield lambda: {member.name: Usage.of(member.pid).peak_memory - before[member.name] for member in members}


class SlowReader:
    """Reads about 5 MB/s, until the end of a ``with`` block."""

    def __init__(self, sock: socket.socket) -> None:
        self.received = 0
        self._sock = sock
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._read)

    def _read(self) -> None:
        while not self._over.wait(0.01):
            self.received += len(self._sock.recv(1 << 16))

    def __enter__(self) -> SlowReader:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join(TIMEOUT)


@pytest.mark.parametrize("slow", [False, True], ids=["stalled", "slow"])
def test_memory_stays_within_the_budget(suite: Suite, client: Host, target: Host, slow: bool) -> None:
    with ExitStack() as stack, memory_growth([suite[role] for role in ROLES]) as growth:
        pairs = [stack.enter_context(Pair.open(client, target)) for _ in range(8)]
        # Half of them download, half upload.
        ends = [(p.target, p.application) for p in pairs[:4]] + [(p.application, p.target) for p in pairs[4:]]
        floods = [stack.enter_context(Flood(sender)) for sender, _ in ends]
        if slow:
            readers = [stack.enter_context(SlowReader(receiver)) for _, receiver in ends]
            wait_until(lambda: all(r.received > 2 * BUDGET for r in readers), TIMEOUT * 2, "much was read")
        else:
            wait_until(lambda: all(flood.stalled for flood in floods), TIMEOUT, "all senders held back")
        grown = growth()
    for role, size in grown.items():
        print(f"{role}: {size / MEBIBYTE:.1f} MiB beyond the start; the budget is {BUDGET // MEBIBYTE} MiB")
    for role, size in grown.items():
        assert size < BUDGET + MARGIN, role
