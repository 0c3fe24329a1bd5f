from __future__ import annotations

from tunneler.protocol.deadlines import Deadlines


def test_expires_in_the_order_of_touching() -> None:
    deadlines = Deadlines[str](10)
    deadlines.add("a", 0)
    deadlines.add("b", 1)
    deadlines.add("c", 2)
    deadlines.touch("a", 3)
    assert deadlines.expired(10.9) == []
    assert deadlines.expired(12) == ["b", "c"]
    assert deadlines.expired(12) == []
    assert len(deadlines) == 1
    assert deadlines.expired(13) == ["a"]


def test_expires_exactly_when_due() -> None:
    deadlines = Deadlines[str](10)
    deadlines.add("a", 5)
    assert deadlines.expired(14.999) == []
    assert deadlines.expired(15) == ["a"]


def test_adding_again_starts_again() -> None:
    deadlines = Deadlines[str](10)
    deadlines.add("a", 0)
    deadlines.add("b", 1)
    deadlines.add("a", 5)
    assert deadlines.expired(11) == ["b"]
    assert deadlines.expired(15) == ["a"]


def test_touching_does_not_add() -> None:
    deadlines = Deadlines[str](10)
    deadlines.touch("a", 0)
    assert not len(deadlines)


def test_discarded_never_expires() -> None:
    deadlines = Deadlines[str](10)
    deadlines.add("a", 0)
    deadlines.discard("a")
    deadlines.discard("a")
    assert deadlines.expired(100) == []


def test_zero_is_never() -> None:
    deadlines = Deadlines[str](0)
    deadlines.add("a", 0)
    assert deadlines.expired(1e9) == []
    deadlines.discard("a")
    assert not len(deadlines)
