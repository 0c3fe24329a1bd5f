from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tunneler.capture.liveness import FILE_NAME, ClientState, Liveness, client_state
from tunneler.errors import CaptureError, ConfigError

CLIENT = """
import sys
from pathlib import Path
from tunneler.capture.liveness import Liveness
with Liveness(Path(sys.argv[1])) as liveness:
    for line in sys.stdin:
        liveness.tell(up=line == "up\\n")
        print("told", flush=True)
"""


class Client:
    """One in a process of its own: a process sees no lock of its own."""

    def __init__(self, directory: Path) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", CLIENT, directory],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def tell(self, word: str) -> None:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(f"{word}\n")
        self.process.stdin.flush()
        assert self.process.stdout.readline() == "told\n"

    def end(self, number: int | None = None) -> None:
        if number is not None:
            self.process.send_signal(number)
        self.process.communicate(timeout=10)


@contextmanager
def client(directory: Path) -> Iterator[Client]:
    running = Client(directory)
    try:
        yield running
    finally:
        running.end(signal.SIGKILL)


def test_the_life_of_a_client(tmp_path: Path) -> None:
    assert client_state(tmp_path) is ClientState.NOT_STARTED
    with client(tmp_path) as running:
        running.tell("down")
        assert client_state(tmp_path) is ClientState.DOWN
        running.tell("up")
        assert client_state(tmp_path) is ClientState.UP
        running.tell("down")
        assert client_state(tmp_path) is ClientState.DOWN
        running.end()
        assert client_state(tmp_path) is ClientState.NOT_STARTED
        assert list(tmp_path.iterdir()) == []


def test_a_killed_client_is_told_from_one_that_ended(tmp_path: Path) -> None:
    with client(tmp_path) as running:
        running.tell("up")
        running.end(signal.SIGKILL)
        assert client_state(tmp_path) is ClientState.KILLED
    with client(tmp_path) as running:
        running.tell("up")
        assert client_state(tmp_path) is ClientState.UP


def test_a_directory_that_is_not_there(tmp_path: Path) -> None:
    assert client_state(tmp_path / "none") is ClientState.NOT_STARTED


def test_of_several_clients_the_best_counts(tmp_path: Path) -> None:
    for name in ("1", "2"):
        (tmp_path / name).mkdir()
    with client(tmp_path / "1") as first, client(tmp_path / "2") as second:
        first.tell("down")
        second.tell("up")
        assert client_state(tmp_path) is ClientState.UP
        second.end(signal.SIGKILL)
        assert client_state(tmp_path) is ClientState.DOWN


def test_two_clients_do_not_share_a_file(tmp_path: Path) -> None:
    with client(tmp_path) as running:
        running.tell("up")
        with pytest.raises(ConfigError, match="another uses"):
            Liveness(tmp_path)


@pytest.mark.parametrize("kind", ["link", "pipe", "directory"])
def test_what_a_client_cannot_fool_or_stop_its_reader_with(tmp_path: Path, kind: str) -> None:
    path = tmp_path / FILE_NAME
    if kind == "link":
        path.symlink_to("/proc/kmsg")
    elif kind == "pipe":
        os.mkfifo(path)
    else:
        path.mkdir()
    assert client_state(tmp_path) is ClientState.DOWN


def test_the_file_can_be_read_by_whoever_keeps_the_rules(tmp_path: Path) -> None:
    previous = os.umask(0o077)
    try:
        with Liveness(tmp_path):
            assert (tmp_path / FILE_NAME).stat().st_mode & 0o777 == 0o644
    finally:
        os.umask(previous)


def test_the_first_directory_of_the_unit(tmp_path: Path) -> None:
    with Liveness.of_environment({"RUNTIME_DIRECTORY": f"{tmp_path}:/run/other"}):
        assert (tmp_path / FILE_NAME).exists()


def test_nothing_is_told_to_nobody() -> None:
    with Liveness.of_environment({}) as liveness:
        liveness.tell(up=True)


def test_a_file_that_cannot_be_made(tmp_path: Path) -> None:
    with pytest.raises(CaptureError, match="cannot be made: No such file"):
        Liveness(tmp_path / "none")
