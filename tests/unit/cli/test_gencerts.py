"""``tunneler gencerts``; what it makes is tested where it is made."""

from __future__ import annotations

from pathlib import Path

import pytest
from cryptography import x509

from tests.unit.cli.conftest import Programs
from tunneler.errors import ExitStatus

FILES = {f"{holder}/{part}.pem" for holder in ("ca", "server", "client", "proxy") for part in ("cert", "key")}


def made(directory: Path) -> set[str]:
    return {str(path.relative_to(directory)) for path in directory.rglob("*.pem")}


def test_everything_is_made_once(program: Programs, tmp_path: Path) -> None:
    first = program("tunneler-gencerts", "--dir", str(tmp_path / "pki"))
    assert first.status == 0
    assert made(tmp_path / "pki") == FILES
    assert {line.removeprefix(f"wrote {tmp_path}/pki/") for line in first.output.splitlines()} == FILES
    again = program("tunneler", "gencerts", "--dir", str(tmp_path / "pki"))
    assert again == (0, f"{tmp_path}/pki: everything is there; nothing written\n", "")


def test_the_default_directory_and_server_names(
    program: Programs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    names = ("--server-name", "relay.example.org", "--server-name", "203.0.113.7")
    assert program("tunneler-gencerts", *names).status == 0
    certificate = x509.load_pem_x509_certificate((tmp_path / "certs/server/cert.pem").read_bytes())
    alternatives = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert alternatives.get_values_for_type(x509.DNSName) == ["relay.example.org"]
    assert [str(found) for found in alternatives.get_values_for_type(x509.IPAddress)] == ["203.0.113.7"]


def test_force_replaces(program: Programs, tmp_path: Path) -> None:
    program("tunneler-gencerts", "--dir", str(tmp_path))
    before = (tmp_path / "ca/cert.pem").read_bytes()
    assert program("tunneler-gencerts", "--dir", str(tmp_path), "--force").status == 0
    assert (tmp_path / "ca/cert.pem").read_bytes() != before


def test_what_cannot_be_done_is_one_line(program: Programs, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    status, output, errors = program("tunneler-gencerts", "--dir", str(tmp_path / "file"))
    assert (status, output) == (ExitStatus.CREDENTIALS, "")
    (line,) = errors.splitlines()
    assert line.startswith(f"tunneler-gencerts: {tmp_path}/file")
