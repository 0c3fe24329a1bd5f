"""``systemctl reload``: what can change does, what is open does not notice, what is wrong changes nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from testbed.suite import TARGET
from tests.lab.rollout import PAGE
from tests.systemd.services import ROLES, Site
from tunneler.addresses import Role

pytestmark = pytest.mark.timeout(120)


@pytest.mark.parametrize("role", ROLES)
def test_a_download_does_not_notice(changed: Site, role: Role) -> None:
    unit = changed.unit(role)
    pid = unit.pid
    transfer = changed.download()
    journal = changed.journal(role)
    changed.configure(role, {"log": {"level": "debug"}, "limits": {"max_connections": 1234}})
    unit.systemctl("reload")
    entry = journal.wait_for("reloaded", role=role)
    assert "log.level" in entry["TUNNELER_CHANGED"]
    assert "limits.max_connections" in entry["TUNNELER_CHANGED"]
    assert not transfer.ended
    assert (unit.state, unit.pid) == ("active", pid)
    changed.fetch()
    changed.wait(lambda: journal.entries(PRIORITY=7, TUNNELER_ROLE=role), "details are logged")
    assert transfer.digest() == changed.digest()
    assert journal.events("link_down") == []


def test_it_is_in_force_when_systemctl_returns(changed: Site) -> None:
    """Twelve times, as the moment at which systemd looks is what matters (ExecReload= in the units)."""
    for number in range(12):
        journal = changed.journal("proxy")
        changed.configure(Role.PROXY, {"limits": {"max_connections": 1000 + number}})
        changed.proxy.systemctl("reload")
        assert len(journal.events("reloaded")) == 1, number


@pytest.mark.parametrize("role", ROLES)
def test_what_needs_a_restart_is_named(changed: Site, role: Role) -> None:
    key = {Role.SERVER: "listen_addr", Role.PROXY: "proxy_id", Role.CLIENT: "client_id"}[role]
    value = {Role.SERVER: ":9091", Role.PROXY: "proxy-2", Role.CLIENT: "client-2"}[role]
    journal = changed.journal(role)
    changed.configure(role, {key: value})
    changed.unit(role).systemctl("reload")
    assert key in journal.wait_for("restart_needed")["TUNNELER_CHANGED"]
    assert changed.fetch() == PAGE


@pytest.mark.parametrize("role", ROLES)
def test_a_broken_configuration_changes_nothing(changed: Site, role: Role) -> None:
    journal = changed.journal(role)
    unit = changed.unit(role)
    changed.configure(role, {"limits": {"max_connections": "many"}})
    unit.systemctl("reload")
    entry = journal.wait_for("reload_refused")
    assert "limits.max_connections" in entry["TUNNELER_ERROR"]
    assert entry["PRIORITY"] == "3"
    unit.wait_status("reload refused")
    assert changed.fetch() == PAGE
    changed.rollout.configure(role)
    unit.systemctl("reload")
    unit.wait_for(lambda: "refused" not in unit.status, "its status is as before")


def test_new_links_use_new_certificates(changed: Site, tmp_path: Path) -> None:
    """Of another authority: what is open goes on, and a link of before would not be let in again."""
    changed.rollout.make_certificates(tmp_path / "other")
    transfer = changed.download()
    for role in ROLES:
        changed.rollout.install_keys(role, tmp_path / "other")
        changed.unit(role).systemctl("reload")
    assert transfer.digest() == changed.digest()
    journals = {role: changed.journal(role) for role in ROLES}
    changed.server.systemctl("restart")
    for role in (Role.PROXY, Role.CLIENT):
        journals[role].wait_for("link_up")
    changed.rollout.wait_for_path()


def test_a_proxy_announces_other_routes(changed: Site) -> None:
    journal = changed.journal("server")
    transfer = changed.download()
    routes = [{"virtual": "100.64.9.0/24", "real": "192.168.1.0/24"}]
    changed.configure(Role.PROXY, {"managed_cidr": [], "routes": routes})
    changed.proxy.systemctl("reload")
    journal.wait_for("routes_announced")
    assert changed.fetch(address="100.64.9.5") == PAGE
    assert changed.fetch(address=TARGET) == ""
    assert transfer.digest() == changed.digest()


def test_the_rules_follow_a_reload_of_the_client(changed: Site) -> None:
    journal = changed.journal("client")
    changed.configure(Role.CLIENT, {"target_cidr": ["100.64.0.0/16"], "exclude": [f"{TARGET}/32"]})
    changed.client.systemctl("reload")
    for role in ("client", "capture"):
        journal.wait_for("reloaded", role=role)
    changed.capture.wait_status("100.64.0.0/16")
    changed.wait_uncaptured()
