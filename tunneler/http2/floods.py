"""What one connection's peer has done of late that costs it nothing: see :mod:`tunneler.http2.limits`."""

from __future__ import annotations

from tunneler.http2 import limits
from tunneler.http2.limits import UPDATES_EARNED, Rate


class Floods:
    """The rates that are watched; each raises Http2Error (ENHANCE_YOUR_CALM) when it is passed."""

    def __init__(self, now: float) -> None:
        self.settings = Rate("SETTINGS frames", limits.SETTINGS, now)
        self.pings = Rate("PING frames", limits.PINGS, now)
        self.resets = Rate("RST_STREAM frames", limits.RESETS, now)
        self.refusals = Rate("streams too many", limits.REFUSALS, now)
        self.faults = Rate("broken calls", limits.FAULTS, now)
        self.idle_frames = Rate("frames without effect", limits.IDLE_FRAMES, now)
        self._window_updates = Rate("WINDOW_UPDATE frames", limits.WINDOW_UPDATES, now)
        self._data_frames = 0

    def count_window_update(self, data_frames: int, now: float) -> None:
        """Note a WINDOW_UPDATE, of which each DATA frame that we sent entitles the peer to some.

        Args:
            data_frames: what we have sent so far.
        """
        self._window_updates.earn((data_frames - self._data_frames) * UPDATES_EARNED)
        self._data_frames = data_frames
        self._window_updates.count(now)
