"""System calls of each role, counted by perf(1): the tracepoint raw_syscalls:sys_enter.

Counting costs every system call on the machine a little, so it is done on demand only.
"""

from __future__ import annotations

import os
import select
import signal
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

from bench.accounting import descendants
from bench.scene import CaseError
from bench.subjects.base import program
from testbed import Process

EVENT = "raw_syscalls:sys_enter"
ANSWER_DEADLINE = 10.0


@contextmanager
def system_calls(roles: Mapping[str, Iterable[int]], directory: Path) -> Iterator[dict[str, int]]:
    """Count from here to the end of the context; the dictionary is filled then.

    Processes that a role starts meanwhile are counted with it.

    Raises:
        CaseError: perf cannot count here.
    """
    counts: dict[str, int] = {}
    with ExitStack() as stack:
        counters = {
            role: stack.enter_context(closing(_Counter(role, descendants(pids), directory)))
            for role, pids in roles.items()
        }
        for counter in counters.values():
            counter.command("enable")
        yield counts
        for counter in counters.values():
            counter.command("disable")
        counts.update({role: counter.result() for role, counter in counters.items()})


class _Counter:
    """perf stat on a role's processes, told by a FIFO when to count."""

    def __init__(self, role: str, pids: Iterable[int], directory: Path) -> None:
        self._output = directory / f"perf-{role}.csv"
        orders, answers = directory / f"perf-{role}.orders", directory / f"perf-{role}.answers"
        for fifo in (orders, answers):
            os.mkfifo(fifo)
        # For reading and writing, which never waits for the other side (fifo(7)).
        self._orders, self._answers = (os.open(fifo, os.O_RDWR | os.O_CLOEXEC) for fifo in (orders, answers))
        which = ("-e", EVENT, "-p", ",".join(map(str, pids)))
        how = ("-x", ",", "-o", str(self._output), "-D", "-1", "--control", f"fifo:{orders},{answers}")
        self._perf = Process((program("perf"), "stat", *which, *how), directory / f"perf-{role}.log")

    def command(self, word: str) -> None:
        os.write(self._orders, f"{word}\n".encode("ascii"))
        answered, _, _ = select.select([self._answers], [], [], ANSWER_DEADLINE)
        if not answered:
            raise CaseError(f"perf does not count system calls here: {self._perf}\n{self._perf.tail()}")
        os.read(self._answers, 16)

    def result(self) -> int:
        self._perf.send_signal(signal.SIGINT)
        self._perf.wait(ANSWER_DEADLINE)
        return parse_perf_stat(self._output.read_text(encoding="utf-8"))

    def close(self) -> None:
        self._perf.stop()
        os.close(self._orders)
        os.close(self._answers)


def parse_perf_stat(output: str) -> int:
    """Read what ``perf stat -x ,`` writes: a comment, and for the event a line that begins with its count."""
    for line in output.splitlines():
        fields = line.split(",")
        if len(fields) > 2 and fields[2] == EVENT and fields[0].isdigit():
            return int(fields[0])
    raise CaseError(f"perf counted nothing: {output[-200:]!r}")
