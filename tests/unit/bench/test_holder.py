"""Both ends of idle connections, on loopback."""

from __future__ import annotations

import signal
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench import holder
from testbed import Process

COUNT = 3 * holder.AT_ONCE + 1
DEADLINE = 20.0


@pytest.fixture
def port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        number: int = listener.getsockname()[1]
        return number


def start(log: Path, *arguments: object) -> Process:
    return Process((sys.executable, "-I", holder.__file__, *map(str, arguments)), log)


@pytest.fixture
def target(port: int, tmp_path: Path) -> Iterator[Process]:
    process = start(tmp_path / "accept.log", "accept", port)
    process.wait_for_line(lambda line: line == "listening", DEADLINE)
    yield process
    process.stop()


@pytest.fixture
def client(target: Process, port: int, tmp_path: Path) -> Iterator[Process]:
    process = start(tmp_path / "dial.log", "dial", "127.0.0.1", port, COUNT)
    yield process
    process.stop()


def test_all_are_held_until_they_are_closed(target: Process, client: Process) -> None:
    client.wait_for_line(lambda line: line == f"held {COUNT}, 0 attempts failed", DEADLINE)
    assert target.lines() == ["listening"]
    client.send_signal(signal.SIGTERM)
    assert client.wait(DEADLINE) == 0
    target.wait_for_line(lambda line: line == "empty", DEADLINE)


def test_one_that_ends_is_noticed(target: Process, client: Process) -> None:
    client.wait_for_line(lambda line: line.startswith("held "), DEADLINE)
    target.kill()
    assert client.wait(DEADLINE) == 1
    assert "one that was held ended" in client.tail()


def test_nobody_there(port: int, tmp_path: Path) -> None:
    client = start(tmp_path / "dial.log", "dial", "127.0.0.1", port, COUNT)
    assert client.wait(DEADLINE) == 1
    assert client.lines() == [f"2 attempts failed: Connection refused, after 0 of {COUNT} were held"]
