from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunneler.engine.backoff import Backoff

START, CAP, RESET = 0.1, 30.0, 60.0


def backoff(draw: Callable[[], float]) -> Backoff:
    return Backoff(START, CAP, RESET, draw)


def test_the_bound_doubles_up_to_the_cap() -> None:
    always_the_bound = backoff(lambda: 1.0)
    pauses = [always_the_bound.after(0.0) for _ in range(12)]
    assert pauses[:4] == pytest.approx([0.1, 0.2, 0.4, 0.8])
    assert pauses[8:] == pytest.approx([25.6, 30.0, 30.0, 30.0])


def test_full_jitter_draws_from_zero() -> None:
    never_waits = backoff(lambda: 0.0)
    assert [never_waits.after(0.0) for _ in range(5)] == [0.0] * 5


@given(st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.floats(0, 59)), max_size=30))
def test_never_beyond_the_bound(attempts: list[tuple[float, float]]) -> None:
    draws = iter([draw for draw, _ in attempts])
    tested = backoff(lambda: next(draws))
    bound = START
    for draw, lasted in attempts:
        assert tested.after(lasted) == pytest.approx(draw * bound)
        bound = min(CAP, bound * 2)


@pytest.mark.parametrize(("lasted", "pause"), [(59.9, 0.8), (60.0, 0.1), (3600.0, 0.1)])
def test_a_stable_link_starts_anew(lasted: float, pause: float) -> None:
    tested = backoff(lambda: 1.0)
    for _ in range(3):
        tested.after(0.0)
    assert tested.after(lasted) == pytest.approx(pause)


@pytest.mark.parametrize("draw", [0.0, 0.5, 0.999])
def test_refusal_waits_long_and_stays_so(draw: float) -> None:
    tested = backoff(lambda: draw)
    assert CAP / 2 <= tested.refused() <= CAP
    assert tested.after(0.0) == pytest.approx(draw * CAP)
    assert tested.after(RESET) == pytest.approx(draw * START)


def test_the_default_draw_is_random() -> None:
    assert len({Backoff(START, CAP, RESET).after(0.0) for _ in range(20)}) > 1
