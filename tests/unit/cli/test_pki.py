"""``tunneler pki``; what it makes is tested where it is made."""

from __future__ import annotations

import io
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.unit.cli.conftest import Programs
from tunneler.errors import ExitStatus


def say(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=io.BytesIO(text.encode())))


def test_from_a_key_to_its_certificate(
    program: Programs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = str(tmp_path / "pki")
    assert "ca/key.pem" in program("tunneler", "pki", "authority", "--dir", directory).output
    assert "nothing written" in program("tunneler", "pki", "authority", "--dir", directory).output
    asked = program("tunneler", "pki", "request", "--key", str(tmp_path / "key.pem"))
    assert asked.output.startswith("-----BEGIN CERTIFICATE REQUEST-----")
    cert = str(tmp_path / "cert.pem")
    command = ("tunneler", "pki", "sign", "proxy", "--name", "p", "--dir", directory, "--cert", cert)
    for flags, answer in (("--dry-run", "would write"), ((), "wrote"), ((), "kept")):
        say(monkeypatch, asked.output)
        more = (flags,) if isinstance(flags, str) else flags
        assert program(*command, *more) == (0, f"{answer} {cert}\n", "")


def test_server_names_are_a_servers(program: Programs, tmp_path: Path) -> None:
    command = ("tunneler", "pki", "sign", "client", "--name", "c", "--cert", str(tmp_path / "c"))
    refused = program(*command, "--server-name", "a.b")
    assert refused.status == ExitStatus.USAGE
    assert "leave it out" in refused.errors


def test_a_name_that_is_none(program: Programs, tmp_path: Path) -> None:
    refused = program("tunneler", "pki", "sign", "client", "--name", "a/b", "--cert", str(tmp_path / "c"))
    assert refused.status == ExitStatus.CREDENTIALS
    assert "a/b" in refused.errors
