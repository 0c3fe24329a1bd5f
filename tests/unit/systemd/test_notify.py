"""What a service says, as a real datagram socket receives it."""

from __future__ import annotations

import os
import select
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.loopback.manager import FakeManager
from tunneler.errors import ConfigError
from tunneler.systemd.notify import MAX_WAITING, Notifier


class Reports(list[tuple[str, dict[str, Any]]]):
    """What was reported."""

    def __call__(self, event: str, **fields: Any) -> None:
        self.append((event, fields))


@pytest.fixture
def reports() -> Reports:
    return Reports()


@pytest.fixture(params=["path", "abstract"])
def manager(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[FakeManager]:
    address = f"@tunneler-test-{os.getpid()}" if request.param == "abstract" else tmp_path / "notify"
    with FakeManager(address) as manager:
        yield manager


@pytest.fixture
def notifier(manager: FakeManager, reports: Reports) -> Iterator[Notifier]:
    with Notifier(manager.address, None, reports) as notifier:
        yield notifier


def test_what_each_message_is(manager: FakeManager, notifier: Notifier) -> None:
    assert notifier.active
    notifier.extend_timeout(2.5)
    notifier.ready("1 link")
    notifier.alive()
    notifier.status("2 links")
    notifier.stopping("0 links")
    assert manager.said() == [
        "EXTEND_TIMEOUT_USEC=2500000",
        "READY=1\nSTATUS=1 link",
        "WATCHDOG=1",
        "STATUS=2 links",
        "STOPPING=1\nSTATUS=0 links",
    ]


def test_the_time_of_a_reload_is_that_of_the_managers_clock(manager: FakeManager, notifier: Notifier) -> None:
    before = time.clock_gettime_ns(time.CLOCK_MONOTONIC)
    notifier.reloading()
    after = time.clock_gettime_ns(time.CLOCK_MONOTONIC)
    (message,) = manager.said()
    first, second = message.splitlines()
    assert first == "RELOADING=1"
    name, _, microseconds = second.partition("=")
    assert name == "MONOTONIC_USEC"
    assert before // 1000 <= int(microseconds) <= after // 1000


def test_a_status_is_one_line(manager: FakeManager, notifier: Notifier) -> None:
    notifier.status("refused: a\nREADY=1\u2028b \udcff")
    assert manager.said() == ["STATUS=refused: a READY=1 b \\udcff"]


def test_nothing_is_said_to_nobody(reports: Reports) -> None:
    with Notifier(None, None, reports) as notifier:
        notifier.ready("1 link")
        notifier.flush()
        assert not notifier.active
    assert reports == []


def test_nothing_is_said_after_the_end(manager: FakeManager, reports: Reports) -> None:
    notifier = Notifier(manager.address, None, reports)
    notifier.close()
    notifier.close()
    notifier.alive()
    assert manager.said() == []


@pytest.mark.parametrize("address", ["notify", "vsock:2:1234", "@", "/"])
def test_an_address_of_another_kind(reports: Reports, address: str) -> None:
    with pytest.raises(ConfigError, match=r"^NOTIFY_SOCKET: expected an absolute path, or @ and a name"):
        Notifier(address, None, reports)


def test_a_manager_that_is_gone_is_reported_once(tmp_path: Path, reports: Reports) -> None:
    with Notifier(str(tmp_path / "gone"), None, reports) as notifier:
        notifier.ready("1 link")
        notifier.alive()
    assert [event for event, _ in reports] == ["notify_failed"]
    assert reports[0][1]["error"] == "No such file or directory"


# A manager that does not come to read.


def overwhelm(notifier: Notifier) -> None:
    """More signs of life than any queue has room for (unix(7), net.unix.max_dgram_qlen)."""
    for _ in range(int(Path("/proc/sys/net/unix/max_dgram_qlen").read_text()) + 5):
        notifier.alive()


def test_what_matters_arrives_late_and_in_order(manager: FakeManager, notifier: Notifier) -> None:
    overwhelm(notifier)
    notifier.ready("1 link")
    notifier.status("lost")
    notifier.stopping("ended")
    assert not [message for message in manager.said() if message != "WATCHDOG=1"]
    manager.messages.clear()
    notifier.flush()
    assert manager.said() == ["READY=1\nSTATUS=1 link", "STOPPING=1\nSTATUS=ended"]
    notifier.flush()
    assert len(manager.said()) == 2


def test_any_later_message_brings_what_waits(manager: FakeManager, notifier: Notifier) -> None:
    overwhelm(notifier)
    notifier.ready("1 link")
    manager.said()
    manager.messages.clear()
    notifier.alive()
    assert manager.said() == ["READY=1\nSTATUS=1 link", "WATCHDOG=1"]


def test_what_waits_is_bounded(manager: FakeManager, notifier: Notifier) -> None:
    overwhelm(notifier)
    for number in range(MAX_WAITING + 3):
        notifier.ready(str(number))
    manager.said()
    manager.messages.clear()
    for _ in range(MAX_WAITING):
        notifier.flush()
        manager.said()
    assert manager.messages[0] == "READY=1\nSTATUS=3"
    assert manager.messages[-1] == f"READY=1\nSTATUS={MAX_WAITING + 2}"


# The barrier.


async def test_a_barrier_ends_when_the_manager_has_read_it(manager: FakeManager, notifier: Notifier) -> None:
    notifier.ready("1 link")

    def read_late() -> None:
        assert select.select([manager], [], [], 10)[0]
        time.sleep(0.05)  # it is the time that passes which is measured
        manager.said()

    reading = threading.Thread(target=read_late)
    reading.start()
    started = time.monotonic()
    assert await notifier.barrier(10)
    assert time.monotonic() - started > 0.04
    reading.join()
    assert manager.messages == ["READY=1\nSTATUS=1 link", "BARRIER=1"]


async def test_a_barrier_is_not_waited_for_for_ever(manager: FakeManager, notifier: Notifier) -> None:
    assert not await notifier.barrier(0.05)
    assert manager.said() == ["BARRIER=1"]


async def test_a_barrier_nobody_can_answer(
    tmp_path: Path, manager: FakeManager, notifier: Notifier, reports: Reports
) -> None:
    with Notifier(str(tmp_path / "gone"), None, reports) as lonely:
        assert not await lonely.barrier(10)
    overwhelm(notifier)
    assert not await notifier.barrier(10)
    notifier.ready("waits")
    assert not await notifier.barrier(10)


async def test_a_barrier_without_a_manager(reports: Reports) -> None:
    with Notifier(None, None, reports) as notifier:
        assert await notifier.barrier(10)


# The environment.


def test_the_environment_is_read_and_left_clean(manager: FakeManager, reports: Reports) -> None:
    environment = {
        "NOTIFY_SOCKET": manager.address,
        "WATCHDOG_USEC": "1500000",
        "WATCHDOG_PID": str(os.getpid()),
        "HOME": "/",
    }
    with Notifier.of_environment(reports, environment) as notifier:
        assert notifier.active
        assert notifier.watchdog_seconds == 1.5
    assert environment == {"HOME": "/"}


def test_children_do_not_find_it(
    monkeypatch: pytest.MonkeyPatch, manager: FakeManager, reports: Reports
) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", manager.address)
    with Notifier.of_environment(reports) as notifier:
        notifier.alive()
    assert manager.said() == ["WATCHDOG=1"]
    with Notifier.of_environment(reports) as again:
        assert not again.active


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({}, None),
        ({"WATCHDOG_USEC": "30000000"}, 30.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": ""}, 30.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_USEC": "nonsense", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_PID": str(os.getpid())}, None),
    ],
)
def test_for_whom_the_watchdog_is(
    reports: Reports, variables: dict[str, str], expected: float | None
) -> None:
    with closing(Notifier.of_environment(reports, dict(variables))) as notifier:
        assert notifier.watchdog_seconds == expected


@pytest.mark.parametrize("value", ["0", "-1", "1.5", "soon", "²"])
def test_a_watchdog_time_that_is_none(reports: Reports, value: str) -> None:
    with pytest.raises(ConfigError, match=r"^WATCHDOG_USEC: expected a number of microseconds"):
        Notifier.of_environment(reports, {"WATCHDOG_USEC": value})


def test_it_speaks_for_this_process(notifier: Notifier, manager: FakeManager) -> None:
    """The manager looks at the sender's credentials, which the kernel adds."""
    receiver = manager.fileno()
    with socket.socket(fileno=os.dup(receiver)) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        notifier.alive()
        _, ancillary, _, _ = sock.recvmsg(100, socket.CMSG_SPACE(12))
    assert [int.from_bytes(data[:4], "little") for _, _, data in ancillary] == [os.getpid()]
