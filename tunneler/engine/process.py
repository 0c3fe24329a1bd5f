"""The process around a role: its event loop, its signals, its limits."""

from __future__ import annotations

import asyncio
import faulthandler
import gc
import os
import resource
import signal
import traceback
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

from tunneler.engine.driver import TICK_SECONDS
from tunneler.engine.lifecycle import Lifecycle, Reread
from tunneler.errors import ExitStatus
from tunneler.observability.log import EventLog
from tunneler.systemd.notify import Notifier

_log = EventLog("process")


def run_until_stopped(
    serve: Callable[[Lifecycle], Awaitable[None]], reread: Reread | None = None
) -> ExitStatus:
    """Run a role until it has stopped, and keep the service manager informed.

    The first SIGTERM or SIGINT requests a stop: drain. The second ends the role at once. Both
    are what an operator asked for, so both are a success. SIGHUP requests a reload, unless the
    terminal is gone that the program was started at: then there is nobody to stop it later.

    Args:
        serve: the role; returns when it has stopped.
        reread: for a reload.

    Raises:
        ConfigError: the service manager announced itself in a way that makes no sense.
        TunnelerError: the role cannot start.
    """
    import uvloop

    # SIGABRT is what systemd ends a stuck loop with (WatchdogSignal=): where it is stuck goes to stderr.
    faulthandler.enable()
    _raise_file_limit()
    gc.collect()
    gc.freeze()  # what the imports made lives as long as the process: not worth a look each time
    outcome = _Outcome()
    with (
        Notifier.of_environment(_log.warning) as notifier,
        asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
        suppress(asyncio.CancelledError),
    ):
        runner.run(_serve(serve, Lifecycle(notifier, reread), outcome))
    return outcome.status


class _Outcome:
    status = ExitStatus.OK


async def _serve(serve: Callable[[Lifecycle], Awaitable[None]], life: Lifecycle, outcome: _Outcome) -> None:
    role = asyncio.current_task()
    loop = asyncio.get_running_loop()

    def failed(_: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        error = context.get("exception")
        lines = traceback.format_exception(error) if error else [context["message"]]
        _log.error("internal_error", message=context["message"], traceback="".join(lines))
        if "handle" in context and role is not None:
            # A callback broke off in the middle: nothing that it shared can be trusted, and a
            # socket that stays ready would call it again for ever. Start afresh.
            outcome.status = ExitStatus.FAILURE
            role.cancel()

    loop.set_exception_handler(failed)

    def requested(number: signal.Signals) -> None:
        if life.stop.is_set():
            _log.warning("stopped_at_once", signal=number.name)
            if role is not None:
                role.cancel()
            return
        _log.info("stop_requested", signal=number.name)
        life.request_stop()

    had_terminal = _has_terminal()

    def hung_up() -> None:
        if had_terminal and not _has_terminal():
            requested(signal.SIGHUP)
        elif life.stop.is_set():
            _log.info("reload_refused", error="the program is stopping")
        else:
            life.reload.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, requested, number)
    loop.add_signal_handler(signal.SIGHUP, hung_up)
    # It was kept waiting until now, if a reload was asked for earlier.
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGHUP})
    with life.followed():
        await serve(life)


def _has_terminal() -> bool:
    """Whether standard input is a terminal that is still there: tty_ioctl fails on one that was hung up."""
    return os.isatty(0)


async def tick(*callbacks: Callable[[], None]) -> None:
    """Call back regularly until cancelled."""
    while True:
        await asyncio.sleep(TICK_SECONDS)
        for callback in callbacks:
            callback()


async def wait_for(event: asyncio.Event, seconds: float) -> bool:
    """Wait for an event, but not longer than that; return whether it came."""
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return False
    return True


def _raise_file_limit() -> None:
    """Each connection needs a file descriptor; the soft limit is for programs that use select(2)."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
