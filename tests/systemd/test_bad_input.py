"""Services that cannot start: one line that says why, where an administrator looks; no useless restarts."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.lab.program import ROOT
from tests.systemd.services import ROLES, Entry, Journal, Site, Unit
from tunneler.addresses import Role
from tunneler.errors import ExitStatus
from tunneler.observability.journal import message_id
from tunneler.pki.issue import LEAF_VALIDITY
from tunneler.pki.store import generate

pytestmark = pytest.mark.timeout(120)

EVENTS = {
    ExitStatus.FAILURE: "program_failed",
    ExitStatus.USAGE: "configuration_refused",
    ExitStatus.CREDENTIALS: "credentials_refused",
    ExitStatus.UNSUPPORTED: "host_unsupported",
}


@pytest.fixture(scope="module")
def resting(whole: Site) -> Iterator[Site]:
    """No role runs, so that none starts another by dialling; mended after the last test here."""
    for role in ROLES:
        whole.run(role, "systemctl stop 'tunneler*'")
    yield whole
    whole.mend()


def refusal(unit: Unit, status: ExitStatus) -> str:
    """Start a service that must fail; what it said."""
    journal = Journal.now(unit.bed, unit.host)
    started = unit.bed.host(unit.host).run(f"systemctl start {unit.name}")
    assert started.rc != 0

    def complaints() -> list[Entry]:
        return [entry for entry in journal.entries(_SYSTEMD_UNIT=unit.name) if entry["PRIORITY"] < "6"]

    unit.wait_for(complaints, f"{unit.name} complains")
    (said,) = complaints()
    expected = {
        "MESSAGE_ID": message_id(EVENTS[status]),
        "PRIORITY": "3",
        "SYSLOG_IDENTIFIER": unit.name.removesuffix(".service"),
        "TUNNELER_EVENT": EVENTS[status],
    }
    assert said.items() >= expected.items()
    line = said["MESSAGE"]
    shown = unit.show("ActiveState", "ExecMainStatus", "NRestarts", "StatusText")
    assert shown == {
        "ActiveState": "failed",
        "ExecMainStatus": str(int(status)),
        "NRestarts": "0",
        "StatusText": line,
    }
    looked_at = unit.bed.host(unit.host).run(f"systemctl status --no-pager --full {unit.name}")
    assert looked_at.stdout.count(line) == 2  # as its status, and among its last lines
    assert "What to do:" in unit.run(f"journalctl --quiet --catalog TUNNELER_EVENT={EVENTS[status]}")
    unit.run("systemctl stop 'tunneler*'; systemctl reset-failed")
    return line


def without_key(site: Site, role: Role) -> None:
    site.run(role, f"rm /etc/tunneler/tls/{role}/key.pem")


def with_key_of_root(site: Site, role: Role) -> None:
    site.run(role, f"chown root:root /etc/tunneler/tls/{role}/key.pem")


def with_key_for_everybody(site: Site, role: Role) -> None:
    site.run(role, f"chmod 0644 /etc/tunneler/tls/{role}/key.pem")


def with_certificate_of_another(site: Site, role: Role) -> None:
    other = Role.CLIENT if role is Role.SERVER else Role.SERVER
    content = (site.rollout.certificates / other / "cert.pem").read_bytes()
    site.bed.put(role, f"/etc/tunneler/tls/{role}/cert.pem", content)


CREDENTIALS: dict[str, tuple[Callable[[Site, Role], None], str]] = {
    "missing": (without_key, "key.pem: no such file"),
    "unreadable": (with_key_of_root, "key.pem: permission denied; let the user that runs tunneler read it"),
    "shown": (with_key_for_everybody, "key.pem: others can get at this private key (mode 0644)"),
    "foreign": (with_certificate_of_another, "does not fit "),
}


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("fault", CREDENTIALS)
def test_credentials(resting: Site, role: Role, fault: str) -> None:
    spoil, words = CREDENTIALS[fault]
    spoil(resting, role)
    try:
        line = refusal(resting.unit(role), ExitStatus.CREDENTIALS)
    finally:
        resting.rollout.install_keys(role)
    assert line.startswith(f"/etc/tunneler/tls/{role}/")
    assert words in line


def test_a_busy_journal_still_knows_whose_complaint_it_is(resting: Site) -> None:
    """It looks for the unit when it reads the entry, and finds none if the process has ended by then."""
    unit = resting.proxy
    pause = "systemctl kill --kill-whom=main --signal={} systemd-journald.service"
    journal = resting.journal(unit.host)
    without_key(resting, Role.PROXY)
    try:
        unit.run(pause.format("STOP"))
        unit.run(f"systemctl --no-block start {unit.name}")
        unit.wait_status("key.pem")
        time.sleep(0.3)  # in which it would have ended
        assert unit.pid
    finally:
        unit.run(pause.format("CONT"))
        resting.rollout.install_keys(Role.PROXY)
    unit.wait("failed")
    unit.wait_for(
        lambda: journal.entries(_SYSTEMD_UNIT=unit.name, PRIORITY=3), "its complaint is in the journal"
    )
    unit.run("systemctl stop 'tunneler*'; systemctl reset-failed")


@pytest.mark.parametrize("role", ROLES)
def test_an_expired_certificate(resting: Site, role: Role, tmp_path: Path) -> None:
    long_ago = datetime.now(UTC) - LEAF_VALIDITY - timedelta(days=1)
    generate(tmp_path / "old", ["127.0.0.1"], force=False, now=long_ago)
    resting.rollout.install_keys(role, tmp_path / "old")
    try:
        line = refusal(resting.unit(role), ExitStatus.CREDENTIALS)
    finally:
        resting.rollout.install_keys(role)
    assert line.startswith(f"/etc/tunneler/tls/{role}/cert.pem: expired on ")


@pytest.mark.parametrize("role", ROLES)
def test_a_wrong_configuration(resting: Site, role: Role) -> None:
    resting.configure(role, {"timeouts": {"dial": "soon"}})
    try:
        line = refusal(resting.unit(role), ExitStatus.USAGE)
    finally:
        resting.rollout.configure(role)
    assert line.startswith(f"/etc/tunneler/{role}.yaml: timeouts.dial: expected a duration")


def test_no_configuration(resting: Site) -> None:
    resting.run("proxy", "rm /etc/tunneler/proxy.yaml")
    try:
        line = refusal(resting.unit(Role.PROXY), ExitStatus.USAGE)
    finally:
        resting.rollout.configure(Role.PROXY)
    assert line == "/etc/tunneler/proxy.yaml: cannot be read: No such file or directory"


def test_a_socket_of_an_unknown_name(resting: Site) -> None:
    resting.server_socket.drop_in("[Socket]\nFileDescriptorName=grpc\n")
    try:
        line = refusal(resting.unit(Role.SERVER), ExitStatus.USAGE)
    finally:
        resting.run("server", "rm -r /etc/systemd/system/tunneler-server.socket.d; systemctl daemon-reload")
    assert line == (
        "LISTEN_FDS: descriptor 3 (grpc): no name that a server knows; "
        "set FileDescriptorName= to tunneler-link or tunneler-admin"
    )


def test_a_port_in_use(resting: Site) -> None:
    """By somebody who may be gone a moment later: the one failure here that is worth another try."""
    taken = Unit(resting.bed, "server", "taken.service")
    listen = "import socket, time; held = socket.create_server(('', 8181)); time.sleep(3600)"
    resting.run("server", f'systemd-run --quiet --unit={taken.name} python3 -c "{listen}"')
    taken.wait_for(
        lambda: "8181" in resting.run("server", "ss --listening --tcp --numeric"), "somebody listens"
    )
    probe = Unit(resting.bed, "server", "probe.service")
    options = f"--quiet --unit={probe.name} --uid=tunneler-server --property=Type=notify"
    server = "/usr/bin/tunneler-server --config /etc/tunneler/server.yaml --listen 0.0.0.0:8181"
    journal = resting.journal("server")
    assert resting.bed.host("server").run(f"systemd-run {options} {server}").rc != 0
    line = journal.wait_for("program_failed")["MESSAGE"]
    shown = probe.show("ExecMainStatus", "StatusText")
    resting.run("server", f"systemctl stop {taken.name}; systemctl reset-failed {probe.name}")
    assert line == "cannot listen on 0.0.0.0:8181: Address already in use; is another program using it?"
    assert shown == {"ExecMainStatus": "1", "StatusText": line}


def test_a_kernel_without_packet_filters(resting: Site) -> None:
    directory = "/usr/local/lib/without-filter"
    module = (ROOT / "tests/namespaces/without_filter.py").read_bytes()
    resting.bed.put("client", f"{directory}/without_filter.py", module)
    # Imported by Python as it starts (see its module site).
    resting.bed.put(
        "client", f"{directory}/sitecustomize.py", "import without_filter as w; w.take_packet_filters_away()"
    )
    resting.capture.drop_in(f"[Service]\nEnvironment=PYTHONPATH={directory}\n")
    try:
        line = refusal(resting.capture, ExitStatus.UNSUPPORTED)
    finally:
        resting.run("client", "rm -r /etc/systemd/system/tunneler-capture.service.d; systemctl daemon-reload")
    assert "no packet filter can be used" in line
    assert "nftables: " in line
    assert "iptables: " in line


def test_a_wrong_configuration_of_the_rules(resting: Site) -> None:
    resting.configure(Role.CLIENT, {"target_cidr": ["100.64.0.0/99"]})
    try:
        line = refusal(resting.capture, ExitStatus.USAGE)
    finally:
        resting.rollout.configure(Role.CLIENT)
    assert line.startswith("/etc/tunneler/client.yaml: target_cidr")
