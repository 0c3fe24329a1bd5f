"""How connections end: half-close, reset and sudden death reach the other side as what they are."""

from __future__ import annotations

import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from testbed import Host
from testbed.suite import TARGET, Suite
from tests.namespaces.applications import Pair, connect, listen, receive_all, receive_exactly, reset

LONG = bytes(range(256)) * 4000


def ends(pair: Pair, *, swapped: bool) -> tuple[socket.socket, socket.socket]:
    return (pair.target, pair.application) if swapped else (pair.application, pair.target)


@pytest.fixture(params=[False, True], ids=["by_the_application", "by_the_target"])
def one_and_other(request: pytest.FixtureRequest, pair: Pair) -> tuple[socket.socket, socket.socket]:
    """The end that acts, and the end that must notice."""
    return ends(pair, swapped=request.param)


def test_half_close(one_and_other: tuple[socket.socket, socket.socket]) -> None:
    one, other = one_and_other
    one.sendall(b"all that I have to say")
    one.shutdown(socket.SHUT_WR)
    assert receive_all(other) == b"all that I have to say"
    # The other direction is as good as before, for as long as it takes.
    for _ in range(3):
        other.sendall(b"but I go on")
        assert receive_exactly(one, 11) == b"but I go on"
    other.sendall(b"until now")
    other.close()
    assert receive_all(one) == b"until now"


def test_half_close_is_logged_as_a_good_end(suite: Suite, pair: Pair) -> None:
    source = "{}:{}".format(*pair.application.getsockname())
    pair.application.shutdown(socket.SHUT_WR)
    assert receive_all(pair.target) == b""
    pair.target.close()
    assert receive_all(pair.application) == b""
    assert suite.client.wait_for("connection_closed", source=source)["cause"] == "ok"
    assert suite.proxy.wait_for("connection_closed", source=source)["cause"] == "ok"


def test_netcat_with_half_close_at_both_ends(
    suite: Suite, client: Host, target: Host, tmp_path: Path
) -> None:
    question, answer = LONG, LONG[::-1]
    (tmp_path / "question").write_bytes(question)
    (tmp_path / "answer").write_bytes(answer)
    script = 'exec nc -N "$@" <"$FROM" >"$TO"'
    files = {"FROM": str(tmp_path / "answer"), "TO": str(tmp_path / "question.received")}
    server = target.spawn(
        "bash", "-c", script, "nc", "-n", "-v", "-l", "9000", log=tmp_path / "nc.log", env=files
    )
    server.wait_for_line(lambda line: "Listening" in line, 10)
    files = {"FROM": str(tmp_path / "question"), "TO": str(tmp_path / "answer.received")}
    client.run("bash", "-c", script, "nc", "-n", TARGET, "9000", env=files)
    assert server.wait(10) == 0
    assert (tmp_path / "question.received").read_bytes() == question
    assert (tmp_path / "answer.received").read_bytes() == answer


def test_reset(suite: Suite, pair: Pair, one_and_other: tuple[socket.socket, socket.socket]) -> None:
    one, other = one_and_other
    one.sendall(b"before")
    assert receive_exactly(other, 6) == b"before"
    source = "{}:{}".format(*pair.application.getsockname())
    reset(one)
    with pytest.raises(ConnectionResetError):
        other.recv(1)
    for member in (suite.client, suite.proxy):
        assert member.wait_for("connection_closed", source=source)["cause"] == "reset_by_peer"


def test_reset_after_the_other_has_finished(one_and_other: tuple[socket.socket, socket.socket]) -> None:
    one, other = one_and_other
    other.shutdown(socket.SHUT_WR)
    assert receive_all(one) == b""
    reset(one)
    with pytest.raises((ConnectionResetError, BrokenPipeError)):
        endlessly(lambda: other.sendall(LONG))


def test_an_application_is_killed_while_it_downloads(
    suite: Suite, client: Host, target: Host, tmp_path: Path
) -> None:
    with listen(target) as listener:
        script = f"exec nc -n {TARGET} {listener.getsockname()[1]} >/dev/null"
        application = client.spawn("bash", "-c", script, log=tmp_path / "nc.log")
        sender, _ = listener.accept()
    with sender:
        sender.settimeout(10)
        sender.sendall(LONG)
        application.kill()
        with pytest.raises((ConnectionResetError, BrokenPipeError)):
            endlessly(lambda: sender.sendall(LONG))


def test_a_target_is_killed_while_it_sends(suite: Suite, client: Host, target: Host, tmp_path: Path) -> None:
    sender = target.spawn("bash", "-c", "exec nc -n -v -l 9001 </dev/zero", log=tmp_path / "nc.log")
    sender.wait_for_line(lambda line: "Listening" in line, 10)
    with connect(client, 9001) as application:
        receive_exactly(application, 1_000_000)
        sender.kill()
        try:
            while application.recv(1 << 20):
                pass
        except ConnectionResetError:
            pass  # which of the two it is depends on what the target had not read


def endlessly(action: Callable[[], object]) -> None:
    """Until it raises; a socket's timeout is the deadline."""
    while True:
        action()
