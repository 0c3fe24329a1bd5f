"""The installed collection, an index in place of a bundle, and several servers on a host.

One story, in the order of the file: from bare hosts without python3-venv to bare hosts.
"""

from __future__ import annotations

import io
import json
import os
import re
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

import tunneler
from testbed.processes import execute, wait_until
from testbed.suite import PORT, PROGRAMS
from tests.ansible.control import HOSTS, Control, Outcome, bare_hosts, make_bundle
from tests.lab.kept import KeptBed
from tests.lab.rollout import PAGE, fetch
from tests.readme import ROOT

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

WHEELS = "/srv/wheels"
PIP = {
    "tunneler_install_method": "pip",
    "tunneler_pip_arguments": ["--no-index", "-f", WHEELS],
}
MORE = [PORT + 1, PORT + 2]
SHORT, LONG = 60.0, 120.0
LINK_DEADLINE = 30.0


@pytest.fixture(scope="module")
def bare(make_bed: type[KeptBed], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Control]:
    """Bare hosts; and the collection, installed as its README says."""
    readme = (ROOT / "ansible/README.md").read_text(encoding="utf-8")
    (command,) = re.findall("`(ansible-galaxy .*?)`", readme)
    collections = tmp_path_factory.mktemp("collections")
    environment = {
        "ANSIBLE_COLLECTIONS_PATH": str(collections),
        "PATH": f"{PROGRAMS}:{os.environ['PATH']}",
        "HOME": os.environ["HOME"],
    }
    execute(("env", f"--chdir={ROOT}", "bash", "-c", command), timeout=LONG, env=environment)
    with bare_hosts(
        make_bed(bare=True), tmp_path_factory.mktemp("access"), tmp_path_factory.mktemp("none"), collections
    ) as control:
        yield control


@pytest.fixture(scope="module")
def before(bare: Control) -> dict[str, set[str]]:
    """The files of the hosts before anything was installed."""
    return {host: bare.files(host) for host in HOSTS}


@pytest.fixture(scope="module")
def prepared(bare: Control, tmp_path_factory: pytest.TempPathFactory) -> Control:
    """Hosts that have python3-venv and the wheels of a bundle."""
    directory = tmp_path_factory.mktemp("wheels")
    bundle = make_bundle(directory, tunneler.__version__)
    extract = (
        str(PROGRAMS / "python"),
        str(bundle),
        "repository",
        "extract",
        "-f",
        str(directory / "wheels"),
    )
    execute(extract, timeout=LONG, env={"PEX_TOOLS": "1", "PEX_ROOT": str(directory / "root")})
    wheels = archive({f"{WHEELS}/{path.name}": path for path in (directory / "wheels").glob("*.whl")})
    packages = archive({str(path): path for path in python3_venv()})
    for host in HOSTS:
        for content in (wheels, packages):
            done = bare.bed.run(host, "tar", "-x", "-C", "/", input=content)
            assert done.returncode == 0, done.stderr
    return bare


def python3_venv() -> list[Path]:
    """The files of the Debian package: the hosts are of this machine's release, and reach no mirror."""
    package = execute(
        ("python3", "-c", "import sys; print('python3.%d-venv' % sys.version_info[1])"), timeout=SHORT
    ).stdout.strip()
    depends = execute(("dpkg-query", "--show", "--showformat=${Depends}", package), timeout=SHORT).stdout
    names = [name for name in re.findall(r"[\w.+-]+(?= \(|,|$)", depends) if name != package[: -len("-venv")]]
    listed = execute(("dpkg-query", "--listfiles", package, *names), timeout=SHORT, check=False).stdout
    return [path for path in map(Path, listed.split()) if path.is_file() and "/doc/" not in str(path)]


def archive(files: dict[str, Path]) -> bytes:
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as tar:
        for name, path in files.items():
            tar.add(path, name)
    return content.getvalue()


def roll_out(control: Control, instances: list[int], *arguments: str) -> Outcome:
    """Run site.yml with pip and more servers, which the client knows; the proxy knows all there ever are."""
    server = control.bed.topology.host("server")
    variables = PIP | {
        "server_instances": instances,
        "client_server_addr": [f"{server.ipv4('access')}:{port}" for port in (PORT, *instances)],
        "proxy_server_addr": [f"{server.ipv4('uplink')}:{port}" for port in (PORT, *MORE)],
    }
    return control.play("site", "-e", json.dumps(variables), *arguments)


def sockets(control: Control) -> set[str]:
    """Sockets of the server's host that are enabled and those that listen, which are to be the same."""
    enabled = control.run("server", "cd /etc/systemd/system/tunneler.target.wants && ls").split()
    active = control.run(
        "server", "systemctl list-sockets --no-legend 'tunneler-server*' | awk '{print $(NF - 1)}'"
    ).split()
    assert sorted(enabled) == sorted(set(active))
    return set(enabled)


def test_a_host_that_cannot_make_environments_is_told_what_to_install(
    bare: Control, before: dict[str, set[str]]
) -> None:
    outcome = roll_out(bare, [], "--limit", "proxy")
    assert outcome.status != 0
    assert "install python3-venv there" in " ".join(outcome.output.split())
    assert outcome.changes == {"proxy": 0}
    assert bare.files("proxy") == before["proxy"]


def test_check_mode_says_what_would_be_installed(prepared: Control, before: dict[str, set[str]]) -> None:
    prepared_files = prepared.files("server")
    outcome = roll_out(prepared, MORE, "--limit", "server", "--check")
    assert outcome.status == 0, outcome.output
    assert "tunneler.tunneler.tunneler : Packages of the version" in outcome.changed
    assert prepared.files("server") == prepared_files


@pytest.fixture(scope="module")
def site(prepared: Control) -> Control:
    outcome = roll_out(prepared, MORE)
    assert outcome.status == 0, outcome.output
    return prepared


def test_wheels_become_a_working_path(site: Control) -> None:
    assert fetch(site.bed) == PAGE
    for host in HOSTS:
        assert site.run(host, "tunneler --version") == f"tunneler {tunneler.__version__}\n"
        assert site.run(host, "systemctl list-units --failed --no-legend") == ""


def test_each_server_carries_connections(site: Control) -> None:
    assert sockets(site) == {"tunneler-server.socket", *(f"tunneler-server@{port}.socket" for port in MORE)}
    first, *_, last = ("tunneler-server", *(f"tunneler-server@{port}" for port in MORE))
    others = f"{first}.socket tunneler-server@{MORE[0]}.socket"
    site.run("server", f"systemctl stop {others}")
    try:
        wait_until(lambda: fetch(site.bed) == PAGE, LINK_DEADLINE, f"the path works by {last} alone")
    finally:
        site.run("server", f"systemctl start {others}")


def test_a_second_run_changes_nothing(site: Control) -> None:
    roll_out(site, MORE)  # services that the chapter before has stopped
    before = site.state("server")
    outcome = roll_out(site, MORE)
    assert outcome.status == 0, outcome.output
    assert outcome.changes == dict.fromkeys(HOSTS, 0), outcome.changed
    assert site.state("server") == before


def test_servers_that_are_wanted_no_more_go(site: Control) -> None:
    kept = site.pid("server", f"tunneler-server@{MORE[1]}")
    outcome = roll_out(site, MORE[1:])
    assert outcome.status == 0, outcome.output
    assert sockets(site) == {"tunneler-server.socket", f"tunneler-server@{MORE[1]}.socket"}
    left = site.run("server", f"systemctl is-active tunneler-server@{MORE[0]}.service || true")
    assert left == "inactive\n"
    assert site.pid("server", f"tunneler-server@{MORE[1]}") == kept
    assert fetch(site.bed) == PAGE
    outcome = roll_out(site, MORE[1:])
    assert outcome.changes == dict.fromkeys(HOSTS, 0), outcome.changed


@pytest.mark.parametrize(
    "wrong", [{"server_instances": [PORT]}, {"server_instances": [70000]}, {"server_instances": [9000, 9000]}]
)
def test_ports_that_cannot_be_are_refused(site: Control, wrong: dict[str, list[int]]) -> None:
    before = site.state("server")
    outcome = site.play("site", "-e", json.dumps(PIP | wrong), "--limit", "server")
    assert outcome.status != 0
    assert "server_instances must be ports" in " ".join(outcome.output.split())
    assert site.state("server") == before


def test_nothing_is_left(site: Control, before: dict[str, set[str]]) -> None:
    outcome = site.play("uninstall")
    assert outcome.status == 0, outcome.output
    added = site.run("server", "find /etc/systemd /usr/lib/systemd /opt -name '*tunneler*'")
    assert added == ""
