"""Loading what a role shows its peers: what works, and one line for each thing that does not."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from tunneler.addresses import Identity, Role
from tunneler.errors import ExitStatus, PkiError
from tunneler.pki.credentials import EXPIRY_WARNING_DAYS, Credentials, days_left, load_credentials
from tunneler.pki.issue import CA_VALIDITY, LEAF_VALIDITY, Issued, issue_authority, issue_leaf
from tunneler.pki.store import generate

NOW = datetime(2026, 1, 1, tzinfo=UTC)
NOBODY = 65534


@pytest.fixture
def certs(tmp_path: Path) -> Path:
    generate(tmp_path, force=False, now=NOW)
    return tmp_path


def load(directory: Path, role: Role = Role.CLIENT, *, now: datetime = NOW, holder: str = "") -> Credentials:
    own = directory / (holder or role)
    return load_credentials(own / "cert.pem", own / "key.pem", directory / "ca" / "cert.pem", role, now=now)


def refusal(directory: Path, role: Role = Role.CLIENT, *, now: datetime = NOW, holder: str = "") -> str:
    with pytest.raises(PkiError) as caught:
        load(directory, role, now=now, holder=holder)
    text = str(caught.value)
    assert "\n" not in text
    assert text.startswith(str(directory))
    return text.removeprefix(f"{directory}/")


@pytest.mark.parametrize("role", list(Role))
def test_what_was_generated_is_loaded(certs: Path, role: Role) -> None:
    credentials = load(certs, role)
    assert credentials.identity == Identity(role, role.value)
    assert credentials.certificate_chain == (certs / role / "cert.pem").read_bytes()
    assert credentials.private_key == (certs / role / "key.pem").read_bytes()
    assert credentials.certificate_authority == (certs / "ca" / "cert.pem").read_bytes()


def test_the_private_key_is_not_shown(certs: Path) -> None:
    credentials = load(certs)
    assert "PRIVATE" not in repr(credentials)
    assert "private_key" not in repr(credentials)


@pytest.mark.parametrize("name", ["client/cert.pem", "client/key.pem", "ca/cert.pem"])
def test_missing(certs: Path, name: str) -> None:
    (certs / name).unlink()
    assert refusal(certs) == f"{name}: no such file; make it with tunneler-gencerts or correct the path"


@pytest.mark.parametrize("name", ["client/cert.pem", "client/key.pem", "ca/cert.pem"])
@pytest.mark.parametrize(
    "content", [b"", b"nonsense", b"-----BEGIN CERTIFICATE-----\nAA\n", bytes(range(256))]
)
def test_not_pem(certs: Path, name: str, content: bytes) -> None:
    (certs / name).write_bytes(content)
    kind = "private key" if "key" in name else "certificate"
    assert refusal(certs).startswith(f"{name}: expected a {kind} in PEM form")


@pytest.mark.parametrize("name", ["client/cert.pem", "client/key.pem", "ca/cert.pem"])
def test_not_a_file_or_far_too_large(certs: Path, name: str) -> None:
    (certs / name).write_bytes(b"x" * (1 << 20) + b"x")
    assert refusal(certs).startswith(f"{name}: larger than 1048576 bytes")
    (certs / name).unlink()
    (certs / name).mkdir()
    assert refusal(certs).startswith(f"{name}: cannot be read: Is a directory")


@pytest.fixture
def as_nobody() -> Iterator[Path]:
    """A generated set, while this process has no privilege and owns the client's files."""
    with tempfile.TemporaryDirectory() as name:
        certs = Path(name)  # not tmp_path: nobody but root gets past its parents
        certs.chmod(0o755)
        generate(certs, force=False, now=NOW)
        if os.geteuid() != 0:
            yield certs
            return
        for path in (certs / "client" / "cert.pem", certs / "client" / "key.pem", certs / "ca" / "cert.pem"):
            os.chown(path, NOBODY, NOBODY)
        os.seteuid(NOBODY)
        try:
            yield certs
        finally:
            os.seteuid(0)


@pytest.mark.parametrize("name", ["client/cert.pem", "client/key.pem", "ca/cert.pem"])
def test_unreadable(as_nobody: Path, name: str) -> None:
    load(as_nobody)
    (as_nobody / name).chmod(0)
    wanted = f"{name}: permission denied; let the user that runs tunneler read it (now uid {os.geteuid()})"
    assert refusal(as_nobody) == wanted


@pytest.mark.parametrize("mode", [0o400, 0o600, 0o440, 0o640])
def test_a_key_of_the_owner_and_a_reading_group_is_taken(certs: Path, mode: int) -> None:
    (certs / "client" / "key.pem").chmod(mode)
    load(certs)


@pytest.mark.parametrize("mode", [0o644, 0o604, 0o602, 0o601, 0o620, 0o660, 0o777])
def test_a_key_that_others_can_get_at_is_refused(certs: Path, mode: int) -> None:
    key = certs / "client" / "key.pem"
    key.chmod(mode)
    wanted = f"client/key.pem: others can get at this private key (mode {mode:04o}); run chmod g-w,o= {key}"
    assert refusal(certs) == wanted


def test_a_link_is_judged_by_the_file_behind_it(certs: Path) -> None:
    """Kubernetes and /etc/alternatives hand out links, whose own mode is always 0777."""
    key = certs / "client" / "key.pem"
    key.rename(certs / "real.pem")
    key.symlink_to(certs / "real.pem")
    load(certs)
    (certs / "real.pem").chmod(0o644)
    assert "others can get at" in refusal(certs)


def test_key_of_another_certificate(certs: Path) -> None:
    shutil.copy(certs / "proxy" / "key.pem", certs / "client" / "key.pem")
    assert refusal(certs).startswith(f"client/key.pem: does not fit {certs}/client/cert.pem; ")


def test_encrypted_key(certs: Path) -> None:
    path = certs / "client" / "key.pem"
    key = load_pem_private_key(path.read_bytes(), None)
    path.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret")))
    assert refusal(certs).startswith("client/key.pem: the private key is encrypted with a passphrase; ")


def test_key_of_a_kind_that_is_not_supported(certs: Path) -> None:
    key = ed25519.Ed25519PrivateKey.generate()
    content = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (certs / "client" / "key.pem").write_bytes(content)
    assert refusal(certs).startswith("client/key.pem: expected an ECDSA or RSA key; ")


def test_expired_and_not_yet_valid(certs: Path) -> None:
    end = NOW + LEAF_VALIDITY
    assert refusal(certs, now=end).startswith("client/cert.pem: expired on 2027-02-01 23:55 UTC; replace it")
    early = NOW - timedelta(days=1)
    wanted = "client/cert.pem: valid only from 2025-12-31 23:55 UTC on; check this machine's clock"
    assert refusal(certs, now=early) == wanted


def test_only_time_can_help_a_certificate_that_is_not_yet_valid(certs: Path) -> None:
    """A service manager may start us again, and the clock may be right then."""
    with pytest.raises(PkiError) as early:
        load(certs, now=NOW - timedelta(days=1))
    with pytest.raises(PkiError) as late:
        load(certs, now=NOW + LEAF_VALIDITY)
    assert (early.value.exit_status, late.value.exit_status) == (ExitStatus.FAILURE, ExitStatus.CREDENTIALS)


def test_expired_authority(certs: Path) -> None:
    """Only an authority of somebody else's making: ours never certifies beyond its own end."""
    write_foreign_client(certs, "spiffe://tunneler/client/a", NOW + CA_VALIDITY + timedelta(days=1))
    assert refusal(certs, now=NOW + CA_VALIDITY).startswith("ca/cert.pem: expired on 2035-12-29 23:55 UTC; ")


def test_another_authority(certs: Path) -> None:
    (certs / "ca" / "cert.pem").write_bytes(issue_authority(NOW).certificate_pem())
    assert refusal(certs).startswith(f"client/cert.pem: not signed by {certs}/ca/cert.pem; ")


def test_one_of_several_authorities_suffices(certs: Path) -> None:
    """As while an old CA is being replaced by a new one."""
    ca = certs / "ca" / "cert.pem"
    expired = issue_authority(NOW - CA_VALIDITY * 2)
    ca.write_bytes(expired.certificate_pem() + issue_authority(NOW).certificate_pem() + ca.read_bytes())
    assert days_left(load(certs), now=NOW) == 396


@pytest.mark.parametrize(
    ("holder", "role"), [("client", Role.SERVER), ("server", Role.PROXY), ("proxy", Role.CLIENT)]
)
def test_certificate_of_another_role(certs: Path, holder: str, role: Role) -> None:
    assert refusal(certs, role, holder=holder) == (
        f"{holder}/cert.pem: is the certificate of spiffe://tunneler/{holder}/{holder};"
        f" a {role} needs a certificate for spiffe://tunneler/{role}/<name>"
    )


def test_certificate_that_names_no_party(certs: Path) -> None:
    write_foreign_client(certs, "https://example.org/", NOW + timedelta(days=1))
    text = refusal(certs)
    assert text.startswith("client/cert.pem: the certificate names no party of ours: expected spiffe://")
    assert text.endswith("; a client needs a certificate for spiffe://tunneler/client/<name>")


def test_foreign_certificate_without_a_stated_purpose_is_taken(certs: Path) -> None:
    write_foreign_client(certs, "spiffe://tunneler/client/a", NOW + timedelta(days=1))
    assert load(certs).identity == Identity(Role.CLIENT, "a")


def test_foreign_certificate_for_another_purpose_is_refused(certs: Path) -> None:
    server_auth = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH])
    write_foreign_client(certs, "spiffe://tunneler/client/a", NOW + timedelta(days=1), server_auth)
    assert refusal(certs).startswith("client/cert.pem: a client needs clientAuth as extended key usage; ")


def test_key_with_leading_parameters_is_loaded(certs: Path) -> None:
    """As `openssl ecparam -genkey` writes it."""
    path = certs / "client" / "key.pem"
    command = ["openssl", "ecparam", "-name", "prime256v1", "-genkey", "-out", str(path)]
    subprocess.run(command, check=True, capture_output=True, timeout=20)
    assert b"EC PARAMETERS" in path.read_bytes()
    assert "does not fit" in refusal(certs)


def test_intermediate_certificates_lead_to_the_authority(certs: Path) -> None:
    root = read_authority(certs)
    intermediate = sub_authority(root, "intermediate")
    leaf = issue_leaf(intermediate, Identity(Role.CLIENT, "a"), NOW)
    (certs / "client" / "key.pem").write_bytes(leaf.private_key_pem())
    cert = certs / "client" / "cert.pem"
    cert.write_bytes(leaf.certificate_pem())
    assert "not signed by" in refusal(certs)
    unrelated = sub_authority(issue_authority(NOW), "unrelated")
    cert.write_bytes(leaf.certificate_pem() + unrelated.certificate_pem() + intermediate.certificate_pem())
    credentials = load(certs)
    assert credentials.certificate_chain == cert.read_bytes()
    assert days_left(credentials, now=NOW) == 4  # the intermediate one expires first


def test_days_left(certs: Path) -> None:
    credentials = load(certs)
    assert EXPIRY_WARNING_DAYS == 30
    assert days_left(credentials, now=NOW) == 396
    assert days_left(credentials, now=NOW + timedelta(days=367)) == 29
    assert days_left(credentials, now=NOW + timedelta(days=398)) < 0
    assert replace(credentials, identity=Identity(Role.CLIENT, "b")).identity.name == "b"


def read_authority(directory: Path) -> Issued:
    key = load_pem_private_key((directory / "ca" / "key.pem").read_bytes(), None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    return Issued(x509.load_pem_x509_certificate((directory / "ca" / "cert.pem").read_bytes()), key)


def foreign(
    authority: Issued,
    name: str,
    not_after: datetime,
    extend: Callable[[x509.CertificateBuilder], x509.CertificateBuilder],
) -> Issued:
    key = ec.generate_private_key(ec.SECP256R1())
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
        .issuer_name(authority.certificate.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(NOW)
        .not_valid_after(not_after)
    )
    return Issued(extend(builder).sign(authority.private_key, SHA256()), key)


def sub_authority(authority: Issued, name: str) -> Issued:
    constraints = x509.BasicConstraints(ca=True, path_length=None)
    return foreign(
        authority, name, NOW + timedelta(days=4), lambda b: b.add_extension(constraints, critical=True)
    )


def write_foreign_client(
    directory: Path, uri: str, not_after: datetime, purpose: x509.ExtendedKeyUsage | None = None
) -> None:
    """Replace the client's certificate by one that the CA signed but tunneler did not make."""

    def extend(builder: x509.CertificateBuilder) -> x509.CertificateBuilder:
        names = x509.SubjectAlternativeName([x509.UniformResourceIdentifier(uri)])
        builder = builder.add_extension(names, critical=False)
        return builder.add_extension(purpose, critical=False) if purpose else builder

    issued = foreign(read_authority(directory), "x", not_after, extend)
    (directory / "client" / "cert.pem").write_bytes(issued.certificate_pem())
    (directory / "client" / "key.pem").write_bytes(issued.private_key_pem())
