"""The playbooks on booted hosts, from bare ones to bare ones.

One story, in the order of the file: chapters start from a working path and leave one, the last excepted.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.ansible.control import BROKEN, HOSTS, NEW, OLD, Control
from tests.lab.rollout import PAGE, Rollout, fetch
from tests.systemd.services import Site, Transfer

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

LEVEL = '{"proxy_log": {"level": "debug"}}'
SHORT_DOWNLOAD = 32 * 1024 * 1024
LONG_DOWNLOAD = 256 * 1024 * 1024
"""Bytes."""
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


@pytest.fixture(scope="module")
def services(site: Control) -> Site:
    """The services, and two files to download: of 16 seconds and, at 500 kB/s, of eight minutes."""
    site.run("target", f"cd /var/www/html && head -c {SHORT_DOWNLOAD} /dev/urandom >short")
    site.run("target", f"cd /var/www/html && head -c {LONG_DOWNLOAD} /dev/urandom >big")
    return Site(site.bed, Rollout(site.bed, site.inventory.parent))


def assert_same_beginning(site: Control, download: Transfer) -> None:
    """What has arrived of ``big`` is how it begins."""
    same = f"head -c {download.arrived} {{}} | sha256sum"
    assert site.run("client", same.format(download.file)) == site.run(
        "target", same.format("/var/www/html/big")
    )


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
    site.wait_for_path()


@pytest.fixture
def broken(site: Control) -> str:
    """A version, of which no role starts, where it is not installed any more."""
    home = "/opt/tunneler"
    for host in HOSTS:
        current = site.run(host, f"readlink -f {home}/current").strip()
        program = f"{home}/{BROKEN}/bin/tunneler-{host}"
        site.run(
            host, f"[ -e {home}/{BROKEN} ] || cp -a {current} {home}/{BROKEN}; ln -sf /bin/false {program}"
        )
    return BROKEN


def test_a_version_that_does_not_come_up_is_rolled_back(site: Control, broken: str) -> None:
    outcome = site.play("upgrade", "--limit", "proxy", "-e", "tunneler_start_timeout=5", version=broken)
    assert outcome.status != 0
    assert f"the version in use is {NEW}" in " ".join(outcome.output.split())
    assert site.run("proxy", "tunneler --version") == f"tunneler {NEW}\n"
    site.wait_for_path()


def test_the_version_before_comes_back_by_hand(site: Control) -> None:
    outcome = site.play("upgrade", "--limit", "proxy", version=OLD)
    assert outcome.status == 0, outcome.output
    assert site.run("proxy", "tunneler --version") == f"tunneler {OLD}\n"
    site.wait_for_path()


def test_a_version_that_does_not_come_up_stops_at_the_first_host(site: Control, broken: str) -> None:
    before = {host: site.state(host) for host in HOSTS}
    outcome = site.play("upgrade", "-e", "tunneler_start_timeout=5", version=broken)
    assert outcome.status != 0
    assert f"the version in use is {OLD}" in " ".join(outcome.output.split())
    assert site.run("server", "tunneler --version") == f"tunneler {OLD}\n"
    assert {host: site.state(host) for host in ("proxy", "client")} == {
        host: before[host] for host in ("proxy", "client")
    }
    site.wait_for_path()


def test_an_upgrade_of_all_hosts_drains_one_after_the_other(site: Control, services: Site) -> None:
    """What ends while the server drains has its end; what does not is cut when the time is up."""
    short, long = services.download("short"), services.download(rate="500k")
    short.unit.kill("STOP")
    journal = services.journal("server")
    with ThreadPoolExecutor(1) as pool:
        upgrade = pool.submit(site.play, "upgrade", version=NEW)
        try:
            assert journal.wait_for("draining", 240)["TUNNELER_CONNECTIONS"] == "2"
        finally:
            short.unit.kill("CONT")
        assert short.digest() == services.digest("short")
        outcome = upgrade.result()
    assert outcome.status == 0, outcome.output
    assert journal.wait_for("drain_deadline")["TUNNELER_CONNECTIONS"] == "1"
    assert long.ended
    assert long.unit.get("Result") == "exit-code"
    assert_same_beginning(site, long)
    assert [site.run(host, "tunneler --version") for host in HOSTS] == [f"tunneler {NEW}\n"] * len(HOSTS)
    site.wait_for_path()


def test_keys_are_rotated_under_an_open_connection(site: Control, services: Site) -> None:
    download = services.download(rate="500k")
    pids = {host: site.pid(host) for host in HOSTS}
    digest = "cd /etc/tunneler/tls/{host} && sha256sum key.pem cert.pem"
    before = {host: site.run(host, digest.format(host=host)).splitlines() for host in HOSTS}
    outcome = site.play("rotate", "--diff", version=NEW)
    assert outcome.status == 0, outcome.output
    assert "PRIVATE KEY" not in outcome.output
    assert {host: site.pid(host) for host in HOSTS} == pids
    for host in HOSTS:
        assert not set(before[host]) & set(site.run(host, digest.format(host=host)).splitlines())
    arrived = download.arrived
    download.unit.wait_for(lambda: download.arrived > arrived or download.ended, "the download goes on")
    assert download.unit.get("Result") == "success"
    assert_same_beginning(site, download)
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
