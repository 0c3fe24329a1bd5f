from __future__ import annotations

import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from tunneler.addresses import Identity, Role
from tunneler.errors import PkiError
from tunneler.pki.credentials import load_credentials
from tunneler.pki.pem import read_certificates
from tunneler.pki.requests import request, sign
from tunneler.pki.store import generate

NOW = datetime.now(UTC)
PROXY = Identity(Role.PROXY, "site-1")
MONTH = timedelta(days=30)


@pytest.fixture
def authority(tmp_path: Path) -> tuple[Path, Path]:
    generate(tmp_path / "pki", force=False, now=NOW, names={})
    return tmp_path / "pki/ca/cert.pem", tmp_path / "pki/ca/key.pem"


def certify(
    authority: tuple[Path, Path],
    asked: bytes,
    cert: Path,
    *,
    now: datetime = NOW,
    identity: Identity = PROXY,
    names: tuple[str, ...] = (),
    dry_run: bool = False,
) -> bool:
    return sign(
        authority, identity, asked, cert, server_names=names, renew_within=MONTH, now=now, dry_run=dry_run
    )


def test_the_key_is_made_once_and_is_its_owners_alone(tmp_path: Path) -> None:
    key = tmp_path / "tls/key.pem"
    first = x509.load_pem_x509_csr(request(key))
    made = key.read_bytes()
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    assert x509.load_pem_x509_csr(request(key)).public_key() == first.public_key()
    assert key.read_bytes() == made


def test_a_role_accepts_what_was_signed(authority: tuple[Path, Path], tmp_path: Path) -> None:
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    assert certify(authority, request(key), cert)
    load_credentials(cert, key, authority[0], Role.PROXY, now=NOW)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cert.pem", "key.pem", "pki"]


def test_what_will_still_do_is_kept(authority: tuple[Path, Path], tmp_path: Path) -> None:
    cert, asked = tmp_path / "cert.pem", request(tmp_path / "key.pem")
    certify(authority, asked, cert)
    content = cert.read_bytes()
    assert not certify(authority, asked, cert)
    assert not certify(authority, asked, cert, now=NOW + timedelta(days=360))
    assert cert.read_bytes() == content
    assert certify(authority, asked, cert, now=NOW + timedelta(days=370))
    assert cert.read_bytes() != content


def test_another_key_identity_or_name_needs_another_certificate(
    authority: tuple[Path, Path], tmp_path: Path
) -> None:
    cert, asked = tmp_path / "cert.pem", request(tmp_path / "key.pem")
    certify(authority, asked, cert)
    assert certify(authority, request(tmp_path / "other.pem"), cert, dry_run=True)
    assert certify(authority, asked, cert, identity=Identity(Role.PROXY, "site-2"), dry_run=True)
    assert certify(authority, asked, cert, names=("relay.example.org",), dry_run=True)
    assert not certify(authority, asked, cert)


def test_a_dry_run_writes_nothing(authority: tuple[Path, Path], tmp_path: Path) -> None:
    assert certify(authority, request(tmp_path / "key.pem"), tmp_path / "cert.pem", dry_run=True)
    assert not (tmp_path / "cert.pem").exists()


def test_nothing_that_a_request_says_is_believed(authority: tuple[Path, Path], tmp_path: Path) -> None:
    cert = tmp_path / "cert.pem"
    certify(
        authority, request(tmp_path / "key.pem"), cert, identity=Identity(Role.SERVER, "s"), names=("a.b",)
    )
    found = read_certificates(cert)[1][0]
    names = found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.UniformResourceIdentifier) == ["spiffe://tunneler/server/s"]
    assert names.get_values_for_type(x509.DNSName) == ["a.b"]


@pytest.mark.parametrize("broken", [b"", b"-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n"])
def test_what_is_no_request_is_refused(authority: tuple[Path, Path], tmp_path: Path, broken: bytes) -> None:
    with pytest.raises(PkiError, match="expected a request in PEM form"):
        certify(authority, broken, tmp_path / "cert.pem")


def test_an_authority_without_its_own_key_is_refused(authority: tuple[Path, Path], tmp_path: Path) -> None:
    asked = request(tmp_path / "key.pem")
    with pytest.raises(PkiError, match="does not fit"):
        certify((authority[0], tmp_path / "key.pem"), asked, tmp_path / "cert.pem")


def test_a_request_that_its_key_did_not_sign_is_refused(authority: tuple[Path, Path], tmp_path: Path) -> None:
    asked = x509.load_pem_x509_csr(request(tmp_path / "key.pem"))
    other = x509.load_pem_x509_csr(request(tmp_path / "other.pem"))
    forged = other.public_bytes(Encoding.DER)
    named = asked.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    theirs = other.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    assert theirs in forged
    stolen = x509.load_der_x509_csr(forged.replace(theirs, named)).public_bytes(Encoding.PEM)
    with pytest.raises(PkiError, match="not signed with the key that it names"):
        certify(authority, stolen, tmp_path / "cert.pem")
