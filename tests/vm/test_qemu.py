"""The second bed: hosts with kernels of their own; on them, from bare ones to a path that survives.

One story, in the order of the file.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.ansible.control import HOSTS, OLD, Control, bare_hosts, make_bundle
from tests.lab.bed import How
from tests.lab.qemu import QemuBed
from tests.lab.rollout import PAGE, fetch

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]


@pytest.fixture(scope="module")
def control(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Control]:
    """Bare virtual machines, and one bundle."""
    bundles = tmp_path_factory.mktemp("bundles")
    make_bundle(bundles, OLD)
    with bare_hosts(QemuBed(bare=True), tmp_path_factory.mktemp("access"), bundles) as control:
        yield control


def pings(control: Control, source: str, address: str) -> bool:
    return bool(control.bed.host(source).run(f"ping -c 1 -W 5 {address}").rc == 0)


def test_each_host_has_a_kernel_of_its_own(control: Control) -> None:
    names = [host.name for host in control.bed.topology.hosts]
    boots = {control.run(name, "cat /proc/sys/kernel/random/boot_id") for name in names}
    assert len(boots) == len(names)
    for name in names:
        assert "-cloud-" in control.run(name, "uname -r")
        assert control.run(name, "systemctl is-system-running") == "running\n"


def test_only_neighbours_reach_each_other(control: Control) -> None:
    assert pings(control, "client", "10.77.1.1")
    assert pings(control, "client", "fd77:1::1")
    assert pings(control, "proxy", "192.168.1.5")
    assert not pings(control, "client", "192.168.1.5")
    _, address = control.run("server", "ip -br -4 address show management").split()[1:]
    assert not pings(control, "client", address.partition("/")[0])


def test_bare_hosts_become_a_working_path(control: Control) -> None:
    patience = 60 * control.bed.time_scale
    outcome = control.play("site", "-e", f"tunneler_start_timeout={patience:g}")
    assert outcome.status == 0, outcome.output
    assert fetch(control.bed) == PAGE
    for host in HOSTS:
        assert control.run(host, "systemctl list-units --failed --no-legend 'tunneler*'") == ""


def test_the_path_is_back_after_a_power_cut(control: Control) -> None:
    control.run("client", "sync")
    control.bed.reboot("client", How.POWER_CUT)
    control.wait_for_path()


def test_the_path_is_back_when_a_cable_is(control: Control) -> None:
    control.bed.link("proxy", "uplink", up=False)
    assert fetch(control.bed, timeout=1) == ""
    control.bed.link("proxy", "uplink", up=True)
    control.wait_for_path()


def test_a_host_gets_the_disk_that_it_had_first(control: Control) -> None:
    control.run("target", "touch /root/old")
    control.bed.reset(["target"])
    assert not control.bed.host("target").file("/root/old").exists
