"""What the demonstration prints with, and a watch to print from."""

from __future__ import annotations

import os
import sys
import time


class Page:
    """Prints; colours only where a person looks."""

    def __init__(self) -> None:
        self._colours = sys.stdout.isatty() and "NO_COLOR" not in os.environ
        self._started = time.monotonic()

    def paint(self, code: int, text: str) -> str:
        return f"\x1b[{code}m{text}\x1b[0m" if self._colours else text

    def heading(self, text: str) -> None:
        print(f"\n{self.paint(1, text)}", flush=True)

    def line(self, text: str = "") -> None:
        print(f"  {text}" if text else "", flush=True)

    def fact(self, name: str, text: str) -> None:
        self.line(f"{self.paint(2, f'{name:<13}')}{text}")

    def command(self, host: str, text: str) -> None:
        self.line(f"{self.paint(36, f'{host}$')} {self.paint(1, text)}")

    @property
    def elapsed(self) -> float:
        """Seconds since the beginning."""
        return time.monotonic() - self._started


class Stopwatch:
    """Says how long it took since it was asked last."""

    def __init__(self) -> None:
        self._last = time.monotonic()

    def __call__(self) -> str:
        now = time.monotonic()
        lap, self._last = now - self._last, now
        return f"{lap:.1f} s"
