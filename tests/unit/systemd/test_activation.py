"""Sockets passed by systemd, as a process of its own finds them: what is passed is by number and by pid."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tunneler.systemd.activation import passed_sockets

STARTED = """
import fcntl, json, os, sys
descriptors, pid, names = json.loads(sys.argv[1])
above = [fcntl.fcntl(each, fcntl.F_DUPFD, 100) for each in descriptors]
for number, each in enumerate(above, start=3):
    os.dup2(each, number)
os.environ.update(LISTEN_FDS=str(len(above)), LISTEN_PID=str(pid or os.getpid()))
if names is not None:
    os.environ["LISTEN_FDNAMES"] = names

from tunneler.errors import TunnelerError
from tunneler.systemd.activation import passed_sockets

try:
    taken = passed_sockets()
except TunnelerError as error:
    print(json.dumps({"error": str(error), "status": error.exit_status}))
else:
    print(json.dumps({
        "taken": [
            [name, sock.fileno(), sock.getsockname(), sock.getblocking(), sock.get_inheritable()]
            for name, sock in taken
        ],
        "again": len(passed_sockets()),
        "environment": [name for name in os.environ if name.startswith("LISTEN_")],
    }))
"""


def started(passed: list[Any], *, pid: int = 0, names: str | None = None) -> dict[str, Any]:
    """What a process finds to which these were passed."""
    descriptors = [each if isinstance(each, int) else each.fileno() for each in passed]
    ended = subprocess.run(
        [sys.executable, "-c", STARTED, json.dumps([descriptors, pid, names])],
        pass_fds=descriptors,
        stdout=subprocess.PIPE,
        timeout=30,
        check=True,
    )
    found: dict[str, Any] = json.loads(ended.stdout)
    return found


@pytest.fixture
def kept() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def listening(kept: ExitStack, host: str = "127.0.0.1") -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = kept.enter_context(socket.create_server((host, 0), family=family))
    os.set_inheritable(sock.fileno(), True)
    return sock


def test_both_families_by_name(kept: ExitStack) -> None:
    four, six = listening(kept), listening(kept, "::1")
    found = started([four, six], names="capture:capture-6")
    assert found["taken"] == [
        ["capture", 3, list(four.getsockname()), False, False],
        ["capture-6", 4, list(six.getsockname()), False, False],
    ]


def test_nothing_is_left_for_children(kept: ExitStack) -> None:
    found = started([listening(kept)])
    assert len(found["taken"]) == 1
    assert (found["again"], found["environment"]) == (0, [])


def test_meant_for_another_process(kept: ExitStack) -> None:
    assert started([listening(kept)], pid=os.getpid())["taken"] == []


def test_none_were_passed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LISTEN_FDS", raising=False)
    assert passed_sockets() == []


def a_file(kept: ExitStack) -> Any:
    return kept.enter_context(Path(os.devnull).open())


def a_connection(kept: ExitStack) -> socket.socket:
    return kept.enter_context(socket.create_connection(listening(kept).getsockname()))


def of_unix(kept: ExitStack) -> socket.socket:
    return kept.enter_context(socket.socket(socket.AF_UNIX))


def of_udp(kept: ExitStack) -> socket.socket:
    return kept.enter_context(socket.socket(socket.AF_INET6, socket.SOCK_DGRAM))


@pytest.mark.parametrize(
    ("make", "found"),
    [
        (a_file, "not a file"),
        (of_unix, "not one of AF_UNIX"),
        (of_udp, "not one of SOCK_DGRAM"),
        (a_connection, "not a connection (Accept=yes), or a socket that does not listen"),
    ],
)
def test_what_is_of_no_use(kept: ExitStack, make: Any, found: str) -> None:
    """Even beside one that is: the unit is wrong, and its owner is told what to write."""
    answer = started([listening(kept), make(kept)], names="good:bad")
    assert answer["status"] == 2
    assert answer["error"].startswith("LISTEN_FDS: descriptor 4 (bad): expected a listening TCP socket, ")
    assert found in answer["error"]
    assert "Accept=no" in answer["error"]
    assert "\n" not in answer["error"]
