"""The bed does what tests rely on, and leaves nothing, however it ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from testbed import standard_topology, wait_until
from testbed.processes import Process
from tests.lab import cgroups, program
from tests.lab.bed import BedError, How
from tests.lab.nspawn import NspawnBed

pytestmark = pytest.mark.timeout(300)  # the trees may have to be made first

OWNER = """
import sys, time
from testbed import standard_topology
from tests.lab.nspawn import NspawnBed

with NspawnBed() as bed:
    if {early}:
        print("begun", flush=True)
    bed.up(standard_topology())
    print("up", flush=True)
    time.sleep(60)
"""


@pytest.fixture(scope="module")
def bed() -> Iterator[NspawnBed]:
    with NspawnBed() as bed:
        bed.up(standard_topology())
        yield bed


@pytest.fixture
def owner(tmp_path: Path) -> Iterator[Callable[[bool], Process]]:
    """A lab in another process, which says "begun" or "up"."""
    started: list[Process] = []

    def start(early: bool) -> Process:
        argv = (sys.executable, "-c", OWNER.format(early=early))
        process = Process(argv, tmp_path / "owner.log", {"PYTHONPATH": str(program.ROOT)})
        started.append(process)
        process.wait_for_line(lambda line: line == ("begun" if early else "up"), 60)
        return process

    yield start
    for process in started:
        process.stop()


def ping(bed: NspawnBed, source: str, address: str) -> bool:
    return bool(bed.host(source).run(f"ping -c 1 -W 1 {address}").rc == 0)


def test_hosts_are_booted_systemds(bed: NspawnBed) -> None:
    for spec in bed.topology.hosts:
        host = bed.host(spec.name)
        assert host.run("cat /proc/1/comm").stdout == "systemd\n"
        assert host.run("systemctl is-system-running").stdout == "running\n"
        assert host.check_output("uname -n") == spec.name


def test_the_program_and_its_units_are_there(bed: NspawnBed) -> None:
    host = bed.host("server")
    assert "Usage: tunneler-server" in host.check_output("runuser -u nobody -- tunneler-server --help")
    assert host.file("/usr/bin/tunneler").linked_to == "/opt/tunneler/bin/tunneler"
    for unit in (program.ROOT / "packaging/systemd").glob("*.socket"):
        assert host.file(f"/usr/lib/systemd/system/{unit.name}").content_string == unit.read_text()


def test_neighbours_reach_each_other_and_nobody_else_does(bed: NspawnBed) -> None:
    assert ping(bed, "client", "10.77.1.1")
    assert ping(bed, "proxy", "192.168.1.5")
    assert ping(bed, "client", "fd77:1::1")
    assert not ping(bed, "client", "192.168.1.5")
    here = subprocess.run(["ip", "-o", "link"], capture_output=True, text=True, timeout=10, check=True).stdout
    assert "access" not in here


def test_a_file_is_put_with_its_mode_and_owner(bed: NspawnBed) -> None:
    bed.put("client", "/etc/one/two/file", "text\n", mode=0o640, owner="root:nogroup")
    file = bed.host("client").file("/etc/one/two/file")
    assert (file.content_string, file.mode, file.user, file.group) == ("text\n", 0o640, "root", "nogroup")
    with pytest.raises(BedError, match="client: cannot write /proc/one"):
        bed.put("client", "/proc/one", "")


def test_a_cut_cable_is_noticed_and_can_be_mended(bed: NspawnBed) -> None:
    bed.link("client", "access", up=False)
    assert "NO-CARRIER" in bed.host("client").check_output("ip -o link show access")
    assert not ping(bed, "client", "10.77.1.1")
    bed.reset()
    wait_until(lambda: ping(bed, "client", "10.77.1.1"), 5, "the cable works again")


BOOTED = "systemctl show -p UserspaceTimestampMonotonic"
"""When, in microseconds: two boots fit into one second."""


@pytest.mark.parametrize("how", How)
def test_a_restarted_host_keeps_its_disk_and_nothing_else(bed: NspawnBed, how: How) -> None:
    host = bed.host("client")
    host.check_output("echo kept >/root/kept && echo gone >/run/gone && nft add table ip gone")
    booted = host.check_output(BOOTED)
    address = host.check_output("cat /sys/class/net/access/address")
    bed.reboot("client", how)
    assert host.check_output("cat /sys/class/net/access/address") == address
    assert host.check_output(BOOTED) != booted
    assert host.check_output("cat /root/kept") == "kept"
    assert not host.file("/run/gone").exists
    assert host.check_output("nft list tables") == ""
    wait_until(lambda: ping(bed, "client", "10.77.1.1"), 5, "its network works again")


def test_reset_boots_what_is_off_and_renews_what_is_named(bed: NspawnBed) -> None:
    for name in ("client", "proxy"):
        bed.host(name).check_output("echo old >/root/old")
    bed.host("client").run("systemctl --no-block poweroff")
    wait_until(lambda: bed.state()["client"]["state"] == "off", 20, "the client is off")
    with pytest.raises(BedError, match="client is not running"):
        bed.host("client").run("true")
    bed.reset(["proxy"])
    assert bed.host("client").file("/root/old").exists
    assert not bed.host("proxy").file("/root/old").exists


def test_an_unknown_host_is_named(bed: NspawnBed) -> None:
    with pytest.raises(LookupError, match="prxy"):
        bed.host("prxy")


def names_of_namespaces() -> list[str]:
    return sorted(os.listdir("/run/netns")) if Path("/run/netns").is_dir() else []


def test_nothing_is_left_after_down() -> None:
    names, others = names_of_namespaces(), set(cgroups.labs())
    bed = NspawnBed()
    bed.up(standard_topology())
    (group,) = set(cgroups.labs()) - others
    pids = cgroups.processes(group)
    assert len(pids) > 20
    assert "run/lab" not in Path("/proc/self/mountinfo").read_text()
    assert names_of_namespaces() == names
    bed.down()
    bed.down()
    assert not group.exists()
    # A moment may pass until somebody has taken note of their end.
    wait_until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in pids), 10, "its processes are gone")


@pytest.mark.parametrize("early", [True, False], ids=["while it comes up", "when it is up"])
@pytest.mark.parametrize(
    "number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT], ids=lambda number: number.name
)
def test_a_killed_owner_takes_everything_along(
    owner: Callable[[bool], Process], number: signal.Signals, early: bool
) -> None:
    process = owner(early)
    mine = [group for group in cgroups.labs() if cgroups.owner(group) == process.pid]
    process.send_signal(number)
    process.wait(20)

    def ended() -> bool:
        groups = [group for group in cgroups.labs() if cgroups.owner(group) == process.pid]
        return not any(cgroups.populated(group) for group in groups)

    assert mine or early
    wait_until(ended, 10, "every process of the lab ends")
    cgroups.sweep()
    assert [group for group in cgroups.labs() if cgroups.owner(group) == process.pid] == []


def test_a_lab_whose_keeper_is_killed_says_so_and_goes_down() -> None:
    with NspawnBed() as bed:
        bed.up(standard_topology())
        os.kill(bed._keeper, signal.SIGKILL)
        with pytest.raises(BedError, match="keeper of the lab ended with status -9"):
            bed.reboot("client", How.ORDERLY)


def test_a_living_lab_is_not_swept(bed: NspawnBed, owner: Callable[[bool], Process]) -> None:
    process = owner(False)
    cgroups.sweep()
    assert bed.booted("client")
    assert process.exit_status is None
