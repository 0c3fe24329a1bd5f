"""From flags to a role that runs: what it is given, and what it may answer."""

from __future__ import annotations

import signal
import sys
from ipaddress import IPv4Network
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.unit.cli.conftest import Programs
from tunneler.addresses import HostPort
from tunneler.config.flags import FLAG_OF_KEY
from tunneler.errors import ExitStatus, TransportError
from tunneler.observability import log

TLS = ("--tls-cert", "c.pem", "--tls-key", "k.pem", "--tls-ca", "a.pem")


class FakeRoles:
    """Stands for the roles: keeps the configuration, and ends as told."""

    def __init__(self) -> None:
        self.config: Any = None
        self.reread: Any = None
        self.log: tuple[Any, ...] = ()
        self.end: Any = lambda: ExitStatus.OK

    def run(self, config: Any, reread: Any) -> ExitStatus:
        self.config, self.reread = config, reread
        self.hangups_wait = signal.SIGHUP in signal.pthread_sigmask(signal.SIG_BLOCK, ())
        result: ExitStatus = self.end()
        return result


@pytest.fixture
def roles(monkeypatch: pytest.MonkeyPatch) -> FakeRoles:
    fake = FakeRoles()
    for role in ("client", "server", "proxy"):
        monkeypatch.setitem(sys.modules, f"tunneler.roles.{role}", SimpleNamespace(run=fake.run))
    # Not in a process of its own: this one may have threads, and wants to see what goes on.
    monkeypatch.setattr("tunneler.cli.settings.apart", lambda function: function())
    monkeypatch.setattr(log, "configure", lambda *arguments: setattr(fake, "log", arguments))
    return fake


def test_the_flags_of_a_client(program: Programs, roles: FakeRoles) -> None:
    ended = program(
        "tunneler-client",
        *("--server", "a:1", "--server", "b:2", "--cidr", "10.0.0.0/8", "--cidr", "100.64.0.0/10"),
        *(
            "--listen-port",
            "7777",
            "--exclude",
            "10.1.0.0/16",
            "--gateway",
            "--no-capture",
            "--client-id",
            "me",
        ),
        *("--log-level", "debug", "--log-format", "text", *TLS),
    )
    assert ended == (0, "", "")
    config = roles.config
    assert config.server_addr == (HostPort("a", 1), HostPort("b", 2))
    assert config.target_cidr == (IPv4Network("10.0.0.0/8"), IPv4Network("100.64.0.0/10"))
    assert config.exclude == (IPv4Network("10.1.0.0/16"),)
    assert (config.listen_port, config.client_id) == (7777, "me")
    assert (config.capture.gateway, config.capture.enabled) == (True, False)
    assert (config.tls.cert_file, config.tls.key_file, config.tls.ca_file) == (
        Path("c.pem"),
        Path("k.pem"),
        Path("a.pem"),
    )
    assert roles.log == ("client", "debug", "text", "stdout")


def test_the_flags_of_a_server(program: Programs, roles: FakeRoles) -> None:
    assert program("tunneler-server", "--listen", "[::1]:8082", "--tls-insecure").status == 0
    assert roles.config.listen_addr == HostPort("::1", 8082)
    assert roles.config.tls.insecure


def test_the_flags_of_a_proxy(program: Programs, roles: FakeRoles) -> None:
    ended = program(
        "tunneler-proxy",
        *("--server", "relay:8081", "--proxy-id", "proxy-1", "--managed-cidr", "192.168.1.0/24"),
        *("--managed-cidr", "192.168.2.0/24", "--route", "100.65.0.0/24=10.0.0.0/24"),
        *("--route", "100.65.1.0/24=10.0.1.0/24", *TLS),
    )
    assert ended == (0, "", "")
    assert roles.config.proxy_id == "proxy-1"
    assert [str(network) for network in roles.config.managed_cidr] == ["192.168.1.0/24", "192.168.2.0/24"]
    assert [str(route) for route in roles.config.routes] == [
        "100.65.0.0/24 -> 10.0.0.0/24",
        "100.65.1.0/24 -> 10.0.1.0/24",
    ]


def test_switches_that_are_not_given_leave_a_file_in_force(
    program: Programs, roles: FakeRoles, tmp_path: Path
) -> None:
    file = tmp_path / "client.yaml"
    file.write_text(
        "server_addr: 127.0.0.1:1\ntls: {insecure: true}\ncapture: {gateway: true, enabled: false}\n"
    )
    assert program("tunneler-client", "--config", str(file)).status == 0
    assert (roles.config.capture.gateway, roles.config.capture.enabled) == (True, False)
    assert roles.config.tls.insecure


def test_a_hangup_waits_for_the_role(program: Programs, roles: FakeRoles) -> None:
    program("tunneler-server", "--listen", "127.0.0.1:5", "--tls-insecure")
    assert roles.hangups_wait
    assert signal.SIGHUP not in signal.pthread_sigmask(signal.SIG_BLOCK, ())


def test_both_names_run_the_same(program: Programs, roles: FakeRoles) -> None:
    program("tunneler", "server", "--listen", "127.0.0.1:5", "--tls-insecure")
    assert roles.config.listen_addr == HostPort("127.0.0.1", 5)
    assert roles.log[0] == "server"


def test_the_environment_is_read(
    program: Programs, roles: FakeRoles, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TUNNELER_LISTEN_ADDR", "127.0.0.1:6")
    assert program("tunneler-server", "--tls-insecure").status == 0
    assert roles.config.listen_addr == HostPort("127.0.0.1", 6)


def test_every_flag_that_sets_a_key_is_in_some_help(program: Programs) -> None:
    texts = " ".join(program(f"tunneler-{role}", "--help").output for role in ("client", "server", "proxy"))
    assert [flag for flag in FLAG_OF_KEY.values() if f" {flag}" not in texts] == []


def test_warnings_go_to_standard_error(program: Programs, roles: FakeRoles) -> None:
    ended = program("tunneler-server", "--listen", "127.0.0.1:1", "--tls-insecure")
    assert ended.output == ""
    assert ended.errors.startswith("tunneler-server: warning: tls.insecure: ")


@pytest.mark.parametrize("name", [("tunneler-client",), ("tunneler", "client")])
def test_a_wrong_configuration_is_a_line_for_each_fault_and_status_2(
    program: Programs, roles: FakeRoles, tmp_path: Path, name: tuple[str, ...]
) -> None:
    file = tmp_path / "client.yaml"
    file.write_text("server_addr: relay\nlistn_port: 1\n")
    status, output, errors = program(*name, "--config", str(file), *TLS)
    assert (status, output) == (2, "")
    unknown, wrong = errors.splitlines()
    assert unknown == f"tunneler-client: {file}: listn_port: unknown key; did you mean listen_port?"
    assert wrong.startswith(f"tunneler-client: {file}: server_addr.0: expected HOST:PORT with a port from")
    assert roles.config is None


def test_an_error_of_the_role_is_one_line_and_its_status(program: Programs, roles: FakeRoles) -> None:
    def fail() -> None:
        raise TransportError("127.0.0.1:5: address in use")

    roles.end = fail
    status, _, errors = program("tunneler-server", "--listen", "127.0.0.1:5", "--tls-insecure")
    assert status == 1
    assert errors.splitlines()[-1] == "tunneler-server: 127.0.0.1:5: address in use"


def test_the_status_of_the_role_is_that_of_the_process(program: Programs, roles: FakeRoles) -> None:
    roles.end = lambda: ExitStatus.FAILURE
    assert program("tunneler-server", "--listen", "127.0.0.1:5", "--tls-insecure").status == 1


def test_a_bug_keeps_its_traceback(
    program: Programs, roles: FakeRoles, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail() -> None:
        raise ZeroDivisionError

    roles.end = fail
    with pytest.raises(ZeroDivisionError):
        program("tunneler-server", "--listen", "127.0.0.1:5", "--tls-insecure")


def test_an_interrupt_before_the_role_runs(program: Programs, roles: FakeRoles) -> None:
    def interrupt() -> None:
        raise KeyboardInterrupt

    roles.end = interrupt
    assert program("tunneler-server", "--listen", "127.0.0.1:5", "--tls-insecure").status == 130
