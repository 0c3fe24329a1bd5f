"""The path through the units: what a user sees of it, and what starts what."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest

from tests.lab.rollout import PAGE
from tests.systemd.services import ROLES, Site, rules
from tunneler.addresses import Role

pytestmark = pytest.mark.timeout(120)


def test_curl_reaches_the_target(site: Site) -> None:
    site.run("target", "truncate -s 0 /var/log/nginx/access.log")
    assert site.fetch() == PAGE
    log = site.run("target", "cat /var/log/nginx/access.log")
    assert log.startswith("192.168.1.1 ")  # the proxy dialled


def test_a_download_arrives_whole(site: Site) -> None:
    assert site.download(rate="100m").digest() == site.digest()


def test_a_refusal_is_told_at_once(site: Site) -> None:
    status, seconds = site.connect(port=81)
    assert (status, seconds < 1) == (7, True) or (status, seconds < 1) == (56, True)


def test_every_unit_is_active_and_says_what_it_does(site: Site) -> None:
    assert site.fetch() == PAGE
    for unit in (site.server, site.proxy, site.client, site.capture):
        assert unit.state == "active", unit.name
        assert unit.status, unit.name
    assert "link" in site.client.status
    site.client.wait_status("0 connections")
    transfer = site.download()
    for role in ROLES:
        site.unit(role).wait_status("1 connection")
    assert transfer.digest() == site.digest()


def test_the_first_connection_starts_the_client(changed: Site) -> None:
    """Its socket alone is started; the rules come with it."""
    changed.run("client", "systemctl stop tunneler.target tunneler-client.socket tunneler-client.service")
    assert rules(changed) == ""
    changed.run("client", "systemctl start tunneler-client.socket")
    changed.capture.wait("active")
    assert rules(changed) != ""
    assert changed.client.state == "inactive"
    assert changed.fetch() == PAGE
    assert changed.client.state == "active"


def test_a_connection_to_the_servers_port_starts_the_server(changed: Site) -> None:
    changed.run("server", "systemctl stop tunneler-server.service")
    # The proxy and the client come back by themselves, which is what starts it.
    changed.server.wait("active")
    changed.rollout.wait_for_path()


def _silent(listing: Callable[[], str]) -> bool:
    return listing() == ""


def test_one_target_stops_and_starts_everything(changed: Site) -> None:
    for role in ROLES:
        changed.run(role, "systemctl stop tunneler.target")
    for role in ROLES:
        active = partial(changed.run, role, "systemctl list-units --no-legend --plain 'tunneler*'")
        changed.wait(partial(_silent, active), f"nothing of tunneler is active on the {role}")
    assert rules(changed) == ""
    for role in ROLES:
        changed.run(role, "systemctl --no-block start tunneler.target")
    changed.rollout.wait_for_path()


def test_a_privileged_port_needs_no_privilege(changed: Site) -> None:
    changed.server_socket.drop_in("[Socket]\nListenStream=\nListenStream=443\n")
    changed.run("server", "systemctl stop tunneler-server.service tunneler-server.socket")
    changed.run("server", "systemctl start tunneler-server.socket")
    for role, address in ((Role.PROXY, "10.77.2.1:443"), (Role.CLIENT, "10.77.1.1:443")):
        changed.configure(role, {"server_addr": address})
        changed.run(role, f"systemctl restart tunneler-{role}.service")
    changed.rollout.wait_for_path()
    status = changed.run("server", f"cat /proc/{changed.server.pid}/status")
    assert "CapEff:\t0000000000000000" in status
    assert "Uid:\t0" not in status
    assert "443" in changed.run("server", "ss -Htnl")


def test_a_second_server_on_the_same_host(changed: Site) -> None:
    """The instance is its port. Proxies link to both servers, and a client can do with either."""
    changed.run("server", "systemctl start tunneler-server@8082.socket")
    for role, address in ((Role.PROXY, "10.77.2.1"), (Role.CLIENT, "10.77.1.1")):
        changed.configure(role, {"server_addr": [f"{address}:8081", f"{address}:8082"]})
        changed.run(role, f"systemctl restart tunneler-{role}.service")
    changed.proxy.wait_status("2 of 2 links")
    changed.run("server", "systemctl stop tunneler-server.socket tunneler-server.service")
    changed.rollout.wait_for_path()
    assert changed.run("server", "systemctl is-active tunneler-server@8082.service") == "active\n"


def test_ipv6_is_captured_too(changed: Site) -> None:
    routes = [
        {"virtual": "100.64.1.0/24", "real": "192.168.1.0/24"},
        {"virtual": "fd64:1::/64", "real": "fd00:192:168:1::/64"},
    ]
    changed.configure(Role.PROXY, {"managed_cidr": [], "routes": routes})
    changed.configure(Role.CLIENT, {"target_cidr": ["100.64.0.0/10", "fd64:1::/64"]})
    changed.run("proxy", "systemctl restart tunneler-proxy.service")
    changed.run("client", "systemctl restart tunneler-capture.service tunneler-client.service")
    changed.rollout.wait_for_path()
    assert changed.fetch(address="[fd64:1::5]") == PAGE
