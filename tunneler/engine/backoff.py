"""How long to wait before a link is tried again."""

from __future__ import annotations

import random
from collections.abc import Callable


class Backoff:
    """Exponential back-off with full jitter.

    Full jitter (a uniform draw from zero up to the bound) spreads a thousand clients that lost
    the same server best; see "Exponential Backoff And Jitter", AWS Architecture Blog, 2015.

    Args:
        start, cap: seconds; the bound begins at ``start`` and doubles up to ``cap``.
        reset: a link that lasted this many seconds makes the bound begin again.
        draw: a number from [0, 1).
    """

    def __init__(
        self, start: float, cap: float, reset: float, draw: Callable[[], float] = random.random
    ) -> None:
        self._start = start
        self._cap = cap
        self._reset = reset
        self._draw = draw
        self._bound = start

    def after(self, lasted: float) -> float:
        """Seconds to wait, now that a link or an attempt ended that lasted so many seconds."""
        if lasted >= self._reset:
            self._bound = self._start
        pause = self._draw() * self._bound
        self._bound = min(self._cap, self._bound * 2)
        return pause

    def refused(self) -> float:
        """Seconds to wait when the peer said that trying again soon is of no use."""
        self._bound = self._cap
        return self._cap * (0.5 + self._draw() / 2)
