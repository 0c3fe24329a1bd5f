"""The packet filter on the client: there while it should be, gone when it should be, whoever dies."""

from __future__ import annotations

from functools import partial

import pytest

from testbed.suite import TARGET
from tests.systemd.services import Site, rules
from tunneler.addresses import Role

pytestmark = pytest.mark.timeout(120)

REFUSED = 7
"""Exit status of curl(1): nobody accepted the connection."""
BACKENDS = ("nftables", "iptables")
RULES = "nft --stateless list ruleset; for t in iptables-legacy ip6tables-legacy; do $t -w -t nat -S; done"


@pytest.fixture(params=BACKENDS)
def filtered(request: pytest.FixtureRequest, changed: Site) -> Site:
    """With each kind of packet filter."""
    changed.configure(Role.CLIENT, {"capture": {"backend": request.param}})
    if request.param == "iptables":
        changed.run("client", "tunneler capture remove")
    changed.capture.systemctl("restart")
    changed.rollout.wait_for_path()
    where = rules(changed)
    assert ("TUNNELER" in where) == (request.param == "iptables"), where
    return changed


def test_they_go_when_the_socket_stops(filtered: Site) -> None:
    filtered.run("client", "systemctl stop tunneler-client.socket")
    filtered.capture.wait("inactive")
    assert rules(filtered) == ""


def test_they_go_with_a_killed_keeper_and_come_back_with_the_next(filtered: Site) -> None:
    filtered.capture.drop_in("[Service]\nRestart=no\n")
    filtered.capture.kill("KILL")
    filtered.capture.wait("failed")
    assert rules(filtered) == ""
    filtered.capture.systemctl("start")
    assert rules(filtered) != ""
    filtered.rollout.wait_for_path()


def test_they_go_after_a_crash_loop(filtered: Site) -> None:
    filtered.capture.drop_in("[Unit]\nStartLimitIntervalSec=60\nStartLimitBurst=3\n")
    filtered.capture.systemctl("restart")
    for _ in range(3):
        if filtered.capture.state == "failed":
            break
        pid = filtered.capture.kill("KILL")
        filtered.capture.wait_for(partial(_followed, filtered, pid), "it was started again, or given up")
    filtered.capture.wait("failed")
    assert rules(filtered) == ""


def test_a_download_outlives_a_killed_keeper(filtered: Site) -> None:
    """Between its end and its next start the kernel goes on translating."""
    transfer = filtered.download(rate="1m")
    pid = filtered.capture.kill("KILL")
    filtered.capture.wait_restarted(pid)
    assert not transfer.ended
    assert transfer.digest() == filtered.digest()


def test_they_are_never_doubled(filtered: Site) -> None:
    before = filtered.run("client", RULES)
    for _ in range(3):
        pid = filtered.capture.kill("KILL")
        filtered.capture.wait_restarted(pid)
    assert filtered.run("client", RULES) == before


def _followed(site: Site, pid: int) -> bool:
    return site.capture.state == "failed" or site.capture.pid not in (0, pid)


def test_what_somebody_flushed_is_mended(filtered: Site) -> None:
    journal = filtered.journal("client")
    flush = {
        "nftables": "nft flush ruleset",
        "iptables": "iptables-legacy -w -t nat -F",
    }
    for command in flush.values():
        filtered.run("client", command)
    entry = journal.wait_for("capture_mended")
    assert entry["PRIORITY"] == "4"
    filtered.rollout.wait_for_path()
    filtered.capture.wait_status("mended")


def test_a_dead_client_means_refused_connections(changed: Site) -> None:
    """capture.when_down: closed, the default. Nothing goes where it would without tunneler."""
    _kill_for_good(changed)
    changed.journal("client")
    changed.wait(lambda: changed.connect(timeout=2)[0] != 0, "connections fail")
    assert rules(changed) != ""
    assert _passes(changed) is False


def test_a_dead_client_means_open_ways_if_so_configured(changed: Site) -> None:
    changed.configure(Role.CLIENT, {"capture": {"when_down": "open"}})
    changed.capture.systemctl("restart")
    changed.rollout.wait_for_path()
    assert _passes(changed) is False
    journal = changed.journal("client")
    _kill_for_good(changed)
    journal.wait_for("client_down")
    changed.wait(lambda: _passes(changed), "connections go where they would without tunneler")
    changed.run("client", "rm -r /etc/systemd/system/tunneler-client.service.d; systemctl daemon-reload")
    changed.run("client", "systemctl --no-block start tunneler-client.service")
    journal.wait_for("client_back")
    changed.wait(lambda: _passes(changed) is False, "connections are captured again")
    changed.rollout.wait_for_path()


def test_a_client_without_a_link_is_down_too(changed: Site) -> None:
    changed.configure(Role.CLIENT, {"capture": {"when_down": "open"}})
    changed.capture.systemctl("restart")
    changed.rollout.wait_for_path()
    changed.run("server", "systemctl stop tunneler-server.socket tunneler-server.service")
    changed.wait(lambda: _passes(changed), "connections go where they would without tunneler")
    changed.run("server", "systemctl start tunneler-server.socket")
    changed.wait(lambda: _passes(changed) is False, "connections are captured again", 40)
    changed.rollout.wait_for_path()


def test_a_reload_follows_the_configuration(changed: Site) -> None:
    pid = changed.capture.pid
    changed.configure(Role.CLIENT, {"exclude": [f"{TARGET}/32"]})
    changed.capture.systemctl("reload")
    assert changed.capture.state == "active"
    assert changed.capture.pid == pid
    assert TARGET in changed.run("client", "nft list ruleset; iptables-legacy-save -t nat")
    changed.wait_uncaptured()


def _kill_for_good(site: Site) -> None:
    site.client.drop_in("[Service]\nExecStart=\nExecStart=/bin/false\n")
    site.client.kill("KILL")
    site.client.wait_for(lambda: site.client.pid == 0, "the client is gone")


def _passes(site: Site) -> bool:
    """Whether a connection to a virtual address leaves the client uncaptured: the server sees its packet."""
    probe = "iptables-legacy -w -t raw"
    rule = f"PREROUTING -i access -d {TARGET} -p tcp --dport 80"
    site.run("server", f"{probe} -C {rule} 2>/dev/null || {probe} -A {rule}; {probe} -Z")
    site.connect(timeout=1)
    counted = site.run("server", f"{probe} -nvxL PREROUTING")
    return any(line.split()[0] != "0" for line in counted.splitlines() if TARGET in line)
