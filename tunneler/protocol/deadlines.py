"""Many deadlines of one duration.

Because every key waits equally long, the order of touching is the order of expiry, and an
ordered dictionary is the whole data structure: each operation costs one probe.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Generic, TypeVar

Key = TypeVar("Key")


class Deadlines(Generic[Key]):
    """Keys that expire ``duration`` seconds after they were last touched; 0 means never."""

    __slots__ = ("_touched", "duration")

    def __init__(self, duration: float) -> None:
        self.duration = duration
        self._touched: OrderedDict[Key, float] = OrderedDict()

    def __len__(self) -> int:
        return len(self._touched)

    def add(self, key: Key, now: float) -> None:
        self._touched[key] = now
        self._touched.move_to_end(key)

    def touch(self, key: Key, now: float) -> None:
        """Start the key's wait again; a key that was not added stays unwatched."""
        if key in self._touched:
            self._touched[key] = now
            self._touched.move_to_end(key)

    def discard(self, key: Key) -> None:
        self._touched.pop(key, None)

    def expired(self, now: float) -> list[Key]:
        """Remove and return the keys whose wait is over, longest over first."""
        keys: list[Key] = []
        if not self.duration:
            return keys
        latest = now - self.duration
        for key, touched in self._touched.items():
            if touched > latest:
                break
            keys.append(key)
        for key in keys:
            del self._touched[key]
        return keys
