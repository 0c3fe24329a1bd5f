"""Background programs: their log, their end, and waiting with a deadline."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from testbed.processes import CommandFailed, Process, ProcessEndedError, end_pids, execute, wait_until


def test_wait_until_says_what_it_waited_for() -> None:
    with pytest.raises(TimeoutError, match=r"the moon: not within 0\.05 s"):
        wait_until(lambda: False, 0.05, "the moon")


def test_wait_until_looks_at_least_once() -> None:
    wait_until(lambda: True, 0, "nothing")


def test_a_failed_command_shows_what_it_printed() -> None:
    with pytest.raises(CommandFailed, match=r"status 3\.\s+out\s+bad"):
        execute(("sh", "-c", "echo out; echo bad >&2; exit 3"), timeout=5)


def test_input_and_environment_reach_the_command() -> None:
    done = execute(
        ("sh", "-c", 'cat; printf "%s" "$COLOUR"'), timeout=5, input="sky ", env={"COLOUR": "blue"}
    )
    assert done.stdout == "sky blue"


def test_wait_for_line_waits_for_a_complete_line(tmp_path: Path) -> None:
    process = Process(("sh", "-c", "printf rea; sleep 0.1; echo dy; exec sleep 60"), tmp_path / "log")
    try:
        assert process.wait_for_line(lambda line: line.startswith("rea"), 5) == "ready"
    finally:
        assert process.stop() == -signal.SIGTERM


def test_wait_for_line_fails_at_once_when_the_program_ends(tmp_path: Path) -> None:
    process = Process(("sh", "-c", "echo cannot bind; exit 1"), tmp_path / "log")
    before = time.monotonic()
    with pytest.raises(ProcessEndedError, match=r"exit status 1.*\ncannot bind"):
        process.wait_for_line(lambda line: line == "ready", 30)
    assert time.monotonic() - before < 10


def test_wait_for_line_shows_the_log_when_time_is_up(tmp_path: Path) -> None:
    process = Process(("sh", "-c", "echo still starting; exec sleep 60"), tmp_path / "log")
    try:
        process.wait_for_line(lambda line: line == "still starting", 5)
        with pytest.raises(TimeoutError, match="still starting"):
            process.wait_for_line(lambda line: line == "ready", 0.05)
    finally:
        process.stop()


def test_json_lines_passes_over_prose(tmp_path: Path) -> None:
    process = Process(("sh", "-c", """echo '{"event": "up"}'; echo '{oops'; echo prose"""), tmp_path / "log")
    process.wait(5)
    assert list(process.json_lines()) == [{"event": "up"}]


def test_stop_kills_what_ignores_sigterm(tmp_path: Path) -> None:
    process = Process(("sh", "-c", "trap '' TERM; echo deaf; while :; do sleep 1; done"), tmp_path / "log")
    process.wait_for_line(lambda line: line == "deaf", 5)
    assert process.stop(deadline=0.1) == -signal.SIGKILL


def test_stop_of_an_ended_program_gives_its_status(tmp_path: Path) -> None:
    process = Process(("sh", "-c", "exit 7"), tmp_path / "log")
    process.wait(5)
    assert process.stop() == 7


def test_end_pids_asks_again_until_nobody_is_left(tmp_path: Path) -> None:
    process = Process(("sleep", "60"), tmp_path / "log")
    end_pids(lambda: [] if process.exit_status is not None else [process.pid])
    assert process.exit_status == -signal.SIGTERM


def test_a_program_has_its_own_process_group(tmp_path: Path) -> None:
    process = Process(("sleep", "60"), tmp_path / "log")
    try:
        assert os.getpgid(process.pid) == process.pid != os.getpgrp()
    finally:
        process.stop()
