"""Events are tuples, and tuples of different kinds may be equal: not here."""

from __future__ import annotations

from collections.abc import Iterator
from typing import get_args

import pytest

from tunneler.http2.events import Event


def is_same(event: Event, other: object) -> bool:
    return type(event) is type(other) and tuple.__eq__(event, other)


@pytest.fixture(scope="session", autouse=True)
def events_of_different_kinds_differ() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        for kind in get_args(Event):
            patch.setattr(kind, "__eq__", is_same, raising=False)
            patch.setattr(kind, "__ne__", lambda event, other: not is_same(event, other), raising=False)
        yield
