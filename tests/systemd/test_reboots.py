"""Hosts that reboot or lose power, and cables that are pulled: the path comes back by itself."""

from __future__ import annotations

import time

import pytest

from tests.lab.bed import How
from tests.lab.rollout import PAGE
from tests.systemd.services import Site, rules

pytestmark = pytest.mark.timeout(120)

BACK = 15.0
"""Seconds from the moment at which a host goes down until the path works again."""
CUT = 5.0

HOSTS = ("client", "server", "proxy", "target")


@pytest.mark.parametrize("how", How, ids=lambda how: how.name.lower())
@pytest.mark.parametrize("host", HOSTS)
def test_the_path_comes_back_after_a_reboot(changed: Site, host: str, how: How) -> None:
    began = time.monotonic()
    changed.bed.reboot(host, how)
    changed.rollout.wait_for_path(BACK - (time.monotonic() - began))
    assert rules(changed) != ""


def test_a_host_boots_although_no_server_answers(changed: Site) -> None:
    """Its services wait, and nothing waits for them."""
    changed.run("server", "systemctl stop tunneler-server.socket tunneler-server.service")
    changed.bed.reboot("proxy", How.ORDERLY)  # until multi-user.target
    assert changed.proxy.state == "activating"
    changed.proxy.wait_for(lambda: changed.proxy.status, "it says what it waits for")
    changed.run("server", "systemctl start tunneler-server.socket")
    changed.proxy.wait("active", 40)


def test_a_host_that_is_to_have_no_client_has_no_rules_after_a_reboot(changed: Site) -> None:
    changed.run("client", "systemctl --quiet disable tunneler-client.socket")
    changed.bed.reboot("client", How.POWER_CUT)
    assert rules(changed) == ""
    assert changed.capture.state == "inactive"
    changed.run("client", "systemctl --quiet enable tunneler-client.socket")


@pytest.mark.parametrize(("host", "net"), [("client", "access"), ("proxy", "uplink"), ("target", "site")])
def test_a_download_survives_a_cut_of_five_seconds(site: Site, host: str, net: str) -> None:
    transfer = site.download()
    site.bed.link(host, net, up=False)
    before = transfer.arrived
    time.sleep(CUT)  # the length of the cut is what is tested
    assert not transfer.ended
    site.bed.link(host, net, up=True)
    assert transfer.digest() == site.digest()
    assert before < 16 * 1024 * 1024
    assert site.fetch() == PAGE
