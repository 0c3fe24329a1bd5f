from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import closing
from ipaddress import ip_network
from pathlib import Path

import pytest

from testbed.processes import wait_until
from tunneler.addresses import HostPort, Network
from tunneler.capture import lookup
from tunneler.capture.lookup import DEADLINE, INTERVAL, INTERVAL_AFTER_FAILURE, Lookup
from tunneler.errors import CaptureError

NAME = HostPort("relay.example.org", 8081)
OTHER = HostPort("other.example.org", 8081)
ADDRESS = HostPort("192.0.2.1", 8081)


def networks(*texts: str) -> tuple[Network, ...]:
    return tuple(map(ip_network, texts))


class Names:
    """A resolver; what is set before a look-up begins is what its child knows."""

    def __init__(self) -> None:
        self.known: dict[str, tuple[str, ...]] = {}
        self.script = ""

    def addresses_of(self, server: HostPort) -> list[Network]:
        exec(self.script, {})  # noqa: S102 - what a child does before it answers
        if server.host == ADDRESS.host:
            return list(networks(ADDRESS.host))
        if server.host not in self.known:
            raise CaptureError(f"{server}: cannot find\nthe server's address")
        return list(networks(*self.known[server.host]))


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> Iterator[Names]:
    names = Names()
    monkeypatch.setattr(lookup, "addresses_of", names.addresses_of)
    yield names
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)


def done(looking: Lookup, now: float) -> bool:
    """Let a look-up begin, and end."""
    looking.wait(now, 10)
    return looking._child is None


def test_addresses_need_no_child(names: Names) -> None:
    with closing(Lookup([ADDRESS])) as looking:
        assert looking.complete
        assert not looking.look(0)
        assert looking._child is None
        assert looking.addresses == networks("192.0.2.1")


def test_a_name_is_found_and_followed(names: Names) -> None:
    names.known[NAME.host] = ("192.0.2.9", "2001:db8::9", "192.0.2.2")
    with closing(Lookup([NAME, ADDRESS])) as looking:
        assert done(looking, 0)
        assert looking.complete
        assert looking.addresses == networks("192.0.2.1", "192.0.2.2", "192.0.2.9", "2001:db8::9")
        names.known[NAME.host] = ("198.51.100.1",)
        assert not looking.look(INTERVAL - 1)
        assert looking._child is None
        assert done(looking, INTERVAL)
        assert looking.addresses == networks("192.0.2.1", "198.51.100.1")


def test_a_change_is_told_once(names: Names) -> None:
    names.known[NAME.host] = ("192.0.2.9",)
    with closing(Lookup([NAME])) as looking:
        looking.look(0)
        assert looking._child is not None
        assert looking._child.wait(10)
        assert looking.look(1)
        assert not looking.look(2)
        assert done(looking, 1 + INTERVAL)
        assert not looking.look(2 + INTERVAL)


def test_a_name_that_is_not_found_keeps_its_last_addresses(names: Names) -> None:
    names.known = {NAME.host: ("192.0.2.9",), OTHER.host: ("192.0.2.8",)}
    with closing(Lookup([NAME, OTHER])) as looking:
        assert done(looking, 0)
        names.known = {OTHER.host: ("192.0.2.7",)}
        assert done(looking, INTERVAL)
        assert looking.addresses == networks("192.0.2.7", "192.0.2.9")
        assert str(looking.failure) == "relay.example.org:8081: cannot find the server's address"
        names.known[NAME.host] = ("192.0.2.6",)
        assert done(looking, INTERVAL + INTERVAL_AFTER_FAILURE)
        assert looking.failure is None
        assert looking.addresses == networks("192.0.2.6", "192.0.2.7")


def test_an_answer_that_never_comes(names: Names) -> None:
    names.script = "import time; time.sleep(1000)"
    with closing(Lookup([NAME])) as looking:
        started = time.monotonic()
        looking.wait(0, 0.1)
        assert time.monotonic() - started < 5
        assert not looking.look(DEADLINE - 1)
        assert not looking.look(DEADLINE)
        assert looking.failure == f"{NAME}: no answer within {DEADLINE:g} s"
        assert not looking.complete


@pytest.mark.parametrize(
    "said", ["found 192.0.2.9 nonsense\n", "found 192.0.2.0/24\n", "found \0\n", "found 192.0.2.9", ""]
)
def test_a_child_is_not_trusted(names: Names, monkeypatch: pytest.MonkeyPatch, said: str) -> None:
    monkeypatch.setattr(lookup, "_line_about", lambda _: said)
    with closing(Lookup([NAME])) as looking:
        assert done(looking, 0)
        assert looking.failure is not None
        assert looking.addresses == ()


def test_a_child_that_says_too_much(names: Names, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lookup, "_line_about", lambda _: "x" * 1_000_000)
    with closing(Lookup([NAME])) as looking:
        looking.look(0)
        assert not looking.look(DEADLINE - 1)
        looking.look(DEADLINE)
        assert looking.failure == f"{NAME}: no answer within {DEADLINE:g} s"


def test_the_child_has_no_capability(names: Names, tmp_path: Path) -> None:
    copy = tmp_path / "status"
    names.script = f"import shutil; shutil.copy('/proc/self/status', {str(copy)!r})"
    with closing(Lookup([NAME])) as looking:
        assert done(looking, 0)
    sets = [
        line
        for line in copy.read_text().splitlines()
        if line.startswith(("CapInh", "CapPrm", "CapEff", "CapAmb"))
    ]
    assert [line.split()[1] for line in sets] == ["0" * 16] * 4


def test_a_look_up_is_ended_when_nobody_wants_it(names: Names) -> None:
    names.script = "import time; time.sleep(1000)"
    with closing(Lookup([NAME])) as looking:
        looking.look(0)
        assert looking._child is not None
        pid = looking._child._pid
    wait_until(lambda: not Path(f"/proc/{pid}").exists(), 5, "the child has ended")
