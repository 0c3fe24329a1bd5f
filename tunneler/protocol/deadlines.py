"""Many deadlines of one duration."""

from __future__ import annotations

from collections import OrderedDict
from heapq import heappop, heappush
from typing import Final, Generic, Protocol, TypeVar

SLOT_SECONDS: Final = 0.25
"""What expires within as long as this is looked at together."""

NO_SLOT: Final = -1
"""Of an item that never expires, as things are."""

Key = TypeVar("Key")


class Deadlines(Generic[Key]):
    """Keys that expire ``duration`` seconds after they were added; 0 means never.

    Because every key waits equally long, the order of adding is the order of expiry, and an
    ordered dictionary is the whole data structure: each operation costs one probe. The duration
    may be changed: every key that is there waits as long as the new one says.
    """

    __slots__ = ("_added", "duration")

    def __init__(self, duration: float) -> None:
        self.duration = duration
        self._added: OrderedDict[Key, float] = OrderedDict()

    def __len__(self) -> int:
        return len(self._added)

    def add(self, key: Key, now: float) -> None:
        """Begin to wait; for a key that is there already, again."""
        self._added[key] = now
        self._added.move_to_end(key)

    def discard(self, key: Key) -> None:
        self._added.pop(key, None)

    def expired(self, now: float) -> list[Key]:
        """Remove and return the keys whose wait is over, longest over first."""
        keys: list[Key] = []
        if not self.duration:
            return keys
        latest = now - self.duration
        for key, added in self._added.items():
            if added > latest:
                break
            keys.append(key)
        for key in keys:
            del self._added[key]
        return keys


class Audible(Protocol):
    """What is idle when nothing has been heard of it for long enough."""

    heard: float


Item = TypeVar("Item", bound=Audible)


class IdleDeadlines(Generic[Item]):
    """Items that expire ``duration`` seconds after they were last heard of; 0 means never.

    Whoever hears of an item writes the time into it, and nothing else: with many frames a
    second that is all it may cost. Here an item is looked at when its wait would have been
    over, had nothing been heard since the last look, and then waits for the rest.
    """

    __slots__ = ("_order", "_slot_of", "_slots", "duration")

    def __init__(self, duration: float) -> None:
        self.duration = duration
        self._slot_of: dict[Item, int] = {}
        self._slots: dict[int, set[Item]] = {}
        self._order: list[int] = []
        """A heap of the numbers of all slots."""

    def __len__(self) -> int:
        return len(self._slot_of)

    def add(self, item: Item) -> None:
        """Begin to watch an item that is not watched yet."""
        if self.duration:
            self._wait(item)
        else:
            self._slot_of[item] = NO_SLOT

    def discard(self, item: Item) -> None:
        slot = self._slot_of.pop(item, None)
        if slot is not None and slot != NO_SLOT:
            self._slots[slot].discard(item)

    def change(self, duration: float) -> None:
        """Have every item wait for another duration, counted from when it was last heard of."""
        items = list(self._slot_of)
        self.duration = duration
        self._slot_of.clear()
        self._slots.clear()
        self._order.clear()
        for item in items:
            self.add(item)

    def expired(self, now: float) -> list[Item]:
        """Remove and return the items whose wait is over, longest over first."""
        over: list[Item] = []
        later: list[Item] = []
        while self._order and self._order[0] <= now // SLOT_SECONDS:
            for item in self._slots.pop(heappop(self._order)):
                (over if item.heard + self.duration <= now else later).append(item)
        for item in later:
            self._wait(item)
        for item in over:
            del self._slot_of[item]
        over.sort(key=lambda item: item.heard)
        return over

    def _wait(self, item: Item) -> None:
        slot = int((item.heard + self.duration) // SLOT_SECONDS)
        self._slot_of[item] = slot
        if slot not in self._slots:
            self._slots[slot] = set()
            heappush(self._order, slot)
        self._slots[slot].add(item)
