"""Labs on the real kernel. Needs root; everything happens in namespaces made here."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from testbed import CommandFailed, Host, Lab, Process, Topology, standard_topology, wait_until
from testbed.ownership import LEDGER, start_time
from testbed.topology import HostSpec, StaticRoute
from tunneler.addresses import parse_network

CHILD = """
import sys, time
from pathlib import Path
from testbed import Lab, standard_topology
with Lab(standard_topology()) as lab:
    lab.host("target").spawn("sleep", "600", log=Path(sys.argv[1]))
    print("up", lab.prefix, flush=True)
    time.sleep(600)
"""


def traces(prefix: str) -> list[str]:
    """Everything on the machine that bears a lab's name."""
    listed = subprocess.run(("ip", "netns", "list"), capture_output=True, text=True, check=True).stdout
    namespaces = Path("/run/netns")
    names = [line.split()[0] for line in listed.splitlines() if line]
    names += [path.name for path in namespaces.iterdir()] if namespaces.exists() else []
    names += [path.name for path in LEDGER.iterdir()] if LEDGER.exists() else []
    return [name for name in names if name == prefix or name.startswith(f"{prefix}-")]


def machine_links() -> set[str]:
    links = subprocess.run(("ip", "-o", "link"), capture_output=True, text=True, check=True).stdout
    return {line.split()[1] for line in links.splitlines()}


def reaches(host: Host, address: str) -> bool:
    """Whether the address answers: a closed port's refusal is an answer, and needs no listener."""
    knock = host.run("nc", "-n", "-v", "-z", "-w", "2", address, "9", check=False)
    return "refused" in knock.stderr


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with Lab(standard_topology(second_site=True, lan=True)) as lab:
        yield lab


@pytest.fixture
def other_program(tmp_path: Path) -> Iterator[tuple[Process, str]]:
    """Another program with a lab of its own, and its lab's prefix."""
    process = Process((sys.executable, "-c", CHILD, str(tmp_path / "sleep.log")), tmp_path / "child.log")
    try:
        prefix = process.wait_for_line(lambda line: line.startswith("up "), 30).split()[1]
        yield process, prefix
    finally:
        process.kill()
        Lab.sweep()


@pytest.mark.parametrize(
    ("host", "address"),
    [
        ("client", "10.77.1.1"),
        ("client", "fd77:1::1"),
        ("server", "10.77.2.2"),
        ("server", "fd77:2::2"),
        ("server", "10.77.3.2"),
        ("proxy", "192.168.1.5"),
        ("proxy", "fd00:192:168:1::5"),
        ("proxy2", "10.0.10.5"),
        ("proxy2", "fd00:10::5"),
        ("lan", "10.55.0.1"),
        ("lan", "fd55::1"),
        ("lan", "10.77.1.2"),
        ("target", "127.0.0.1"),
    ],
)
def test_neighbours_reach_each_other(lab: Lab, host: str, address: str) -> None:
    assert reaches(lab.host(host), address)


def test_packets_do_not_cross_the_server(lab: Lab) -> None:
    # With a way back, so that nothing but the server's refusal to forward is in the way.
    lab.host("proxy").run("ip", "route", "add", "10.77.1.0/24", "via", "10.77.2.1")
    assert not reaches(lab.host("client"), "10.77.2.2")
    assert not reaches(lab.host("client"), "192.168.1.5")


def test_a_gateway_forwards(lab: Lab) -> None:
    lab.host("server").run("ip", "route", "add", "10.55.0.0/24", "via", "10.77.1.2")
    assert reaches(lab.host("lan"), "10.77.1.1")


def test_the_target_is_out_of_the_clients_reach(lab: Lab, tmp_path: Path) -> None:
    web = lab.host("target").spawn(sys.executable, "-m", "http.server", "80", log=tmp_path / "web.log")
    url = f"http://{lab.host('target').address}/"
    fetch = ("curl", "-sS", "-o", "/dev/null", "--connect-timeout", "2")
    wait_until(
        lambda: lab.host("proxy").run(*fetch, url, check=False).returncode == 0, 10, "the web server's answer"
    )
    for away in (url, "http://100.64.1.5/", "http://[fd00:192:168:1::5]/"):
        assert lab.host("client").run(*fetch, away, check=False).returncode in (7, 28), away
    web.stop()


def test_the_machine_sees_only_names(tmp_path: Path) -> None:
    before = machine_links()
    with Lab(standard_topology()) as lab:
        assert machine_links() == before
        assert len(traces(lab.prefix)) == 2 * 4 + 1  # each host by ip and by /run/netns; one entry


def test_down_ends_programs_and_leaves_nothing(tmp_path: Path) -> None:
    lab = Lab(standard_topology())
    lab.up()
    prefix = lab.prefix
    target = lab.host("target")
    process = target.spawn("sleep", "600", log=tmp_path / "log")
    # A daemon, out of its parent's hands: found by its namespace.
    target.run("sh", "-c", "setsid sleep 600 >/dev/null 2>&1 </dev/null &")
    wait_until(lambda: len(target.pids()) == 2, 5, "two programs")
    daemons = [pid for pid in target.pids() if pid != process.pid]
    lab.down()
    assert process.exit_status == -signal.SIGTERM
    assert [start_time(pid) for pid in daemons] == [0]
    assert traces(prefix) == []
    lab.down()  # again, harmless


def test_an_exception_takes_the_lab_down() -> None:
    prefixes = []

    def fail_inside() -> None:
        with Lab(standard_topology()) as lab:
            prefixes.append(lab.prefix)
            lab.host("client").run("false")

    with pytest.raises(CommandFailed):
        fail_inside()
    assert traces(*prefixes) == []


def test_a_half_made_lab_is_removed() -> None:
    route = StaticRoute(parse_network("192.0.2.0/24"), standard_topology().host("proxy").ipv4())
    wrong = Topology((HostSpec("nowhere", (), (route,)),))
    before = set(LEDGER.iterdir())
    with pytest.raises(CommandFailed, match="Nexthop has invalid gateway"):
        Lab(wrong).up()
    assert set(LEDGER.iterdir()) == before
    assert not any(path.name.endswith("-nowhere") for path in Path("/run/netns").iterdir())


def test_two_labs_at_once(lab: Lab) -> None:
    with Lab(standard_topology()) as second:
        assert second.prefix != lab.prefix
        assert reaches(second.host("client"), "10.77.1.1")
        prefix = second.prefix
    assert traces(prefix) == []
    assert traces(lab.prefix)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_takes_the_lab_down(other_program: tuple[Process, str], number: signal.Signals) -> None:
    process, prefix = other_program
    process.send_signal(number)
    assert process.wait(20) != 0
    assert traces(prefix) == []


def test_sweep_removes_what_a_killed_program_left(other_program: tuple[Process, str]) -> None:
    process, prefix = other_program
    assert not any(name.startswith(prefix) for name in Lab.sweep())  # its owner lives
    process.kill()
    assert traces(prefix)
    removed = Lab.sweep()
    assert {f"{prefix}-{name}" for name in ("client", "server", "proxy", "target")} <= set(removed)
    assert traces(prefix) == []


def test_a_kept_lab_is_swept_only_on_request() -> None:
    lab = Lab(standard_topology())
    lab.up()
    prefix = lab.prefix
    lab.keep()
    assert not any(name.startswith(prefix) for name in Lab.sweep())
    assert traces(prefix)
    Lab.sweep(kept=True)
    assert traces(prefix) == []
