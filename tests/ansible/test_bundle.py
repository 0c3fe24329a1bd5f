"""The bundle: one file, from which a host without pip, venv or an index makes the product."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

import tunneler
from testbed.processes import execute

ROOT = Path(__file__).parents[2]
BUILD_TIMEOUT = 300.0
UNPACK_TIMEOUT = 60.0


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a host makes of a bundle."""
    directory = tmp_path_factory.mktemp("bundle")
    bundle, home = directory / "tunneler.pex", directory / "home"
    said = execute((str(ROOT / "scripts/bundle"), str(bundle)), timeout=BUILD_TIMEOUT)
    assert said.stdout.strip() == str(bundle)
    environment = {"PATH": os.environ["PATH"], "PEX_TOOLS": "1", "PEX_ROOT": str(directory / "root")}
    variables = [f"{name}={value}" for name, value in environment.items()]
    command = ("/usr/bin/python3", str(bundle), "venv", "--scope=all", str(home))
    execute(("env", "-i", *variables, *command), timeout=UNPACK_TIMEOUT)
    bundle.unlink()
    return home


@pytest.mark.slow
@pytest.mark.timeout(BUILD_TIMEOUT + UNPACK_TIMEOUT)
def test_every_program_runs_by_itself(unpacked: Path) -> None:
    programs = sorted(path.name for path in (unpacked / "bin").glob("tunneler*"))
    assert programs == [
        "tunneler",
        "tunneler-client",
        "tunneler-gencerts",
        "tunneler-proxy",
        "tunneler-server",
    ]
    for program in programs:
        said = execute(("env", "-i", str(unpacked / "bin" / program), "--version"), timeout=UNPACK_TIMEOUT)
        assert said.stdout == f"{program} {tunneler.__version__}\n"


@pytest.mark.timeout(BUILD_TIMEOUT + UNPACK_TIMEOUT)
def test_units_come_with_it(unpacked: Path) -> None:
    packaged = ROOT / "packaging/systemd"
    for path in packaged.iterdir():
        if path.suffix in (".service", ".socket", ".target"):
            assert (unpacked / "share/tunneler/systemd" / path.name).read_bytes() == path.read_bytes()
    for name in ("sysusers.d/tunneler.conf", "tmpfiles.d/tunneler.conf", "catalog/tunneler.catalog"):
        assert (unpacked / "share/tunneler" / name).read_bytes() == (packaged / name).read_bytes()


@pytest.mark.timeout(BUILD_TIMEOUT + UNPACK_TIMEOUT)
def test_what_comes_as_source_works(unpacked: Path) -> None:
    code = "import iptc, systemd.journal, grpc, uvloop, cryptography"
    execute(("env", "-i", str(unpacked / "bin/python"), "-c", code), timeout=UNPACK_TIMEOUT)
