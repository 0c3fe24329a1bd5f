"""Rates: so many for ever, so many at once; and that the named limits fit each other."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunneler.http2 import frames, limits
from tunneler.http2.codes import ErrorCode, Http2Error
from tunneler.http2.floods import Floods
from tunneler.http2.limits import UPDATES_EARNED, Frequency, Rate

TEN = Frequency(per_second=10, burst=3)


def count(rate: Rate, now: float, times: int) -> None:
    for _ in range(times):
        rate.count(now)


def is_spent(rate: Rate, now: float) -> bool:
    try:
        rate.count(now)
    except Http2Error:
        return True
    return False


class TestRate:
    def test_burst(self) -> None:
        rate = Rate("PING frames", TEN, 0.0)
        count(rate, 0.0, 3)
        with pytest.raises(Http2Error, match="more than 10 PING frames a second") as caught:
            rate.count(0.0)
        assert caught.value.code is ErrorCode.ENHANCE_YOUR_CALM

    def test_for_ever(self) -> None:
        rate = Rate("", TEN, 0.0)
        count(rate, 0.0, 3)
        for number in range(1, 10_000):
            rate.count(number / 8)
        count(rate, 9_999 / 8, 2)
        assert is_spent(rate, 9_999 / 8)

    def test_rest_fills_no_more_than_the_burst(self) -> None:
        rate = Rate("", TEN, 0.0)
        count(rate, 1000.0, 3)
        assert is_spent(rate, 1000.0)

    def test_fractions_add_up(self) -> None:
        rate = Rate("", TEN, 0.0)
        count(rate, 0.0, 3)
        rate.count(0.125)
        rate.count(0.25)
        assert is_spent(rate, 0.25)

    def test_earned(self) -> None:
        rate = Rate("", TEN, 0.0)
        count(rate, 0.0, 3)
        rate.earn(2)
        count(rate, 0.0, 2)
        assert is_spent(rate, 0.0)

    def test_earned_no_more_than_the_burst(self) -> None:
        rate = Rate("", TEN, 0.0)
        rate.earn(1000)
        count(rate, 0.0, 3)
        assert is_spent(rate, 0.0)

    @given(st.lists(st.floats(0, 2), max_size=200))
    def test_never_more_than_both(self, pauses: list[float]) -> None:
        """In every span of time: what a second allows, and one burst."""
        rate, now, allowed = Rate("", TEN, 0.0), 0.0, list[float]()
        for pause in pauses:
            now += pause
            if is_spent(rate, now):
                rate = Rate("", TEN, now)
                allowed = []
                continue
            allowed.append(now)
            for start, first in enumerate(allowed):
                assert len(allowed) - start <= (now - first) * 10 + 3 + 1e-6


@pytest.mark.parametrize(
    ("name", "frequency"),
    [
        ("settings", limits.SETTINGS),
        ("pings", limits.PINGS),
        ("resets", limits.RESETS),
        ("faults", limits.FAULTS),
        ("idle_frames", limits.IDLE_FRAMES),
    ],
)
def test_each_flood_has_its_frequency(name: str, frequency: Frequency) -> None:
    rate = getattr(Floods(0.0), name)
    count(rate, 0.0, int(frequency.burst))
    assert is_spent(rate, 0.0)


class TestWindowUpdates:
    def test_for_nothing(self) -> None:
        floods = Floods(0.0)
        for _ in range(int(limits.WINDOW_UPDATES.burst)):
            floods.count_window_update(0, 0.0)
        with pytest.raises(Http2Error, match="WINDOW_UPDATE"):
            floods.count_window_update(0, 0.0)

    def test_for_data(self) -> None:
        """A peer may answer every DATA frame, at any speed."""
        floods = Floods(0.0)
        for sent in range(1, 20_000):
            for _ in range(UPDATES_EARNED):
                floods.count_window_update(sent, 0.0)

    def test_data_is_counted_once(self) -> None:
        floods = Floods(0.0)
        for _ in range(int(limits.WINDOW_UPDATES.burst)):
            floods.count_window_update(0, 0.0)
        for _ in range(UPDATES_EARNED):
            floods.count_window_update(1, 0.0)
        with pytest.raises(Http2Error):
            floods.count_window_update(1, 0.0)


def test_limits_fit_each_other() -> None:
    smallest = frames.SMALLEST_FRAME_LIMIT
    assert smallest * (1 + limits.MAX_CONTINUATIONS) > limits.MAX_HEADER_LIST
    assert limits.MAX_CONTROL_FRAME >= limits.MAX_HEADER_LIST + 1 + 255, "a whole block, padded"
    assert 65_535 < limits.WINDOW <= frames.MAX_STREAM
