"""What the service manager hears of a role, and when."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.loopback.manager import FakeManager
from tests.loopback.running import until
from tunneler.engine.lifecycle import Lifecycle, counted
from tunneler.systemd.notify import Notifier


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[FakeManager]:
    with FakeManager(tmp_path / "notify") as manager:
        yield manager


@contextmanager
def followed(manager: FakeManager, watchdog_seconds: float | None = None) -> Iterator[Lifecycle]:
    with Notifier(manager.address, watchdog_seconds, print) as notifier:
        life = Lifecycle(notifier)
        with life.followed():
            yield life


@pytest.fixture
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tunneler.engine.lifecycle.STATUS_SECONDS", 0.02)


class Looks:
    """A description that counts how often it is asked for."""

    def __init__(self, line: str = "at work") -> None:
        self.line = line
        self.count = 0

    def __call__(self) -> str:
        self.count += 1
        return self.line


EXTENSION = "EXTEND_TIMEOUT_USEC=10000000"


async def test_ready_is_said_once(manager: FakeManager) -> None:
    with followed(manager) as life:
        assert manager.said() == [EXTENSION, "STATUS=starting"]
        life.describe_by(lambda: "1 link")
        life.ready()
        life.ready()
        assert manager.said()[2:] == ["READY=1\nSTATUS=1 link"]


@pytest.mark.usefixtures("_quick")
async def test_the_line_is_sent_when_it_changes(manager: FakeManager) -> None:
    looks = Looks("1 link")
    with followed(manager) as life:
        life.describe_by(looks)
        life.ready()
        await until(lambda: looks.count >= 4)
        looks.line = "2 links"
        await until(lambda: looks.count >= 8)
    assert manager.said()[2:] == ["READY=1\nSTATUS=1 link", "STATUS=2 links"]


@pytest.mark.usefixtures("_quick")
async def test_patience_is_asked_for_while_it_starts_and_while_it_drains(manager: FakeManager) -> None:
    def extensions() -> int:
        return manager.said().count(EXTENSION)

    with followed(manager) as life:
        await until(lambda: extensions() >= 3)
        life.ready()
        before = extensions()
        looks = Looks()
        life.describe_by(looks)
        await until(lambda: looks.count >= 3)
        assert extensions() == before
        life.describe_by(lambda: "draining, 1 connection left")
        life.request_stop()
        await until(lambda: extensions() >= before + 3)
    stopping = manager.messages.index("STOPPING=1\nSTATUS=stopping")
    assert "STATUS=draining, 1 connection left" in manager.messages[stopping:]


async def test_what_stops_before_it_is_ready_is_never_ready(manager: FakeManager) -> None:
    with followed(manager) as life:
        life.request_stop()
        assert life.stop.is_set()
        life.ready()
    assert not any("READY=1" in message for message in manager.said())


async def test_signs_of_life_come_twice_as_often_as_they_must(manager: FakeManager) -> None:
    loop = asyncio.get_running_loop()
    with followed(manager, watchdog_seconds=1):
        started = loop.time()
        await until(lambda: manager.said().count("WATCHDOG=1") >= 3)
        assert 0.9 < loop.time() - started < 1.9  # at once, and then every half a second


async def test_nothing_is_said_of_a_life_that_is_over(manager: FakeManager) -> None:
    with Notifier(manager.address, 0.02, print) as notifier:
        with Lifecycle(notifier).followed():
            await until(lambda: manager.said().count("WATCHDOG=1") >= 2)
        manager.said().clear()
        await asyncio.sleep(0.1)  # five times as long as between two
        assert manager.said() == []


async def test_without_a_manager_nothing_is_looked_at() -> None:
    life = Lifecycle()
    looks = Looks()
    life.describe_by(looks)
    with life.followed():
        await asyncio.sleep(0)
        assert looks.count == 0


@pytest.mark.parametrize(
    ("number", "text"), [(0, "0 links"), (1, "1 link"), (2, "2 links")], ids=["none", "one", "two"]
)
def test_counted(number: int, text: str) -> None:
    assert counted(number, "link") == text
