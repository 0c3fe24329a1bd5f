"""Runs ``async def`` tests on one uvloop, and looks at what they leave behind.

All tests of a run share the loop: grpc.aio binds itself to the first loop that uses it.
"""

from __future__ import annotations

import asyncio
import functools
import gc
import inspect
import os
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
import uvloop

TEST_SECONDS = 30.0
"""For one test, unless it is marked with @pytest.mark.timeout (for which it gets a bit less)."""
SETTLE_SECONDS = 5.0
"""How long what a test used may take to go away."""
POLL_SECONDS = 0.005


@functools.cache
def the_runner() -> asyncio.Runner:
    runner = asyncio.Runner(loop_factory=uvloop.new_event_loop)
    runner.run(_listen_once())
    return runner


async def _listen_once() -> None:
    """With its first listening socket libuv opens a spare file, and keeps it (unix/stream.c, emfile_fd)."""
    server = await asyncio.get_running_loop().create_server(asyncio.Protocol, "127.0.0.1")
    server.close()
    await server.wait_closed()


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Run a coroutine function as a test; a conftest imports this."""
    test = pyfuncitem.obj
    if not inspect.iscoroutinefunction(test):
        return None
    names = inspect.signature(test).parameters
    arguments = {name: pyfuncitem.funcargs[name] for name in names}
    mark = pyfuncitem.get_closest_marker("timeout")
    run(test(**arguments), mark.args[0] - 5 if mark else TEST_SECONDS)
    return True


def run(body: Coroutine[Any, Any, None], seconds: float = TEST_SECONDS) -> None:
    """Run to the end, within a time; whatever escaped to the loop, or was left, is a failure."""
    the_runner().run(_checked(body, seconds))


async def _checked(body: Coroutine[Any, Any, None], seconds: float) -> None:
    escaped: list[str] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: escaped.append(repr(context)))
    before = descriptors()
    try:
        async with asyncio.timeout(seconds):
            await body
    finally:
        await asyncio.sleep(0)
    assert await eventually(lambda: not other_tasks(), SETTLE_SECONDS), f"left: {other_tasks()}"

    def all_closed() -> bool:
        if not descriptors() - before:
            return True
        gc.collect()  # gRPC closes a channel's files with its last reference, which may be in a cycle
        return False

    assert await eventually(all_closed, SETTLE_SECONDS), f"left open: {descriptors() - before}"
    loop.set_exception_handler(None)
    assert not escaped, escaped


@asynccontextmanager
async def grpc_in_use() -> AsyncIterator[None]:
    """Keep gRPC's own threads and files for a whole run: it makes them with the first channel or
    server, closes them with the last, and either may fall into a test that counts.
    """
    async with grpc.aio.insecure_channel("127.0.0.1:1"):
        yield


def descriptors() -> Counter[str]:
    """Open files of this process, by kind: numbers change, kinds and how many do not."""
    found: Counter[str] = Counter()
    for name in os.listdir("/proc/self/fd"):
        try:
            target = str(Path("/proc/self/fd", name).readlink())
        except FileNotFoundError:  # the directory that is being read
            continue
        found[target.partition(":[")[0]] += 1
    return found


def other_tasks() -> list[str]:
    """Tasks of ours; grpc.aio keeps one of its own for each server until that is collected."""
    mine = asyncio.current_task()
    return [repr(task) for task in asyncio.all_tasks() if task is not mine and not task.done()]


async def eventually(condition: Callable[[], object], seconds: float = SETTLE_SECONDS) -> bool:
    """Poll until the condition holds; return whether it came to hold in time."""
    deadline = asyncio.get_running_loop().time() + seconds
    while not condition():
        if asyncio.get_running_loop().time() >= deadline:
            return False
        await asyncio.sleep(POLL_SECONDS)
    return True


async def until(condition: Callable[[], object], seconds: float = 10.0) -> None:
    """Poll until the condition holds; that it does not in time fails the test."""
    assert await eventually(condition, seconds), f"not within {seconds:g} s: {inspect.getsource(condition)}"


@asynccontextmanager
async def background(*bodies: Coroutine[Any, Any, Any]) -> AsyncIterator[list[asyncio.Task[Any]]]:
    """Run coroutines beside a block, and cancel those that are left at its end."""
    async with AsyncExitStack() as stack:
        group = await stack.enter_async_context(asyncio.TaskGroup())
        tasks = [group.create_task(body) for body in bodies]
        try:
            yield tasks
        finally:
            for task in tasks:
                task.cancel()
