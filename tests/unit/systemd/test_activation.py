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

from tunneler.addresses import Role
from tunneler.systemd.activation import CAPTURED, passed_sockets

STARTED = """
import fcntl, json, os, sys
descriptors, pid, names, role = json.loads(sys.argv[1])
above = [fcntl.fcntl(each, fcntl.F_DUPFD, 100) for each in descriptors]
for number, each in enumerate(above, start=3):
    os.dup2(each, number)
os.environ.update(LISTEN_FDS=str(len(above)), LISTEN_PID=str(pid or os.getpid()))
if names is not None:
    os.environ["LISTEN_FDNAMES"] = names

from tunneler.addresses import Role
from tunneler.errors import TunnelerError
from tunneler.systemd.activation import CAPTURED, LINKS, passed_sockets

uses = LINKS, CAPTURED
try:
    taken = passed_sockets(Role(role), *uses)
except TunnelerError as error:
    print(json.dumps({"error": str(error), "status": error.exit_status}))
else:
    print(json.dumps({
        "taken": [
            [use.name, sock.fileno(), sock.getsockname(), sock.getblocking(), sock.get_inheritable()]
            for use, sockets in taken.items() for sock in sockets
        ],
        "again": sum(map(len, passed_sockets(Role(role), *uses).values())),
        "environment": [name for name in os.environ if name.startswith("LISTEN_")],
    }))
"""


def started(
    passed: list[Any], *, pid: int = 0, names: str | None = None, role: str = "server"
) -> dict[str, Any]:
    """What a process finds to which these were passed: a role that takes links and captured connections."""
    descriptors = [each if isinstance(each, int) else each.fileno() for each in passed]
    ended = subprocess.run(
        [sys.executable, "-c", STARTED, json.dumps([descriptors, pid, names, role])],
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


def test_each_use_gets_the_sockets_of_its_name(kept: ExitStack) -> None:
    four, six, other = listening(kept), listening(kept, "::1"), listening(kept)
    found = started([four, other, six], names="tunneler-capture:tunneler-link:tunneler-capture")
    assert found["taken"] == [
        ["tunneler-link", 4, list(other.getsockname()), False, False],
        ["tunneler-capture", 3, list(four.getsockname()), False, False],
        ["tunneler-capture", 5, list(six.getsockname()), False, False],
    ]


@pytest.mark.parametrize("name", [None, "tunneler-server.socket", "tunneler-server@8081.socket"])
def test_the_main_use_needs_no_name(kept: ExitStack, name: str | None) -> None:
    (taken,) = started([listening(kept)], names=name)["taken"]
    assert taken[0] == "tunneler-link"


@pytest.mark.parametrize("name", ["tunneler-server.socket", "tunneler-admin", "tunneler-link2", ""])
def test_a_name_that_means_nothing_to_the_role(kept: ExitStack, name: str) -> None:
    answer = started([listening(kept)], names=name, role="client")
    assert answer["status"] == 2
    assert answer["error"] == (
        f"LISTEN_FDS: descriptor 3 ({name}): no name that a client knows; "
        "set FileDescriptorName= to tunneler-link or tunneler-capture"
    )


def test_one_address_twice(kept: ExitStack) -> None:
    first, second = (kept.enter_context(socket.socket()) for _ in range(2))
    for sock in (first, second):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        sock.bind(("127.0.0.1", first.getsockname()[1]))
        sock.listen()
    answer = started([first, second], names="tunneler-link:tunneler-server.socket")
    port = first.getsockname()[1]
    assert answer["status"] == 2
    assert answer["error"] == (
        "LISTEN_FDS: descriptor 4 (tunneler-server.socket): "
        f"listens on 127.0.0.1 port {port}, as tunneler-link does; disable one of the units"
    )


def test_nothing_is_left_for_children(kept: ExitStack) -> None:
    found = started([listening(kept)])
    assert len(found["taken"]) == 1
    assert (found["again"], found["environment"]) == (0, [])


def test_meant_for_another_process(kept: ExitStack) -> None:
    assert started([listening(kept)], pid=os.getpid())["taken"] == []


def test_none_were_passed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LISTEN_FDS", raising=False)
    assert passed_sockets(Role.CLIENT, CAPTURED) == {CAPTURED: []}


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
    answer = started([listening(kept), make(kept)], names="tunneler-link:tunneler-capture")
    assert answer["status"] == 2
    assert answer["error"].startswith(
        "LISTEN_FDS: descriptor 4 (tunneler-capture): expected a listening TCP socket, "
    )
    assert found in answer["error"]
    assert "Accept=no" in answer["error"]
    assert "\n" not in answer["error"]


TAKE = """
import os, sys
os.dup2(int(sys.argv[1]), 3)
os.environ.update(LISTEN_FDS="1", LISTEN_PID=str(os.getpid()), LISTEN_FDNAMES="tunneler-link")
os.execv(sys.argv[2], [sys.argv[2], "take-sockets"])
"""
TUNNELER = Path(sys.executable).with_name("tunneler")


def taken(sock: socket.socket, *within: str) -> subprocess.CompletedProcess[str]:
    """What ``tunneler take-sockets`` does to a socket.

    Args:
        within: a command that runs another one.
    """
    program = (sys.executable, "-c", TAKE, str(sock.fileno()), str(TUNNELER))
    return subprocess.run(
        [*within, *program],
        pass_fds=[sock.fileno()],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


def test_a_socket_is_given_to_the_user(kept: ExitStack) -> None:
    sock = listening(kept)
    os.fchown(sock.fileno(), 1, 1)
    ended = taken(sock)
    assert (ended.returncode, ended.stdout) == (0, "tunneler-link: taken\n")
    owner = os.fstat(sock.fileno())
    assert (owner.st_uid, owner.st_gid) == (0, 1)


def test_a_socket_cannot_be_given_without_the_capability(kept: ExitStack) -> None:
    sock = listening(kept)
    os.fchown(sock.fileno(), 1, 1)
    ended = taken(sock, "setpriv", "--bounding-set=-chown")
    assert ended.returncode == 2
    assert ended.stderr == (
        "tunneler-take-sockets: LISTEN_FDS: descriptor 3 (tunneler-link): cannot be given to user 0; "
        "give the unit AmbientCapabilities=CAP_CHOWN, and not PrivateUsers=yes\n"
    )
    assert os.fstat(sock.fileno()).st_uid == 1


def test_no_socket_to_take() -> None:
    ended = subprocess.run(
        [TUNNELER, "take-sockets"], capture_output=True, text=True, timeout=30, check=False
    )
    assert ended.returncode == 2
    assert ended.stderr == (
        "tunneler-take-sockets: LISTEN_FDS: expected sockets of systemd; give the unit Sockets=\n"
    )
