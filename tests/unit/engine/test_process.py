from __future__ import annotations

import asyncio
import os
import select
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.loopback.manager import FakeManager
from tunneler.engine.process import tick, wait_for

PROLOGUE = """
import asyncio, os, signal, sys
from tunneler.engine.process import run_until_stopped
from tunneler.observability.log import configure

configure("test", "info", "text", "stderr")

def say(word):
    print(word, flush=True)
"""
GRACEFUL = """
async def serve(life):
    say("serving")
    await life.stop.wait()
    say("draining")

sys.exit(run_until_stopped(serve))
"""
STUBBORN = """
async def serve(life):
    say("serving")
    await life.stop.wait()
    say("draining")
    try:
        await asyncio.sleep(60)
    finally:
        say("cancelled")

sys.exit(run_until_stopped(serve))
"""
FAILING = """
async def serve(life):
    raise LookupError("no such thing")

sys.exit(run_until_stopped(serve))
"""
BROKEN_CALLBACK = """
async def serve(life):
    def callback():
        raise LookupError("in a callback")
    asyncio.get_running_loop().call_soon(callback)
    try:
        await life.stop.wait()
    finally:
        say("released")

sys.exit(run_until_stopped(serve))
"""
LIMIT = """
import resource
async def serve(life):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    say("raised" if soft == hard else "not raised")

resource.setrlimit(resource.RLIMIT_NOFILE, (200, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
sys.exit(run_until_stopped(serve))
"""


STUCK = """
import time

def stuck():
    say("stuck")
    time.sleep(3600)

async def serve(life):
    asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, stuck)
    life.describe_by(lambda: "at work")
    life.ready()
    say("serving")
    await life.stop.wait()

sys.exit(run_until_stopped(serve))
"""


RELOADING = """
async def serve(life):
    say("serving")
    while not life.stop.is_set():
        tasks = [asyncio.ensure_future(event.wait()) for event in (life.reload, life.stop)]
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in tasks:
            task.cancel()
        if life.reload.is_set():
            life.reload.clear()
            say("reloading")
    say("draining")
    if "--drain" in sys.argv:
        await asyncio.sleep(60)

signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})
if "--early" in sys.argv:
    os.kill(os.getpid(), signal.SIGHUP)
sys.exit(run_until_stopped(serve))
"""


@contextmanager
def program(
    source: str, *arguments: str, stdin: int | None = None, **environment: str
) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        (sys.executable, "-W", "error", "-c", textwrap.dedent(PROLOGUE + source), *arguments),
        stdin=stdin,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **environment},
    )
    with process:
        try:
            yield process
        finally:
            if process.poll() is None:
                process.kill()


def line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_is_a_request_to_stop(number: signal.Signals) -> None:
    with program(GRACEFUL) as process:
        assert line(process) == "serving"
        os.kill(process.pid, number)
        assert line(process) == "draining"
        _, errors = process.communicate(timeout=10)
    assert process.returncode == 0
    assert "stop_requested" in errors
    assert "Traceback" not in errors


@pytest.mark.parametrize("second", [signal.SIGTERM, signal.SIGINT])
def test_the_second_signal_ends_at_once(second: signal.Signals) -> None:
    with program(STUBBORN) as process:
        assert line(process) == "serving"
        os.kill(process.pid, signal.SIGTERM)
        assert line(process) == "draining"
        os.kill(process.pid, second)
        assert line(process) == "cancelled"
        _, errors = process.communicate(timeout=10)
    assert process.returncode == 0
    assert "stopped_at_once" in errors
    assert "Traceback" not in errors


def test_a_hangup_is_a_request_to_reload() -> None:
    with program(RELOADING) as process:
        assert line(process) == "serving"
        os.kill(process.pid, signal.SIGHUP)
        assert line(process) == "reloading"
        os.kill(process.pid, signal.SIGTERM)
        assert line(process) == "draining"
        process.communicate(timeout=10)
    assert process.returncode == 0


def test_a_hangup_that_came_before_waits() -> None:
    with program(RELOADING, "--early") as process:
        assert (line(process), line(process)) == ("serving", "reloading")


def test_a_hangup_while_it_drains_is_nothing_but_said() -> None:
    with program(RELOADING, "--drain") as process:
        assert line(process) == "serving"
        os.kill(process.pid, signal.SIGTERM)
        assert line(process) == "draining"
        os.kill(process.pid, signal.SIGHUP)
        assert process.stderr is not None
        assert any("reload_refused" in said for said in iter(process.stderr.readline, ""))
        os.kill(process.pid, signal.SIGTERM)
        process.communicate(timeout=10)
    assert process.returncode == 0


def test_a_hangup_of_the_terminal_is_a_request_to_stop() -> None:
    ours, theirs = os.openpty()
    with program(RELOADING, stdin=theirs) as process:
        os.close(theirs)
        assert line(process) == "serving"
        os.kill(process.pid, signal.SIGHUP)
        assert line(process) == "reloading"  # the terminal is still there
        os.close(ours)
        os.kill(process.pid, signal.SIGHUP)
        assert line(process) == "draining"
        _, errors = process.communicate(timeout=10)
    assert process.returncode == 0
    assert "stop_requested" in errors


def test_an_error_of_the_role_comes_out() -> None:
    with program(FAILING) as process:
        _, errors = process.communicate(timeout=10)
    assert process.returncode == 1
    assert "LookupError: no such thing" in errors


def test_a_callback_that_fails_ends_the_role_as_a_failure() -> None:
    with program(BROKEN_CALLBACK) as process:
        assert line(process) == "released"
        _, errors = process.communicate(timeout=10)
    assert process.returncode == 1
    assert "internal_error" in errors
    assert "in a callback" in errors


def test_the_limit_of_files_is_raised() -> None:
    with program(LIMIT) as process:
        assert line(process) == "raised"
        process.communicate(timeout=10)


def test_the_service_manager_is_told(tmp_path: Path) -> None:
    with (
        FakeManager(tmp_path / "notify") as manager,
        program(STUCK, NOTIFY_SOCKET=manager.address) as process,
    ):
        assert manager.wait_for("READY=1") == "READY=1\nSTATUS=at work"
        os.kill(process.pid, signal.SIGTERM)
        assert manager.wait_for("STOPPING=1")
        process.communicate(timeout=10)
    assert process.returncode == 0


def test_a_stuck_loop_gives_no_sign_of_life(tmp_path: Path) -> None:
    """systemd ends it then, with SIGABRT, and where it was stuck is on record."""
    with (
        FakeManager(tmp_path / "notify") as manager,
        program(STUCK, NOTIFY_SOCKET=manager.address, WATCHDOG_USEC="400000") as process,
    ):
        for _ in range(4):
            manager.wait_for("WATCHDOG=1", seconds=2)
        os.kill(process.pid, signal.SIGUSR1)
        assert (line(process), line(process)) == ("serving", "stuck")
        manager.said().clear()
        assert select.select([manager], [], [], 0.8) == ([], [], [])
        process.send_signal(signal.SIGABRT)
        _, errors = process.communicate(timeout=10)
    assert process.returncode == -signal.SIGABRT
    assert " in stuck\n" in errors


async def test_wait_for() -> None:
    event = asyncio.Event()
    assert not await wait_for(event, 0.01)
    event.set()
    assert await wait_for(event, 0.01)
    assert await wait_for(event, 0)


async def test_tick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tunneler.engine.process.TICK_SECONDS", 0.001)
    enough = asyncio.Event()
    ticks: list[str] = []

    def second() -> None:
        ticks.append("second")
        if len(ticks) >= 6:
            enough.set()

    async with asyncio.TaskGroup() as group:
        ticker = group.create_task(tick(lambda: ticks.append("first"), second))
        assert await wait_for(enough, 5)
        ticker.cancel()
    assert ticks[:4] == ["first", "second", "first", "second"]
