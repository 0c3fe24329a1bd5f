"""What systemd thinks of the units as they are on the hosts, and what they cost."""

from __future__ import annotations

import re

import pytest

from tests.systemd.services import ROLES, Site, Unit
from tunneler.addresses import Role

pytestmark = pytest.mark.timeout(120)

IDLE_MEMORY = 75_000_000
"""Bytes of an idle service, resident."""
COLD_START = 1.5
"""Seconds from ``systemctl start`` to READY=1."""
NET_ADMIN, NET_RAW = 1 << 12, 1 << 13
"""capabilities(7), as bits (linux/capability.h)."""


@pytest.mark.parametrize("role", ROLES)
def test_systemd_finds_no_fault(site: Site, role: Role) -> None:
    files = site.run(role, "ls /usr/lib/systemd/system | grep ^tunneler").split()
    units = " ".join(name.replace("@.", "@8082.") for name in files)
    assert "tunneler-server@8082.socket" in units
    done = site.bed.host(role).run(f"systemd-analyze verify --man=no {units}")
    assert (done.rc, done.stdout, done.stderr) == (0, "", "")


def test_no_unit_of_the_boot_has_failed(site: Site) -> None:
    for role in ROLES:
        assert site.run(role, "systemctl list-units --failed --no-legend --plain") == ""


def test_who_handles_traffic_has_no_privilege(site: Site) -> None:
    site.fetch()
    users = {}
    for role in ROLES:
        status = _status(site.unit(role))
        for kind in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
            assert int(status[kind], 16) == 0, (role, kind)
        assert status["NoNewPrivs"] == "1"
        assert status["Seccomp"] == "2"
        users[role] = site.run(role, f"ps -o user:32= -p {site.unit(role).pid}").strip()
    assert users == {role: f"tunneler-{role}" for role in ROLES}


def test_who_changes_rules_may_do_that_alone(site: Site) -> None:
    status = _status(site.capture)
    assert int(status["CapBnd"], 16) == int(status["CapEff"], 16) == NET_ADMIN | NET_RAW
    sockets = site.run("client", f"ss -Htnlup | grep pid={site.capture.pid}, || true")
    assert sockets == ""


def test_no_role_can_read_the_key_of_another(changed: Site) -> None:
    changed.run("server", "install -d -m 0750 -g tunneler-client /etc/tunneler/tls/client")
    changed.run("server", "install -m 0640 -g tunneler-client /dev/null /etc/tunneler/tls/client/key.pem")
    read = "cat /etc/tunneler/tls/client/key.pem"
    assert changed.bed.host("server").run(f"runuser -u tunneler-client -- {read}").rc == 0
    assert changed.bed.host("server").run(f"runuser -u tunneler-server -- {read}").rc != 0


@pytest.mark.parametrize("name", ["server", "proxy", "client", "capture"])
def test_idle_memory(site: Site, name: str) -> None:
    site.fetch()
    unit: Unit = getattr(site, name)
    resident = int(_status(unit)["VmRSS"].split()[0]) * 1024
    assert resident <= IDLE_MEMORY, f"{resident / 1e6:.0f} MB"


@pytest.mark.parametrize("name", ["server", "proxy", "client", "capture"])
def test_a_cold_start(changed: Site, name: str) -> None:
    """The quickest of five: whatever else this machine does can only make one longer."""
    unit: Unit = getattr(changed, name)
    seconds = [_start(unit) for _ in range(5)]
    assert min(seconds) <= COLD_START * changed.bed.time_scale, seconds


def _start(unit: Unit) -> float:
    unit.systemctl("stop")
    unit.systemctl("start")
    times = unit.show("InactiveExitTimestampMonotonic", "ActiveEnterTimestampMonotonic")
    began, ready = (int(value) for value in times.values())
    assert ready > began
    return (ready - began) / 1e6


def _status(unit: Unit) -> dict[str, str]:
    text = unit.run(f"cat /proc/{unit.pid}/status")
    return dict(re.findall(r"^(\w+):\s+(.*)$", text, re.MULTILINE))
