"""Programs that run in a lab: started, watched through their log, and ended by pid."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

POLL_INTERVAL = 0.02
"""Seconds between two looks at a condition: far below any deadline, and cheap on a busy machine."""

STOP_DEADLINE = 5.0
"""Seconds that a program gets between SIGTERM and SIGKILL."""

LOG_TAIL_LINES = 20


class CommandFailed(subprocess.CalledProcessError):
    """A command's exit status was not zero; unlike its base, it says what the command printed."""

    def __str__(self) -> str:
        output = "\n".join(part.strip() for part in (self.stdout, self.stderr) if part and part.strip())
        return f"{super().__str__()}\n{output}" if output else super().__str__()


class ProcessEndedError(Exception):
    """A program ended while somebody still expected something of it."""


def wait_until(condition: Callable[[], object], deadline: float, what: str) -> None:
    """Poll until ``condition()`` is true.

    Args:
        condition: looked at once more when the time is up, so that a stalled machine does not fail it.
        deadline: seconds from now.
        what: what is being waited for, for the error.

    Raises:
        TimeoutError: it did not become true in time.
    """
    end = time.monotonic() + deadline
    while not condition():
        if time.monotonic() >= end:
            if condition():
                return
            raise TimeoutError(f"{what}: not within {deadline:g} s")
        time.sleep(POLL_INTERVAL)


def execute(
    argv: Iterable[str],
    *,
    timeout: float,
    check: bool = True,
    input: str | None = None,
    env: Mapping[str, str] | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run a command to its end, out of reach of the terminal's Ctrl-C (its caller gets that).

    Raises:
        CommandFailed: ``check`` is set and the exit status is not zero.
        subprocess.TimeoutExpired: after ``timeout`` seconds; the command has been killed.
    """
    done = subprocess.run(
        list(argv),
        capture_output=True,
        text=True,
        timeout=timeout,
        input=input,
        stdin=subprocess.DEVNULL if input is None else None,
        env=_environment(env),
        start_new_session=True,
        check=False,
    )
    if check and done.returncode != 0:
        raise CommandFailed(done.returncode, done.args, done.stdout, done.stderr)
    return done


class Process:
    """A program running in the background; stdout and stderr go to one file."""

    def __init__(self, argv: Iterable[str], log: Path, env: Mapping[str, str] | None = None) -> None:
        self.argv = tuple(argv)
        self.log = log
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("wb") as output:
            self._popen = subprocess.Popen(
                self.argv,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=_environment(env),
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        return self._popen.pid

    @property
    def exit_status(self) -> int | None:
        """None while it runs; minus the signal's number if a signal ended it."""
        return self._popen.poll()

    def wait(self, deadline: float) -> int:
        """Wait for it to end by itself; its exit status.

        Raises:
            subprocess.TimeoutExpired: it still runs after ``deadline`` seconds.
        """
        return self._popen.wait(deadline)

    def send_signal(self, number: signal.Signals) -> None:
        """Send a signal; no error if it has ended."""
        self._popen.send_signal(number)

    def stop(self, deadline: float = STOP_DEADLINE) -> int:
        """SIGTERM, then SIGKILL after ``deadline`` seconds; always awaited. Its exit status."""
        self._popen.terminate()
        try:
            return self._popen.wait(deadline)
        except subprocess.TimeoutExpired:
            return self.kill()

    def kill(self) -> int:
        """SIGKILL, awaited."""
        self._popen.kill()
        return self._popen.wait(STOP_DEADLINE)

    def lines(self) -> list[str]:
        """The complete lines of its log so far."""
        text = self.log.read_text(encoding="utf-8", errors="replace")
        return text[: text.rfind("\n") + 1].splitlines()

    def json_lines(self) -> Iterator[dict[str, Any]]:
        """The log's lines that are JSON objects; anything else there is passed over."""
        for line in self.lines():
            if line.startswith("{"):
                try:
                    yield json.loads(line)
                except json.JSONDecodeError:
                    continue

    def wait_for_line(self, predicate: Callable[[str], bool], deadline: float) -> str:
        """The first line of the log that satisfies ``predicate``, waited for if need be.

        Raises:
            ProcessEndedError: it ended without such a line.
            TimeoutError: no such line within ``deadline`` seconds. Both show the end of the log.
        """
        end = time.monotonic() + deadline
        while True:
            # Asked before the log is read: what an ended program wrote is then all there.
            ended = self.exit_status is not None
            late = time.monotonic() >= end
            for line in self.lines():
                if predicate(line):
                    return line
            if ended:
                raise ProcessEndedError(f"{self} ended without the line expected of it\n{self.tail()}")
            if late:
                raise TimeoutError(f"{self}: no such line within {deadline:g} s\n{self.tail()}")
            time.sleep(POLL_INTERVAL)

    def tail(self) -> str:
        """The end of its log, for an error message."""
        return "\n".join(self.lines()[-LOG_TAIL_LINES:])

    def __str__(self) -> str:
        status = self.exit_status
        state = f"pid {self.pid}" if status is None else f"exit status {status}"
        return f"{' '.join(self.argv)} ({state})"


def end_pids(remaining: Callable[[], list[int]]) -> None:
    """End processes that are not our children: SIGTERM, then SIGKILL, until none remains.

    Args:
        remaining: the pids still there; asked again and again, because they may have children.

    Raises:
        TimeoutError: some survive SIGKILL for ``STOP_DEADLINE`` seconds.
    """
    pids = remaining()
    if not pids:
        return
    _signal_all(pids, signal.SIGTERM)
    try:
        wait_until(lambda: not remaining(), STOP_DEADLINE, "processes ended by SIGTERM")
    except TimeoutError:
        _signal_all(remaining(), signal.SIGKILL)
        wait_until(lambda: not remaining(), STOP_DEADLINE, "processes ended by SIGKILL")


def _signal_all(pids: Iterable[int], number: signal.Signals) -> None:
    for pid in pids:
        try:
            os.kill(pid, number)
        except ProcessLookupError:  # ended meanwhile, which is what was wanted
            continue


def _environment(extra: Mapping[str, str] | None) -> dict[str, str] | None:
    return None if extra is None else {**os.environ, **extra}
