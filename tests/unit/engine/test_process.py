from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

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
async def serve(stop):
    say("serving")
    await stop.wait()
    say("draining")

sys.exit(run_until_stopped(serve))
"""
STUBBORN = """
async def serve(stop):
    say("serving")
    await stop.wait()
    say("draining")
    try:
        await asyncio.sleep(60)
    finally:
        say("cancelled")

sys.exit(run_until_stopped(serve))
"""
FAILING = """
async def serve(stop):
    raise LookupError("no such thing")

sys.exit(run_until_stopped(serve))
"""
BROKEN_CALLBACK = """
async def serve(stop):
    def callback():
        raise LookupError("in a callback")
    asyncio.get_running_loop().call_soon(callback)
    try:
        await stop.wait()
    finally:
        say("released")

sys.exit(run_until_stopped(serve))
"""
LIMIT = """
import resource
async def serve(stop):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    say("raised" if soft == hard else "not raised")

resource.setrlimit(resource.RLIMIT_NOFILE, (200, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
sys.exit(run_until_stopped(serve))
"""


@contextmanager
def program(source: str) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        (sys.executable, "-W", "error", "-c", textwrap.dedent(PROLOGUE + source)),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
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
