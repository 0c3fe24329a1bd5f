"""The playbooks on booted hosts, from bare ones to bare ones.

One story, in the order of the file: chapters start from a working path and leave one, the last excepted.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.ansible.control import BROKEN, HOSTS, NEW, OLD, Control
from tests.lab.rollout import PAGE, Rollout, fetch
from tests.systemd.services import Site

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

LEVEL = '{"proxy_log": {"level": "debug"}}'
LONG_DOWNLOAD = 256 * 1024 * 1024
"""Bytes: at 500 kB/s for eight minutes."""
ADMIN = '{"proxy_log": {"level": "debug"}, "proxy_admin": {"listen": "127.0.0.1:9100"}}'


@pytest.fixture(scope="module")
def bare(control: Control) -> dict[str, set[str]]:
    """The files of the hosts before anything was installed."""
    return {host: control.files(host) for host in HOSTS}


@pytest.fixture(scope="module")
def site(control: Control, bare: dict[str, set[str]]) -> Control:
    """The path, rolled out on bare hosts."""
    outcome = control.play("site", "--diff")
    assert outcome.status == 0, outcome.output
    assert "PRIVATE KEY" not in outcome.output
    return control


def test_wrong_variables_are_named_before_anything_is_touched(
    control: Control, bare: dict[str, set[str]]
) -> None:
    outcome = control.play("site", "--limit", "proxy", "-e", '{"proxy_managed_cidr": "192.168.1.0/33"}')
    assert outcome.status != 0
    assert "192.168.1.0/33" in outcome.output
    assert outcome.changes == {"proxy": 0}
    assert control.files("proxy") == bare["proxy"]


def test_check_mode_works_on_a_bare_host_and_changes_nothing(
    control: Control, bare: dict[str, set[str]]
) -> None:
    outcome = control.play("site", "--check", "--diff", "--limit", "proxy")
    assert outcome.status == 0, outcome.output
    assert outcome.changes["proxy"] > 0
    assert control.files("proxy") == bare["proxy"]


def test_bare_hosts_become_a_working_path(site: Control) -> None:
    assert fetch(site.bed) == PAGE
    for host in HOSTS:
        assert site.run(host, "systemctl list-units --failed --no-legend 'tunneler*'") == ""
        mode = site.run(host, f"stat -c '%a %U:%G' /etc/tunneler/tls/{host}/key.pem")
        assert mode == f"640 root:tunneler-{host}\n"


def test_keys_stay_on_their_hosts(site: Control) -> None:
    secrets = [
        path.relative_to(site.inventory.parent)
        for path in site.inventory.parent.rglob("*")
        if path.is_file() and b"PRIVATE KEY" in path.read_bytes() and path.name != "id_ed25519"
    ]
    assert secrets == [Path("pki/ca/key.pem")]


def test_a_second_run_changes_nothing(site: Control) -> None:
    before = {host: site.state(host) for host in HOSTS}
    outcome = site.play("site")
    assert outcome.status == 0, outcome.output
    assert outcome.changes == dict.fromkeys(HOSTS, 0), outcome.changed
    assert {host: site.state(host) for host in HOSTS} == before


def test_check_mode_says_what_a_change_would_do(site: Control) -> None:
    before = site.state("proxy")
    outcome = site.play("site", "--limit", "proxy", "--check", "--diff", "-e", LEVEL)
    assert outcome.status == 0, outcome.output
    assert "+  level: debug" in outcome.output
    assert "tunneler : Configuration" in outcome.changed
    assert site.state("proxy") == before


def test_a_change_that_a_reload_puts_in_force_restarts_nothing(site: Control) -> None:
    pid = site.pid("proxy")
    outcome = site.play("site", "--limit", "proxy", "-e", LEVEL)
    assert outcome.status == 0, outcome.output
    assert outcome.changed == ["tunneler : Configuration", "proxy : Reload proxy"]
    assert site.pid("proxy") == pid
    assert fetch(site.bed) == PAGE


def test_any_other_change_restarts_that_role_alone(site: Control) -> None:
    pids = {host: site.pid(host) for host in HOSTS}
    outcome = site.play("site", "--limit", "proxy", "-e", ADMIN)
    assert outcome.status == 0, outcome.output
    assert outcome.changed == [
        "tunneler : Configuration",
        "tunneler : Drop-ins",
        "proxy : Restart sockets of proxy",
        "proxy : Restart proxy",
    ]
    assert {host for host in HOSTS if site.pid(host) != pids[host]} == {"proxy"}
    site.run("proxy", "curl --silent --fail --max-time 5 http://127.0.0.1:9100/healthz")


def test_an_upgrade_goes_to_the_new_version(site: Control) -> None:
    outcome = site.play("upgrade", "--limit", "proxy", version=NEW)
    assert outcome.status == 0, outcome.output
    assert site.run("proxy", "tunneler --version") == f"tunneler {NEW}\n"
    assert f"/{NEW}/" in site.run("proxy", f"tr '\\0' ' ' </proc/{site.pid('proxy')}/cmdline")
    assert site.run("server", "tunneler --version") == f"tunneler {OLD}\n"
    Rollout(site.bed, site.inventory.parent).wait_for_path()


def test_a_version_that_does_not_come_up_is_rolled_back(site: Control) -> None:
    home = "/opt/tunneler"
    site.run(
        "proxy",
        f"cp -a {home}/{NEW} {home}/{BROKEN} && rm {home}/{BROKEN}/bin/tunneler-proxy"
        f" && ln -s /bin/false {home}/{BROKEN}/bin/tunneler-proxy",
    )
    outcome = site.play("upgrade", "--limit", "proxy", "-e", "tunneler_start_timeout=5", version=BROKEN)
    assert outcome.status != 0
    assert f"the version in use is {NEW}" in " ".join(outcome.output.split())
    assert site.run("proxy", "tunneler --version") == f"tunneler {NEW}\n"
    Rollout(site.bed, site.inventory.parent).wait_for_path()


def test_the_version_before_comes_back_by_hand(site: Control) -> None:
    outcome = site.play("upgrade", "--limit", "proxy", version=OLD)
    assert outcome.status == 0, outcome.output
    assert site.run("proxy", "tunneler --version") == f"tunneler {OLD}\n"
    Rollout(site.bed, site.inventory.parent).wait_for_path()


def test_keys_are_rotated_under_an_open_connection(site: Control) -> None:
    site.run("target", f"head -c {LONG_DOWNLOAD} /dev/urandom >/var/www/html/big")
    download = Site(site.bed, Rollout(site.bed, site.inventory.parent)).download(rate="500k")
    pids = {host: site.pid(host) for host in HOSTS}
    digest = "cd /etc/tunneler/tls/{host} && sha256sum key.pem cert.pem"
    before = {host: site.run(host, digest.format(host=host)).splitlines() for host in HOSTS}
    outcome = site.play("rotate", "--diff")
    assert outcome.status == 0, outcome.output
    assert "PRIVATE KEY" not in outcome.output
    assert {host: site.pid(host) for host in HOSTS} == pids
    for host in HOSTS:
        assert not set(before[host]) & set(site.run(host, digest.format(host=host)).splitlines())
    arrived = download.arrived
    download.unit.wait_for(lambda: download.arrived > arrived or download.ended, "the download goes on")
    assert download.unit.get("Result") == "success"
    arrived = download.arrived
    same = f"head -c {arrived} {{}} | sha256sum"
    assert site.run("client", same.format(download.file)) == site.run(
        "target", same.format("/var/www/html/big")
    )
    download.unit.systemctl("stop")
    assert fetch(site.bed) == PAGE


def test_nothing_is_left_after_an_uninstall(site: Control, bare: dict[str, set[str]]) -> None:
    outcome = site.play("uninstall")
    assert outcome.status == 0, outcome.output
    backups = {"/etc/.pwd.lock", *(f"/etc/{name}-" for name in ("passwd", "group", "shadow", "gshadow"))}
    for host in HOSTS:
        assert site.files(host) - bare[host] <= backups
        left = site.run(
            host,
            "systemctl list-units --all --no-legend 'tunneler*'; getent passwd | grep tunneler"
            "; getent group | grep tunneler; nft list ruleset | grep -i tunneler"
            "; iptables-legacy-save | grep -i tunneler; pgrep -a tunneler; true",
        )
        assert left == ""
