"""Lines that may come again and again: the first few are written, then one a minute, and the rest counted."""

from __future__ import annotations

from typing import Final

AT_ONCE: Final = 3
SECONDS_FOR_ONE: Final = 60.0


class Sparing:
    """A bucket of lines that fills by one a minute. Pure: the time is an argument."""

    def __init__(self) -> None:
        self._left = float(AT_ONCE)
        self._at: float | None = None
        self._passed_over = 0

    def admit(self, now: float) -> int | None:
        """Whether a line may be written now.

        Args:
            now: seconds, of a clock that never goes back.

        Returns:
            How many were passed over since the last one; None: this one is, too.
        """
        elapsed = 0.0 if self._at is None else now - self._at
        self._at = now
        self._left = min(float(AT_ONCE), self._left + elapsed / SECONDS_FOR_ONE)
        if self._left < 1:
            self._passed_over += 1
            return None
        self._left -= 1
        passed_over, self._passed_over = self._passed_over, 0
        return passed_over
