"""Names, versions, help and errors: the same for every command and both of its names."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.unit.cli.conftest import Programs
from tunneler import __version__

SCRIPTS = ["tunneler", "tunneler-client", "tunneler-server", "tunneler-proxy", "tunneler-gencerts"]
HEAVY = ["grpc", "google", "pydantic", "yaml", "cryptography", "iptc", "uvloop", "aiohttp"]
COMMANDS = [
    "client",
    "server",
    "proxy",
    "gencerts",
    "pki",
    "pki authority",
    "pki request",
    "pki sign",
    "check-config",
    "check-config client",
    "check-config server",
    "check-config proxy",
    "capture",
    "capture install",
    "capture check",
    "capture run",
    "capture remove",
    "take-sockets",
    "schema",
]


@pytest.mark.parametrize("script", SCRIPTS)
def test_version_of_each_script(program: Programs, script: str) -> None:
    assert program(script, "--version") == (0, f"{script} {__version__}\n", "")


@pytest.mark.parametrize("command", [name for name in COMMANDS if " " not in name])
def test_version_of_each_command(program: Programs, command: str) -> None:
    assert program("tunneler", command, "--version") == (0, f"tunneler-{command} {__version__}\n", "")


@pytest.mark.parametrize("command", ["", *COMMANDS])
@pytest.mark.parametrize("flag", ["-h", "--help"])
def test_help_has_an_example(program: Programs, command: str, flag: str) -> None:
    status, output, errors = program("tunneler", *command.split(), flag)
    assert (status, errors) == (0, "")
    example = output.partition("\nExample:\n")[2]
    assert example.startswith("  tunneler")
    if command:
        name = command.replace(" ", "-")
        assert f"tunneler {command}" in example or f"tunneler-{name} " in example


@pytest.mark.parametrize("script", SCRIPTS[1:])
def test_both_names_are_one_command(program: Programs, script: str) -> None:
    alone = program(script, "--help").output
    inside = program("tunneler", script.removeprefix("tunneler-"), "--help").output
    assert alone.partition("\n")[2] == inside.partition("\n")[2]


def test_commands_are_listed_in_order_and_in_full(program: Programs) -> None:
    listed = program("tunneler", "--help").output.partition("Commands:\n")[2].partition("\n\n")[0]
    assert [line.split()[0] for line in listed.splitlines()] == [name for name in COMMANDS if " " not in name]
    assert "..." not in listed


def test_no_arguments_print_the_help_and_are_a_usage_error(program: Programs) -> None:
    status, output, errors = program("tunneler")
    assert (status, output) == (2, "")
    assert errors.startswith("Usage: tunneler ")


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (("clent",), "tunneler: No such command 'clent'. Did you mean 'client'?"),
        (("client", "--srever", "x"), "tunneler-client: No such option '--srever'."),
        (("client", "extra"), "tunneler-client: Got unexpected extra argument (extra)"),
        (("capture", "instal"), "tunneler-capture: No such command 'instal'."),
        (("schema", "relay"), "tunneler-schema: Invalid value for"),
    ],
)
def test_usage_errors(program: Programs, arguments: tuple[str, ...], line: str) -> None:
    status, output, errors = program("tunneler", *arguments)
    first, second = errors.splitlines()
    assert (status, output) == (2, "")
    assert first.startswith(line)
    assert second.startswith(line.partition(": ")[0] + ": see tunneler ")


@pytest.mark.parametrize("script", SCRIPTS)
def test_the_scripts_are_installed(script: str) -> None:
    path = Path(sys.executable).parent / script
    done = subprocess.run([path, "--version"], capture_output=True, text=True, timeout=30, check=True)
    assert done.stdout == f"{script} {__version__}\n"


def test_python_m_tunneler() -> None:
    command = [sys.executable, "-m", "tunneler", "--version"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True)
    assert done.stdout == f"tunneler {__version__}\n"


def test_help_loads_nothing_heavy() -> None:
    code = (
        "import sys\n"
        "from tunneler.cli import main\n"
        "try: main.client()\n"
        "except SystemExit: pass\n"
        "print('HEAVY', *sorted(set(sys.argv[2:]) & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "--help", *HEAVY], capture_output=True, text=True, timeout=30, check=True
    )
    assert done.stdout.endswith("HEAVY\n")


def test_a_reader_that_goes_away_is_no_traceback() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "wb") as gone:
        command = [sys.executable, "-m", "tunneler", "schema", "client"]
        done = subprocess.run(
            command, stdout=gone, stderr=subprocess.PIPE, text=True, timeout=30, check=False
        )
    assert done.stderr == ""
