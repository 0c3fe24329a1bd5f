"""``tunneler capture run``: the rules are there, stay there, step aside, and go."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from testbed.members import PROGRAMS, Event
from testbed.processes import Process, execute, wait_until
from tests.loopback.manager import FakeManager
from tests.namespaces.capture_hosts import (
    CAPTURE_PORT,
    CAPTURED,
    ECHO_PORT,
    EXCLUDE,
    FOREIGN,
    NETWORKS,
    NOBODY,
    ROOT,
    UNHEARD_PORT,
    Hosts,
    capture_hosts,
    captured,
    direct,
)
from tunneler.capture.liveness import Liveness
from tunneler.errors import ExitStatus

DEADLINE = 10.0
"""Seconds for what takes one or three."""
TLS = dict.fromkeys(("cert_file", "key_file", "ca_file"), "/nowhere")
REFUSED = "ConnectionRefusedError"
FLUSH = {"iptables": "iptables-legacy -t nat -F", "nftables": "nft flush ruleset"}
FOUND = {
    "iptables": "IPv4 nat table, chain TUNNELER: missing: -d 100.64.2.0/24 -p tcp -j RETURN",
    "nftables": "table inet tunneler is missing",
}

Settings = dict[str, Any]


@pytest.fixture(scope="module")
def hosts() -> Iterator[Hosts]:
    with capture_hosts() as hosts:
        hosts.client.call("judge_by", networks=["0.0.0.0/0", "::/0"], exclude=[])
        yield hosts


@pytest.fixture(params=["iptables", "nftables"])
def backend(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


class Keeper:
    """``tunneler capture run`` on the client, its configuration, and where a client says that it lives."""

    def __init__(self, hosts: Hosts, directory: Path, backend: str) -> None:
        self.hosts = hosts
        self.host = hosts.lab.host("client")
        self.clients = directory / "clients"
        self.clients.mkdir()
        self.file = directory / "client.yaml"
        self.settings: Settings = {
            "server_addr": "127.0.0.1:8081",
            "tls": {"insecure": True},
            "target_cidr": list(NETWORKS),
            "exclude": list(EXCLUDE),
            "listen_port": CAPTURE_PORT,
            "capture": {"backend": backend, "user": "nobody"},
        }
        self._log = directory / "log"
        self._process: Process | None = None

    @property
    def process(self) -> Process:
        assert self._process is not None
        return self._process

    def configure(self, **settings: Any) -> None:
        """Write the file; of ``capture``, what is given is added."""
        capture = {**self.settings["capture"], **settings.pop("capture", {})}
        self.settings.update(settings, capture=capture)
        self.file.write_text(yaml.safe_dump(self.settings))

    def command(self, *words: str | Path) -> tuple[str | Path, ...]:
        return (PROGRAMS / "tunneler", "capture", *words, "--config", self.file)

    @property
    def environment(self) -> dict[str, str]:
        # No name server can be reached from here; resolv.conf(5) would wait for it for long.
        quick = "timeout:1 attempts:1"
        return {"XTABLES_LOCKFILE": f"/run/{self.host.namespace}.xtables.lock", "RES_OPTIONS": quick}

    def start(self, manager: FakeManager | None = None, **settings: Any) -> None:
        """Start it, and wait for the rules."""
        self.configure(**settings)
        told = {} if manager is None else {"NOTIFY_SOCKET": manager.address, "WATCHDOG_USEC": "3000000"}
        self._process = self.host.spawn(
            *self.command("run", "--clients", self.clients), log=self._log, env={**self.environment, **told}
        )
        self.wait_for("capture_installed")

    def reload(self, **settings: Any) -> None:
        self.configure(**settings)
        self.process.send_signal(signal.SIGHUP)

    def remove(self, *flags: str) -> str:
        """Run ``tunneler capture remove``; what it says."""
        command = (PROGRAMS / "tunneler", "capture", "remove", *flags)
        return self.host.run(*map(str, command), env=self.environment).stdout

    def events(self, name: str) -> list[Event]:
        return [event for event in self.process.json_lines() if event["event"] == name]

    def wait_for(self, name: str, count: int = 1) -> Event:
        """The event of that name, when there are so many."""
        wait_until(lambda: len(self.events(name)) >= count, DEADLINE, f"{name}\n{self.process.tail()}")
        return self.events(name)[-1]

    def wait_for_rules(self, rules: str) -> None:
        wait_until(lambda: self.hosts.rules() == rules, DEADLINE, f"the rules\n{self.process.tail()}")

    def reached(self) -> str:
        return self.hosts.client.connect(CAPTURED[4])


@contextmanager
def kept(hosts: Hosts, directory: Path, backend: str) -> Iterator[Keeper]:
    keeper = Keeper(hosts, directory, backend)
    try:
        yield keeper
    finally:
        if keeper._process is not None:
            keeper.process.stop()
        hosts.clean()


@pytest.fixture
def keeper(hosts: Hosts, tmp_path: Path, backend: str) -> Iterator[Keeper]:
    with kept(hosts, tmp_path, backend) as keeper:
        yield keeper


@pytest.fixture
def one_keeper(hosts: Hosts, tmp_path: Path) -> Iterator[Keeper]:
    """Where the packet filter does not matter."""
    with kept(hosts, tmp_path, "nftables") as keeper:
        yield keeper


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_rules_come_and_go(hosts: Hosts, keeper: Keeper, number: signal.Signals) -> None:
    before = hosts.rules()
    keeper.start()
    assert keeper.reached() == captured(CAPTURED[4])
    assert hosts.client.connect(CAPTURED[6]) == captured(CAPTURED[6])
    assert hosts.client.connect(CAPTURED[4], uid=NOBODY) == direct(CAPTURED[4])
    keeper.process.send_signal(number)
    assert keeper.process.wait(DEADLINE) == 0
    assert hosts.rules() == before
    assert keeper.events("capture_removed")


def test_flushed_rules_are_mended_and_that_is_told(hosts: Hosts, keeper: Keeper, backend: str) -> None:
    keeper.start()
    rules = hosts.rules()
    hosts.shell(FLUSH[backend])
    keeper.wait_for_rules(rules)
    mended = keeper.wait_for("capture_mended")
    assert (mended["level"], mended["backend"], mended["found"]) == ("warning", backend, FOUND[backend])


def test_who_keeps_flushing_does_not_fill_the_log(hosts: Hosts, one_keeper: Keeper) -> None:
    one_keeper.start()
    rules = hosts.rules()
    for _ in range(5):
        hosts.shell(FLUSH["nftables"])
        one_keeper.wait_for_rules(rules)
    assert len(one_keeper.events("capture_mended")) == 3


@pytest.mark.parametrize(
    ("when_down", "fate"), [("closed", captured(CAPTURED[4])), ("open", direct(CAPTURED[4]))]
)
def test_a_client_that_cannot_carry(keeper: Keeper, when_down: str, fate: str) -> None:
    """The listener of these hosts answers, whatever the client would do: refusing is the client's part."""
    keeper.start(capture={"when_down": when_down})
    with Liveness(keeper.clients) as client:
        client.tell(up=True)
        assert keeper.reached() == captured(CAPTURED[4])
        client.tell(up=False)
        assert keeper.wait_for("client_down")["reason"] == "the client has no link"
        assert keeper.reached() == fate
        client.tell(up=True)
        keeper.wait_for("client_back")
        assert keeper.reached() == captured(CAPTURED[4])


def test_a_killed_client(keeper: Keeper) -> None:
    keeper.start(capture={"when_down": "open"})
    with Liveness(keeper.clients) as client:
        client.tell(up=True)
        os.close(client._descriptor)
        client._descriptor = -1
        assert keeper.wait_for("client_down")["reason"] == "the client was killed"
        assert keeper.reached() == direct(CAPTURED[4])
    with Liveness(keeper.clients) as client:
        client.tell(up=True)
        keeper.wait_for("client_back")
        assert keeper.reached() == captured(CAPTURED[4])


@pytest.mark.parametrize(("when_down", "fate"), [("closed", REFUSED), ("open", direct(CAPTURED[4]))])
def test_nobody_listens(one_keeper: Keeper, when_down: str, fate: str) -> None:
    one_keeper.start(listen_port=UNHEARD_PORT, capture={"when_down": when_down})
    assert one_keeper.reached() == REFUSED
    assert one_keeper.wait_for("client_down")["reason"] == "nobody listens"
    assert one_keeper.reached() == fate


def test_a_reload_follows_the_configuration(hosts: Hosts, keeper: Keeper) -> None:
    keeper.start()
    assert hosts.client.connect(FOREIGN[4]) == direct(FOREIGN[4])
    keeper.reload(target_cidr="198.51.100.0/24", exclude=[])
    assert keeper.wait_for("reloaded")["changed"] == "target_cidr exclude"
    assert hosts.client.connect(FOREIGN[4]) == captured(FOREIGN[4])
    assert keeper.reached() == direct(CAPTURED[4])
    assert not keeper.events("capture_mended")


def test_a_reload_with_another_packet_filter(hosts: Hosts, one_keeper: Keeper) -> None:
    one_keeper.start()
    one_keeper.reload(capture={"backend": "iptables"})
    one_keeper.wait_for("reloaded")
    rules = hosts.rules()
    assert "-N TUNNELER" in rules or ":TUNNELER" in rules
    assert "table inet tunneler" not in rules
    assert one_keeper.reached() == captured(CAPTURED[4])


@pytest.mark.parametrize("fault", [{"target_cidr": "nonsense"}, {"capture": {"user": "nosuchuser"}}])
def test_a_reload_that_cannot_be_followed_changes_nothing(
    hosts: Hosts, one_keeper: Keeper, fault: Settings
) -> None:
    one_keeper.start()
    rules = hosts.rules()
    one_keeper.reload(**fault)
    refused = one_keeper.wait_for("reload_refused")
    assert "nonsense" in refused["error"] or "nosuchuser" in refused["error"]
    assert hosts.rules() == rules
    assert one_keeper.process.exit_status is None


def test_what_a_killed_one_leaves_is_removed_by_the_next_command(hosts: Hosts, keeper: Keeper) -> None:
    before = hosts.rules()
    keeper.start()
    keeper.process.kill()
    assert keeper.reached() == captured(CAPTURED[4])
    assert keeper.remove().endswith(": the rules are removed\n")
    assert hosts.rules() == before


def test_a_connection_outlives_a_keeper_that_was_killed(hosts: Hosts, keeper: Keeper) -> None:
    """What ExecStopPost= does between the end and the next start."""
    before = hosts.rules()
    keeper.start(listen_port=ECHO_PORT)
    hosts.client.call("open", CAPTURED[4], 80)
    keeper.process.kill()
    keeper.remove("--after", "signal")
    assert hosts.client.call("exchange", "nobody keeps the rules") == "nobody keeps the rules"
    assert keeper.reached() == direct(CAPTURED[4])
    keeper.start()
    assert hosts.client.call("exchange", "somebody does again") == "somebody does again"
    hosts.client.call("close")
    keeper.process.kill()
    wait_until(lambda: keeper.remove("--after", "signal") and hosts.rules() == before, DEADLINE, "no rules")


def test_what_a_killed_one_leaves_is_not_doubled(hosts: Hosts, keeper: Keeper) -> None:
    keeper.start()
    rules = hosts.rules()
    keeper.process.kill()
    keeper.start()
    assert hosts.rules() == rules


def test_names_that_cannot_be_found_do_not_hold_up_the_rules(one_keeper: Keeper) -> None:
    one_keeper.start(server_addr="nosuchrelay.invalid:8081", tls=TLS)
    assert one_keeper.reached() == captured(CAPTURED[4])
    assert "nosuchrelay.invalid:8081" in one_keeper.wait_for("server_not_found")["error"]


def test_without_a_user_the_servers_must_be_found(hosts: Hosts, one_keeper: Keeper) -> None:
    before = hosts.rules()
    one_keeper.configure(
        server_addr="nosuchrelay.invalid:8081",
        tls=TLS,
        capture={"user": ""},
    )
    done = one_keeper.host.run(*one_keeper.command("run"), check=False, env=one_keeper.environment)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "set capture.user" in done.stderr
    assert hosts.rules() == before


@pytest.mark.parametrize("name", ["auto", "iptables", "nftables"])
def test_a_kernel_without_packet_filters(hosts: Hosts, one_keeper: Keeper, name: str) -> None:
    one_keeper.configure(capture={"backend": name})
    _, *command = one_keeper.command("run")
    python = (sys.executable, "-m", "tests.namespaces.without_filter")
    argv = one_keeper.host.command(*python, *command)
    done = execute(("env", f"--chdir={ROOT}", *argv), timeout=30, check=False, env=one_keeper.environment)
    assert done.returncode == ExitStatus.UNSUPPORTED, done.stderr
    (line,) = [line for line in done.stderr.splitlines() if "warning: tls.insecure" not in line]
    assert "table cannot be opened" in line or "no netfilter socket" in line
    remove = one_keeper.host.command(*python, "capture", "remove")
    done = execute(("env", f"--chdir={ROOT}", *remove), timeout=30, check=False, env=one_keeper.environment)
    assert (done.returncode, done.stdout) == (0, "there were no rules\n")


def test_what_the_service_manager_is_told(hosts: Hosts, one_keeper: Keeper, tmp_path: Path) -> None:
    with FakeManager(tmp_path / "manager") as manager:
        one_keeper.start(manager)
        assert "STATUS=capturing 100.64.0.0/10 2001:db8:64::/48 by nftables" in manager.wait_for("READY=1")
        manager.wait_for("WATCHDOG=1", 1.5)
        manager.wait_for("WATCHDOG=1", 1.5)
        one_keeper.reload(target_cidr="100.64.0.0/10")
        assert "MONOTONIC_USEC=" in manager.wait_for("RELOADING=1")
        assert "STATUS=capturing 100.64.0.0/10 by nftables" in manager.wait_for("READY=1")
        one_keeper.reload(target_cidr="nonsense")
        assert "; reload refused: " in manager.wait_for("READY=1")
        one_keeper.reload(target_cidr="100.64.0.0/10")
        assert "reload refused" not in manager.wait_for("READY=1")
        hosts.shell(FLUSH["nftables"])
        assert manager.wait_for("STATUS=").endswith("; mended so far: 1")
        one_keeper.process.send_signal(signal.SIGTERM)
        manager.wait_for("STOPPING=1")
        assert one_keeper.process.wait(DEADLINE) == 0
