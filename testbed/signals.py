"""SIGTERM as an exception, and a way to finish what must not be interrupted."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_DEFERRED = (signal.SIGINT, signal.SIGTERM)


class Terminated(KeyboardInterrupt):
    """SIGTERM arrived. A KeyboardInterrupt, because test runners already unwind for that."""


class TerminationGuard:
    """Turns SIGTERM into :class:`Terminated` for as long as anybody holds it.

    Without it SIGTERM ends Python without unwinding, and a lab would stay behind. Counted,
    because several labs may be up; a handler that the program set itself is left alone.
    """

    def __init__(self) -> None:
        self._holders = 0
        self._installed = False

    def hold(self) -> None:
        self._holders += 1
        if self._holders > 1 or threading.current_thread() is not threading.main_thread():
            return
        if signal.getsignal(signal.SIGTERM) == signal.SIG_DFL:
            signal.signal(signal.SIGTERM, _raise_terminated)
            self._installed = True

    def release(self) -> None:
        self._holders -= 1
        if self._holders == 0 and self._installed:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            self._installed = False


@contextmanager
def interruptions_deferred() -> Iterator[None]:
    """SIGINT and SIGTERM that arrive inside take effect at its end.

    The handlers are swapped instead of the signals blocked: a mask would be inherited by
    the programs started inside.
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread runs Python's signal handlers, so nothing interrupts this one
        return
    arrived: list[int] = []
    before = {number: signal.getsignal(number) for number in _DEFERRED}
    for number in _DEFERRED:
        signal.signal(number, lambda received, _frame: arrived.append(received))
    try:
        yield
    finally:
        for deferred, handler in before.items():
            signal.signal(deferred, handler)
        for received in dict.fromkeys(arrived):
            signal.raise_signal(received)


def _raise_terminated(_number: int, _frame: FrameType | None) -> None:
    raise Terminated
