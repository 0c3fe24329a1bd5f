from __future__ import annotations

from tunneler.observability.sparing import AT_ONCE, SECONDS_FOR_ONE, Sparing


def test_the_first_few_are_written() -> None:
    sparing = Sparing()
    assert [sparing.admit(1000) for _ in range(AT_ONCE + 2)] == [0] * AT_ONCE + [None, None]


def test_then_one_a_minute_and_it_says_how_many_were_not() -> None:
    sparing = Sparing()
    written = [said for now in range(600) if (said := sparing.admit(now)) is not None]
    assert len(written) == AT_ONCE + 600 // SECONDS_FOR_ONE - 1
    assert sum(written) + len(written) <= 600
    assert written[-1] == SECONDS_FOR_ONE - 1


def test_quiet_fills_it_up_and_no_further() -> None:
    sparing = Sparing()
    for _ in range(AT_ONCE):
        sparing.admit(0)
    later = 100 * SECONDS_FOR_ONE
    assert [sparing.admit(later) for _ in range(AT_ONCE + 1)] == [0] * AT_ONCE + [None]
