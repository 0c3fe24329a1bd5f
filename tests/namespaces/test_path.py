"""The path, end to end: unmodified programs reach a target as if it were near."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from testbed import Host, Lab, Process, standard_topology
from testbed.suite import CAPTURED, SITE, TARGET, Suite
from testbed.web import Web
from tests.namespaces.conftest import PAGE

VIRTUAL6 = "fd64:1::/64"
SITE6 = "fd00:192:168:1::/64"
TARGET6 = "fd64:1::5"
ROUTE6 = {"virtual": VIRTUAL6, "real": SITE6}
URLS = {4: f"http://{TARGET}/", 6: f"http://[{TARGET6}]/"}


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with Lab(standard_topology(lan=True)) as lab:
        yield lab


@pytest.fixture(scope="module")
def suite(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Suite]:
    with Suite(lab, tmp_path_factory.mktemp("suite")) as suite:
        suite.add_three_roles(
            proxy={"managed_cidr": SITE, "routes": [ROUTE6]}, client={"target_cidr": [CAPTURED, "fd64::/16"]}
        )
        suite.start()
        yield suite


@pytest.fixture(params=[4, 6], ids=["ipv4", "ipv6"])
def url(request: pytest.FixtureRequest) -> str:
    return URLS[request.param]


def fetch(host: Host, url: str) -> str:
    return host.run("curl", "-sS", "--globoff", "-m", "10", url).stdout


def test_curl(suite: Suite, web: Web, client: Host, url: str) -> None:
    assert fetch(client, url) == PAGE


def test_the_target_is_called_from_the_proxy(suite: Suite, web: Web, client: Host) -> None:
    for url, caller in ((URLS[4], "192.168.1.1"), (URLS[6], "fd00:192:168:1::1")):
        fetch(client, url)
        assert web.accesses()[-1].split()[0] == caller


def test_the_logs_of_all_roles_tell_of_one_connection(suite: Suite, web: Web, client: Host) -> None:
    mark = suite.client.mark()
    fetch(client, URLS[4])
    captured = suite.client.wait_for("connection_captured", since=mark)
    connection = captured["connection"]
    assert len(connection) == 32
    assert captured["original_target"] == f"{TARGET}:80"
    closed = {
        role: suite[role].wait_for("connection_closed", connection=connection)
        for role in ("client", "server", "proxy")
    }
    for role, event in closed.items():
        assert event["role"] == role
        assert event["cause"] == "ok"
        assert event["original_target"] == f"{TARGET}:80"
        assert event["bytes_down"] > len(PAGE)
        assert 0 < event["duration"] < 10
    assert len({(event["bytes_up"], event["bytes_down"]) for event in closed.values()}) == 1
    assert closed["proxy"]["target"] == "192.168.1.5:80"
    assert closed["proxy"]["peer"].startswith("client/client#")
    assert closed["server"]["proxy"] == "proxy/proxy#proxy-1"


@pytest.mark.parametrize("backend", ["iptables", "nftables"])
def test_each_capture_backend(suite: Suite, web: Web, client: Host, backend: str) -> None:
    suite.client.restart({"capture": {"backend": backend}})
    assert suite.client.events("capture_installed")[0]["backend"] == backend
    assert fetch(client, URLS[4]) == PAGE
    assert fetch(client, URLS[6]) == PAGE


@pytest.mark.parametrize("backend", ["iptables", "nftables"])
def test_a_gateway_serves_the_network_behind_it(suite: Suite, web: Web, lab: Lab, backend: str) -> None:
    suite.client.restart({"capture": {"backend": backend, "gateway": True}})
    mark = suite.client.mark()
    assert fetch(lab.host("lan"), URLS[4]) == PAGE
    assert fetch(lab.host("lan"), URLS[6]) == PAGE
    sources = [event["source"] for event in suite.client.events("connection_captured", since=mark)]
    assert [source.rpartition(":")[0] for source in sources] == ["10.55.0.2", "[fd55::2]"]
    assert fetch(lab.host("client"), URLS[4]) == PAGE


@pytest.fixture(scope="module")
def ssh_options(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[str]]:
    """An sshd of its own on the target, port 22; options by which ssh trusts it and is trusted."""
    directory = tmp_path_factory.mktemp("ssh")
    target = lab.host("target")
    for key in ("host_key", "user_key"):
        target.run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", directory / key)
    (directory / "authorized").write_text((directory / "user_key.pub").read_text())
    host_key = (directory / "host_key.pub").read_text()
    (directory / "known_hosts").write_text(f"{TARGET} {host_key}")
    (directory / "sshd_config").write_text(
        f"HostKey {directory}/host_key\nAuthorizedKeysFile {directory}/authorized\nPidFile none\n"
        "PermitRootLogin prohibit-password\nPasswordAuthentication no\nUsePAM no\nStrictModes no\n"
        "Subsystem sftp internal-sftp\n"
    )
    Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)  # where its unprivileged process is shut in
    sshd: Process = target.spawn(
        "/usr/sbin/sshd", "-D", "-e", "-f", directory / "sshd_config", log=directory / "sshd.log"
    )
    sshd.wait_for_line(lambda line: "listening on 0.0.0.0" in line, 10)
    options = {
        "IdentityFile": directory / "user_key",
        "UserKnownHostsFile": directory / "known_hosts",
        "GlobalKnownHostsFile": "/dev/null",
        "StrictHostKeyChecking": "yes",
        "BatchMode": "yes",
        "ConnectTimeout": "10",
    }
    yield ["-F", "none", *(part for key, value in options.items() for part in ("-o", f"{key}={value}"))]
    sshd.stop()


def test_ssh(suite: Suite, client: Host, ssh_options: list[str]) -> None:
    command = "echo $SSH_CONNECTION; cat"
    said = client.run("ssh", *ssh_options, f"root@{TARGET}", command, input="over the tunnel\n").stdout
    connection, echo = said.splitlines()
    assert connection.split()[0] == "192.168.1.1"
    assert connection.split()[2:] == ["192.168.1.5", "22"]
    assert echo == "over the tunnel"


def test_scp_both_ways(suite: Suite, client: Host, ssh_options: list[str], tmp_path: Path) -> None:
    content = bytes(range(256)) * 40_000
    (tmp_path / "original").write_bytes(content)
    there, back = tmp_path / "there", tmp_path / "back"
    client.run("scp", "-q", *ssh_options, tmp_path / "original", f"root@{TARGET}:{there}")
    client.run("scp", "-q", *ssh_options, f"root@{TARGET}:{there}", back)
    assert there.read_bytes() == content
    assert back.read_bytes() == content


@pytest.mark.parametrize("options", [[], ["-R"], ["-P", "8"]], ids=["up", "down", "eight"])
def test_iperf3(suite: Suite, client: Host, target: Host, tmp_path: Path, options: list[str]) -> None:
    server = target.spawn("iperf3", "-s", "-1", "--forceflush", log=tmp_path / "iperf3.log")
    server.wait_for_line(lambda line: "Server listening" in line, 10)
    try:
        report = json.loads(client.run("iperf3", "-c", TARGET, "-t", "1", "-J", *options).stdout)
    finally:
        server.stop()
    rate = report["end"]["sum_received"]["bits_per_second"] / 1e6
    print(f"iperf3 {' '.join(options)}: {rate:.0f} Mbit/s")
    assert "error" not in report
    assert rate > 20  # it works at all; how fast is the benchmark's business


def test_wrk_keeps_connections_alive(suite: Suite, web: Web, client: Host) -> None:
    report = client.run("wrk", "-t", "1", "-c", "32", "-d", "2s", "--timeout", "5s", URLS[4]).stdout
    print(report)
    assert "Socket errors" not in report
    assert "Non-2xx" not in report
    assert int(report.split(" requests in ")[0].split()[-1]) > 100
