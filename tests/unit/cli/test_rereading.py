"""A configuration read again, by a program of its own."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from tunneler.addresses import Role
from tunneler.cli import rereading
from tunneler.cli.rereading import reread
from tunneler.cli.settings import Values, load_values
from tunneler.errors import ExitStatus, TunnelerError

SERVER = "listen_addr: 127.0.0.1:1\ntls: {insecure: true}\n"
CLIENT = "server_addr: 127.0.0.1:1\ntls: {insecure: true}\n"


class File:
    """A configuration file, and how a role was started with it."""

    def __init__(self, path: Path, role: Role, content: str, **flags: Any) -> None:
        self.path, self.role, self.content = path, role, content
        self.write("")
        self.parameters = {"config_files": (path,), **flags}
        self.first: Values = load_values(role, self.parameters)

    def write(self, more: str) -> None:
        self.path.write_text(self.content + more)

    async def again(self) -> Any:
        return await reread(self.role, self.parameters, self.first)


async def test_files_are_read_anew_and_flags_still_win(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    file = File(tmp_path / "server.yaml", Role.SERVER, SERVER, log__level="warning")
    file.write("limits: {max_links: 7}\nlog: {level: debug}\n")
    config = await file.again()
    assert (config.limits.max_links, config.log.level) == (7, "warning")
    assert "warning: tls.insecure" in capfd.readouterr().err


async def test_the_environment_is_that_of_the_role(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = File(tmp_path / "server.yaml", Role.SERVER, SERVER)
    monkeypatch.setenv("TUNNELER_LIMITS_MAX_LINKS", "8")
    assert (await file.again()).limits.max_links == 8


async def test_what_is_wrong_is_an_error_with_all_its_lines(tmp_path: Path) -> None:
    file = File(tmp_path / "server.yaml", Role.SERVER, SERVER)
    file.write("limts: {}\ntransport: pigeon\n")
    with pytest.raises(TunnelerError) as caught:
        await file.again()
    assert caught.value.exit_status is ExitStatus.USAGE
    first, second = str(caught.value).splitlines()
    assert first == f"{file.path}: limts: unknown key; did you mean limits?"
    assert "transport: expected" in second


async def test_a_name_that_was_made_up_stays(tmp_path: Path) -> None:
    file = File(tmp_path / "client.yaml", Role.CLIENT, CLIENT)
    made_up = file.first.config.client_id  # type: ignore[attr-defined]
    assert (await file.again()).client_id == made_up
    file.write("client_id: given\n")
    assert (await file.again()).client_id == "given"


async def test_nothing_is_imported_from_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "yaml.py").write_text("raise SystemExit('imported')")
    file = File(tmp_path / "server.yaml", Role.SERVER, SERVER)
    monkeypatch.chdir(tmp_path)
    assert (await file.again()).limits == file.first.config.limits


async def test_a_program_that_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = File(tmp_path / "server.yaml", Role.SERVER, SERVER)
    for words in ("print(end='half an answer')", ""):
        program = (sys.executable, "-c", f"{words}\nraise SystemExit(1)")
        monkeypatch.setattr(rereading, "PROGRAM", program)
        with pytest.raises(TunnelerError, match="the program that reads the configuration failed"):
            await file.again()
    monkeypatch.setattr(rereading, "PROGRAM", (str(tmp_path / "nowhere"),))
    with pytest.raises(TunnelerError, match="cannot be started: No such file or directory"):
        await file.again()


@pytest.mark.parametrize("ended_by", ["time", "cancellation"])
async def test_a_program_that_hangs_is_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ended_by: str
) -> None:
    """A disk that does not answer, or a role that stops meanwhile."""
    file = File(tmp_path / "server.yaml", Role.SERVER, SERVER)
    pid = tmp_path / "pid"
    script = f"import os, time; open({str(pid)!r}, 'w').write(str(os.getpid())); time.sleep(3600)"
    monkeypatch.setattr(rereading, "PROGRAM", (sys.executable, "-c", script))
    if ended_by == "time":
        monkeypatch.setattr(rereading, "SECONDS", 0.5)
        with pytest.raises(TunnelerError, match=r"took longer than 0\.5 s"):
            await file.again()
    else:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.5):
                await file.again()
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid.read_text()), 0)
