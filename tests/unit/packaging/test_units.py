"""What can be said of the units without a systemd that runs; tests/systemd runs them."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.architecture.sources import ROOT
from tunneler.config.keys import variables_of_every_role
from tunneler.config.model import ClientConfig, ServerConfig
from tunneler.errors import ExitStatus
from tunneler.systemd.activation import CAPTURED, LINKS

UNITS = ROOT / "packaging" / "systemd"
ROLES = ("server", "proxy", "client")
SERVICES = sorted(path.name for path in UNITS.glob("*.service"))
CAPABILITIES = "CAP_NET_ADMIN CAP_NET_RAW"
EXPOSURE = {"tunneler-capture.service": 3.0}
"""At most, of 10; of all others OTHER_EXPOSURE."""
OTHER_EXPOSURE = 1.2
INSTANCE = "8082"
TIMEOUT = 30


def run(*argv: str | Path) -> str:
    """What a command says; it must succeed."""
    done = subprocess.run(argv, capture_output=True, text=True, timeout=TIMEOUT, check=False)
    said = done.stdout + done.stderr
    assert done.returncode == 0, said
    return said


def settings(unit: str) -> list[tuple[str, str]]:
    """Each key and value, in order."""
    lines = (UNITS / unit).read_text(encoding="utf-8").splitlines()
    pairs = (line.partition("=") for line in lines if line and line[0] not in "#[")
    return [(key, value) for key, _, value in pairs]


def values(unit: str, key: str) -> list[str]:
    return [value for name, value in settings(unit) if name == key]


def value(unit: str, key: str) -> str:
    (found,) = values(unit, key)
    return found


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """A root file system with the units, systemd's targets, and programs that do nothing."""
    system = tmp_path / "usr" / "lib" / "systemd" / "system"
    shutil.copytree(UNITS, system)
    for target in Path("/usr/lib/systemd/system").glob("*.target"):
        shutil.copy(target, system)
    for service in SERVICES:
        for key in ("ExecStart", "ExecReload", "ExecStopPost"):
            for command in values(service, key):
                program = tmp_path / command.split()[0].lstrip("/")
                program.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy("/bin/true", program)
    (tmp_path / "etc").mkdir()
    return tmp_path


def test_systemd_has_nothing_to_say_about_them(installed: Path) -> None:
    names = [path.name.replace("@.", f"@{INSTANCE}.") for path in UNITS.glob("tunneler*.*")]
    assert len(names) >= len(SERVICES) + 4
    system = installed / "usr" / "lib" / "systemd" / "system"
    flags = ("--man=no", "--generators=no", "--recursive-errors=yes", f"--root={installed}")
    assert run("systemd-analyze", "verify", *flags, *(system / name for name in names)) == ""


@pytest.mark.parametrize("service", SERVICES)
def test_exposure(service: str, tmp_path: Path) -> None:
    # Under a name of its own: drop-ins of an installed unit of the same name would count.
    unit = tmp_path / f"exposure-{service.replace('@.', '@x.')}"
    shutil.copy(UNITS / service, unit)
    said = run("systemd-analyze", "security", "--offline=true", "--no-pager", unit)
    score = re.search(r"Overall exposure level for .*: ([0-9.]+)", said)
    assert score is not None, said
    assert float(score[1]) <= EXPOSURE.get(service, OTHER_EXPOSURE), said


@pytest.mark.parametrize("service", SERVICES)
def test_only_capture_has_a_capability(service: str) -> None:
    ours = CAPABILITIES if service == "tunneler-capture.service" else ""
    assert value(service, "CapabilityBoundingSet") == ours
    assert "".join(values(service, "AmbientCapabilities")) == ours


@pytest.mark.parametrize("service", SERVICES)
def test_its_commands_are_ours(service: str) -> None:
    for command in values(service, "ExecStart") + values(service, "ExecStopPost"):
        for variable, content in {"%i": INSTANCE, "${SERVICE_RESULT}": "signal"}.items():
            command = command.replace(variable, content)
        program, *arguments = shlex.split(command)
        script = Path(sys.executable).with_name(Path(program).name)
        assert "Usage:" in run(script, *arguments, "--help")


@pytest.mark.parametrize("service", SERVICES)
def test_its_environment_means_something(service: str) -> None:
    for assignment in values(service, "Environment"):
        assert assignment.partition("=")[0] in variables_of_every_role()


@pytest.mark.parametrize("service", SERVICES)
def test_what_a_restart_cannot_help(service: str) -> None:
    hopeless = {ExitStatus.USAGE, ExitStatus.CREDENTIALS, ExitStatus.UNSUPPORTED}
    assert set(map(int, value(service, "RestartPreventExitStatus").split())) == hopeless


def test_the_unit_that_gives_sockets_away(installed: Path, tmp_path: Path) -> None:
    """It has one capability more than the server whose sockets it gives to the server's user."""
    unit = "grpcio/tunneler-server-sockets.service"
    assert value(unit, "User") == value("tunneler-server.service", "User")
    assert value(unit, "CapabilityBoundingSet") == value(unit, "AmbientCapabilities") == "CAP_CHOWN"
    exposed = tmp_path / "exposure-sockets.service"
    shutil.copy(UNITS / unit, exposed)
    said = run("systemd-analyze", "security", "--offline=true", "--no-pager", "--threshold=14", exposed)
    assert "Overall exposure level" in said
    system = installed / "usr" / "lib" / "systemd" / "system"
    shutil.copy(UNITS / unit, system)
    drop_in = UNITS / "grpcio" / "tunneler-server.service.d"
    shutil.copytree(drop_in, system / drop_in.name)
    flags = ("--man=no", "--generators=no", "--recursive-errors=yes", f"--root={installed}")
    names = ("tunneler-server-sockets.service", "tunneler-server.service")
    assert run("systemd-analyze", "verify", *flags, *(system / name for name in names)) == ""


def test_no_two_units_reload_each_other() -> None:
    """systemd 252 does not survive it."""
    for service in SERVICES:
        assert values(service, "ReloadPropagatedFrom") == []
        for other in values(service, "PropagatesReloadTo"):
            assert values(other, "PropagatesReloadTo") == []


def test_an_instance_of_the_server_is_a_server() -> None:
    for kind in ("service", "socket"):
        instance = (UNITS / f"tunneler-server@.{kind}").read_text(encoding="utf-8")
        _, _, unit = instance.partition("[Unit]\n")
        plain = (
            unit.replace("@%i", "")
            .replace("server %i:", "server:")
            .replace(" --listen :%i", "")
            .replace("ListenStream=%i", "ListenStream=8081")
        )
        original = (UNITS / f"tunneler-server.{kind}").read_text(encoding="utf-8")
        assert f"[Unit]\n{plain}" == original


def test_sockets_are_where_the_programs_would_listen() -> None:
    port = ClientConfig.model_fields["listen_port"].default
    assert values("tunneler-client.socket", "ListenStream") == [f"127.0.0.1:{port}", f"[::1]:{port}"]
    assert value("tunneler-server.socket", "ListenStream") == str(
        ServerConfig.model_fields["listen_addr"].default.port
    )


def test_sockets_are_taken_by_name() -> None:
    assert value("tunneler-client.socket", "FileDescriptorName") == CAPTURED.name
    for unit in ("tunneler-server.socket", "tunneler-server@.socket"):
        assert value(unit, "FileDescriptorName") == LINKS.name


def test_every_user_is_made(installed: Path) -> None:
    run("systemd-sysusers", f"--root={installed}", UNITS / "sysusers.d" / "tunneler.conf")
    users = {value(service, "User") for service in SERVICES}
    assert users == set(numbers(installed / "etc" / "passwd"))
    assert len(users) == len(ROLES) + 1


def test_directories_of_keys_are_for_their_role_alone(installed: Path) -> None:
    run("systemd-sysusers", f"--root={installed}", UNITS / "sysusers.d" / "tunneler.conf")
    lock = installed / "run" / "xtables.lock"
    lock.parent.mkdir()
    lock.touch(0o600)  # as iptables makes it
    run("systemd-tmpfiles", f"--root={installed}", "--create", UNITS / "tmpfiles.d" / "tunneler.conf")
    groups = numbers(installed / "etc" / "group")
    for role in ROLES:
        found = (installed / "etc" / "tunneler" / "tls" / role).stat()
        assert (found.st_uid, found.st_gid, found.st_mode & 0o777) == (0, groups[f"tunneler-{role}"], 0o750)
    found = lock.stat()
    assert (found.st_uid, found.st_gid, found.st_mode & 0o777) == (0, groups["tunneler-capture"], 0o640)


def numbers(database: Path) -> dict[str, int]:
    """Of the users or groups in a file."""
    lines = database.read_text(encoding="utf-8").splitlines()
    return {name: int(number) for name, _, number, *_ in (line.split(":") for line in lines)}
