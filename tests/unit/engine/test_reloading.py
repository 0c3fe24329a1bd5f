"""Requests to reload, and what comes of them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.loopback.manager import FakeManager
from tests.loopback.recorder import Recorder
from tests.loopback.running import background, until
from tunneler.engine.lifecycle import Lifecycle
from tunneler.engine.reloading import reload_on_request
from tunneler.errors import CaptureError, ConfigError
from tunneler.systemd.notify import Notifier


class Role:
    """Takes on what it is given, or refuses."""

    def __init__(self) -> None:
        self.config: Any = SimpleNamespace(log=SimpleNamespace(level="info"), listen_addr="here")
        self.refusal: Exception | None = None

    async def reconfigure(self, new: Any) -> None:
        if self.refusal is not None:
            raise self.refusal
        self.config = new


class Configuration:
    """What is on disk; reading it takes as long as the test wants."""

    def __init__(self) -> None:
        self.level = "debug"
        self.address = "here"
        self.fault: ConfigError | None = None
        self.reads = 0
        self.may_be_read = asyncio.Event()
        self.may_be_read.set()

    async def reread(self) -> Any:
        self.reads += 1
        await self.may_be_read.wait()
        if self.fault is not None:
            raise self.fault
        return SimpleNamespace(log=SimpleNamespace(level=self.level), listen_addr=self.address)


class Scene:
    """A role that serves requests to reload, under a manager."""

    def __init__(self, manager: FakeManager, notifier: Notifier) -> None:
        self.manager = manager
        self.role = Role()
        self.configuration = Configuration()
        self.life = Lifecycle(notifier, self.configuration.reread)
        self.life.describe_by(lambda: "at work")

    def told(self) -> list[str]:
        """The manager, by the first word of each message."""
        return [message.partition("=")[0] for message in self.manager.said()]

    async def reload(self) -> None:
        reads = self.configuration.reads
        self.life.reload.set()
        await until(lambda: self.configuration.reads > reads)


@pytest.fixture
def log() -> Iterator[Recorder]:
    with Recorder() as recorder:
        yield recorder


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[FakeManager]:
    with FakeManager(tmp_path / "notify") as manager:
        yield manager


@asynccontextmanager
async def scene(manager: FakeManager, *, ready: bool = True) -> AsyncIterator[Scene]:
    with Notifier(manager.address, None, print) as notifier:
        made = Scene(manager, notifier)
        if ready:
            made.life.ready()
            manager.said().clear()
        async with background(reload_on_request(made.life, made.role)):
            yield made


async def test_what_may_change_changes(manager: FakeManager, log: Recorder) -> None:
    async with scene(manager) as made:
        made.configuration.address = "there"
        await made.reload()
        await until(lambda: log.of("restart_needed"))
        assert made.role.config.log.level == "debug"
        assert made.role.config.listen_addr == "here"
        await until(lambda: made.told() == ["RELOADING", "READY"])
        assert manager.messages[1] == "READY=1\nSTATUS=at work"
    assert log.of("reloaded") == [{"changed": "log.level"}]
    assert log.of("restart_needed") == [{"changed": "listen_addr"}]


async def test_nothing_changed(manager: FakeManager, log: Recorder) -> None:
    async with scene(manager) as made:
        made.configuration.level = "info"
        await made.reload()
        await until(lambda: made.told() == ["RELOADING", "READY"])
    assert log.of("reloaded") == [{"changed": "nothing"}]
    assert not log.of("restart_needed")


@pytest.mark.parametrize("refused_by", ["configuration", "role"])
async def test_what_is_wrong_changes_nothing(manager: FakeManager, log: Recorder, refused_by: str) -> None:
    async with scene(manager) as made:
        if refused_by == "configuration":
            made.configuration.fault = ConfigError("a.yaml", "", "not this\nb.yaml: nor that")
        else:
            made.role.refusal = CaptureError("not this\nb.yaml: nor that")
        await made.reload()
        await until(lambda: made.told() == ["RELOADING", "READY"])
        assert made.role.config.log.level == "info"
        errors = [event["error"] for event in log.of("reload_refused")]
        assert [error.removeprefix("a.yaml: ") for error in errors] == ["not this", "b.yaml: nor that"]
        assert not log.of("reloaded")
        first = log.of("reload_refused")[0]["error"]
        assert manager.messages[-1] == f"READY=1\nSTATUS=at work; reload refused: {first}"
        made.configuration.fault = made.role.refusal = None
        await made.reload()
        await until(lambda: len(made.told()) == 4)
        assert manager.messages[-1] == "READY=1\nSTATUS=at work"


async def test_requests_meanwhile_are_one_more(manager: FakeManager, log: Recorder) -> None:
    async with scene(manager) as made:
        made.configuration.may_be_read.clear()
        await made.reload()
        made.life.reload.set()
        made.life.reload.set()
        await asyncio.sleep(0)
        assert made.configuration.reads == 1
        made.configuration.level = "warning"
        made.configuration.may_be_read.set()
        await until(lambda: len(log.of("reloaded")) == 2)
        assert made.configuration.reads == 2
        await until(lambda: made.told() == ["RELOADING", "READY"] * 2)


async def test_a_role_that_is_not_ready_does_not_become_so_by_it(manager: FakeManager, log: Recorder) -> None:
    async with scene(manager, ready=False) as made:
        await made.reload()
        await until(lambda: log.of("reloaded"))
        assert made.told() == []
        made.life.ready()
        assert made.told() == ["READY"]


async def test_a_stop_meanwhile(manager: FakeManager, log: Recorder) -> None:
    """The role cancels the reload; the manager, who was told of a stop, is not told that all is well."""
    async with scene(manager) as made:
        made.configuration.may_be_read.clear()
        await made.reload()
        made.life.request_stop()
    assert made.told() == ["RELOADING", "STOPPING"]
    assert not log.of("reloaded")
    assert made.role.config.log.level == "info"


async def test_a_stop_that_comes_while_it_is_put_in_force(manager: FakeManager) -> None:
    async with scene(manager) as made:
        made.configuration.may_be_read.clear()
        await made.reload()
        made.life.request_stop()
        made.configuration.may_be_read.set()
        await until(lambda: made.role.config.log.level == "debug")
    assert made.told() == ["RELOADING", "STOPPING"]


async def test_where_there_is_no_configuration(log: Recorder) -> None:
    life = Lifecycle()
    async with background(reload_on_request(life, Role())):
        life.reload.set()
        await until(lambda: log.of("reload_refused"))
