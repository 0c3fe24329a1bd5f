from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from tunneler.protocol.deadlines import Deadlines, IdleDeadlines


class TestDeadlines:
    def test_expires_in_the_order_of_adding(self) -> None:
        deadlines = Deadlines[str](10)
        deadlines.add("a", 0)
        deadlines.add("b", 1)
        deadlines.add("c", 2)
        assert deadlines.expired(9.9) == []
        assert deadlines.expired(11) == ["a", "b"]
        assert deadlines.expired(11) == []
        assert len(deadlines) == 1
        assert deadlines.expired(12) == ["c"]

    def test_expires_exactly_when_due(self) -> None:
        deadlines = Deadlines[str](10)
        deadlines.add("a", 5)
        assert deadlines.expired(14.999) == []
        assert deadlines.expired(15) == ["a"]

    def test_adding_again_starts_again(self) -> None:
        deadlines = Deadlines[str](10)
        deadlines.add("a", 0)
        deadlines.add("b", 1)
        deadlines.add("a", 5)
        assert deadlines.expired(11) == ["b"]
        assert deadlines.expired(15) == ["a"]

    def test_discarded_never_expires(self) -> None:
        deadlines = Deadlines[str](10)
        deadlines.add("a", 0)
        deadlines.discard("a")
        deadlines.discard("a")
        assert deadlines.expired(100) == []

    def test_another_duration_is_everybodys(self) -> None:
        deadlines = Deadlines[str](100)
        deadlines.add("a", 0)
        deadlines.add("b", 1)
        deadlines.duration = 10
        assert deadlines.expired(10) == ["a"]
        deadlines.duration = 20
        assert deadlines.expired(20) == []
        assert deadlines.expired(21) == ["b"]

    def test_zero_is_never(self) -> None:
        deadlines = Deadlines[str](0)
        deadlines.add("a", 0)
        assert deadlines.expired(1e9) == []
        deadlines.discard("a")
        assert not len(deadlines)


actions = st.sampled_from(["add", "discard", "hear", "look", "look", "change"])


class Heard:
    def __init__(self, heard: float) -> None:
        self.heard = heard


class TestIdleDeadlines:
    def test_expires_exactly_when_due(self) -> None:
        deadlines = IdleDeadlines[Heard](10)
        item = Heard(5)
        deadlines.add(item)
        assert deadlines.expired(14.999) == []
        assert deadlines.expired(15) == [item]
        assert deadlines.expired(1e9) == []
        assert not len(deadlines)

    def test_what_is_heard_of_again_waits_again(self) -> None:
        deadlines = IdleDeadlines[Heard](10)
        first, second = Heard(0), Heard(1)
        deadlines.add(first)
        deadlines.add(second)
        first.heard = 3
        assert deadlines.expired(10.9) == []
        assert deadlines.expired(12.9) == [second]
        first.heard = 12.95
        assert deadlines.expired(22.9) == []
        assert deadlines.expired(22.95) == [first]

    def test_longest_over_first(self) -> None:
        deadlines = IdleDeadlines[Heard](10)
        items = [Heard(heard) for heard in (7, 1, 5.1, 5.0, 3)]
        for item in items:
            deadlines.add(item)
        assert [item.heard for item in deadlines.expired(100)] == [1, 3, 5.0, 5.1, 7]

    def test_discarded_never_expires(self) -> None:
        deadlines = IdleDeadlines[Heard](10)
        item, other = Heard(0), Heard(0)
        deadlines.add(item)
        deadlines.add(other)
        deadlines.discard(item)
        deadlines.discard(item)
        assert deadlines.expired(100) == [other]

    def test_zero_is_never(self) -> None:
        deadlines = IdleDeadlines[Heard](0)
        item = Heard(0)
        deadlines.add(item)
        assert deadlines.expired(1e9) == []
        deadlines.discard(item)
        assert not len(deadlines)

    def test_another_duration_is_everybodys(self) -> None:
        deadlines = IdleDeadlines[Heard](0)
        early, late = Heard(0), Heard(50)
        deadlines.add(early)
        deadlines.add(late)
        deadlines.change(100)
        assert deadlines.expired(99) == []
        deadlines.change(10)
        assert deadlines.expired(59) == [early]
        deadlines.change(0)
        assert deadlines.expired(1e9) == []
        deadlines.discard(late)
        assert not len(deadlines)

    def test_nothing_is_kept_of_what_is_over(self) -> None:
        deadlines = IdleDeadlines[Heard](10)
        for number in range(1000):
            item = Heard(number)
            deadlines.add(item)
            deadlines.discard(item)
            deadlines.expired(number)
        assert len(deadlines._slots) == len(deadlines._order) <= 11

    @given(st.floats(0.01, 30), st.lists(st.tuples(st.integers(0, 7), actions, st.floats(0, 5))))
    def test_as_if_every_item_were_looked_at(
        self, duration: float, steps: list[tuple[int, str, float]]
    ) -> None:
        deadlines = IdleDeadlines[Heard](duration)
        items = [Heard(-math.inf) for _ in range(8)]
        watched: set[Heard] = set()
        now = 0.0
        for which, action, pause in steps:
            now += pause
            item = items[which]
            if action == "discard":
                deadlines.discard(item)
                watched.discard(item)
            elif action == "change":
                duration = pause * 6
                deadlines.change(duration)
            elif action == "look":
                over = {each for each in watched if duration and each.heard + duration <= now}
                assert set(deadlines.expired(now)) == over
                watched -= over
            else:
                item.heard = now
                if action == "add" and item not in watched:
                    deadlines.add(item)
                    watched.add(item)
            assert len(deadlines) == len(watched)
