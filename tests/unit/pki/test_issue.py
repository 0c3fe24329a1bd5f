"""Every property of an issued certificate, as cryptography reads it and as openssl judges it."""

from __future__ import annotations

import subprocess
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID, ObjectIdentifier

from tunneler.addresses import Identity, Role
from tunneler.errors import PkiError
from tunneler.pki.issue import (
    CA_VALIDITY,
    CLOCK_SKEW,
    LEAF_VALIDITY,
    Issued,
    alternative_names_of,
    issue_authority,
    issue_leaf,
)

NOW = datetime(2026, 5, 4, 3, 2, 1, 999_999, tzinfo=UTC)
START = datetime(2026, 5, 4, 2, 57, 1, tzinfo=UTC)

USAGES = (
    "digital_signature",
    "content_commitment",
    "key_encipherment",
    "data_encipherment",
    "key_agreement",
    "key_cert_sign",
    "crl_sign",
)


@pytest.fixture(scope="module")
def authority() -> Issued:
    return issue_authority(NOW)


@pytest.fixture(scope="module", params=list(Role))
def leaf(request: pytest.FixtureRequest, authority: Issued) -> tuple[Identity, Issued]:
    identity = Identity(request.param, "name-1")
    return identity, issue_leaf(authority, identity, NOW)


def used(certificate: x509.Certificate) -> set[str]:
    usage = certificate.extensions.get_extension_for_class(x509.KeyUsage).value
    return {name for name in USAGES if getattr(usage, name)}


def criticality(certificate: x509.Certificate) -> dict[str, bool]:
    return {type(extension.value).__name__: extension.critical for extension in certificate.extensions}


def test_authority_may_sign_leaves_and_revocation_lists_only(authority: Issued) -> None:
    certificate = authority.certificate
    constraints = certificate.extensions.get_extension_for_class(x509.BasicConstraints).value
    assert (constraints.ca, constraints.path_length) == (True, 0)
    assert used(certificate) == {"key_cert_sign", "crl_sign"}
    assert criticality(certificate) == {
        "SubjectKeyIdentifier": False,
        "BasicConstraints": True,
        "KeyUsage": True,
        "AuthorityKeyIdentifier": False,
    }
    certificate.verify_directly_issued_by(certificate)


def test_authority_validity(authority: Issued) -> None:
    assert timedelta(minutes=5) == CLOCK_SKEW
    assert authority.certificate.not_valid_before_utc == START
    assert authority.certificate.not_valid_after_utc == START + CA_VALIDITY == START + timedelta(days=3650)


def test_two_authorities_have_different_subjects_and_keys(authority: Issued) -> None:
    other = issue_authority(NOW)
    assert other.certificate.subject != authority.certificate.subject
    assert other.private_key_pem() != authority.private_key_pem()


def test_leaf_is_no_authority_and_signs_handshakes_only(leaf: tuple[Identity, Issued]) -> None:
    certificate = leaf[1].certificate
    constraints = certificate.extensions.get_extension_for_class(x509.BasicConstraints).value
    assert (constraints.ca, constraints.path_length) == (False, None)
    assert used(certificate) == {"digital_signature"}
    assert criticality(certificate) == {
        "SubjectKeyIdentifier": False,
        "BasicConstraints": True,
        "KeyUsage": True,
        "ExtendedKeyUsage": False,
        "SubjectAlternativeName": False,
        "AuthorityKeyIdentifier": False,
    }


@pytest.mark.parametrize(
    ("role", "purpose"),
    [
        (Role.SERVER, ExtendedKeyUsageOID.SERVER_AUTH),
        (Role.CLIENT, ExtendedKeyUsageOID.CLIENT_AUTH),
        (Role.PROXY, ExtendedKeyUsageOID.CLIENT_AUTH),
    ],
)
def test_leaf_has_the_one_purpose_of_its_role(
    authority: Issued, role: Role, purpose: ObjectIdentifier
) -> None:
    certificate = issue_leaf(authority, Identity(role, "a"), NOW).certificate
    assert list(certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value) == [purpose]


def test_leaf_names_its_holder_by_uri(leaf: tuple[Identity, Issued]) -> None:
    identity, issued = leaf
    names = issued.certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert list(names) == [x509.UniformResourceIdentifier(f"spiffe://tunneler/{identity.role}/name-1")]
    assert [attribute.value for attribute in issued.certificate.subject] == ["name-1"]
    assert issued.certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)


def test_leaf_is_bound_to_its_authority(authority: Issued, leaf: tuple[Identity, Issued]) -> None:
    certificate = leaf[1].certificate
    certificate.verify_directly_issued_by(authority.certificate)
    issuer = certificate.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value
    own = authority.certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    assert issuer.key_identifier == own.digest
    with pytest.raises(ValueError, match=r"[Ii]ssuer"):
        certificate.verify_directly_issued_by(issue_authority(NOW).certificate)


def test_leaf_validity(leaf: tuple[Identity, Issued]) -> None:
    certificate = leaf[1].certificate
    assert certificate.not_valid_before_utc == START
    assert certificate.not_valid_after_utc == START + LEAF_VALIDITY == START + timedelta(days=397)


def test_leaf_does_not_outlive_its_authority(authority: Issued) -> None:
    late = NOW + CA_VALIDITY - timedelta(days=10)
    certificate = issue_leaf(authority, Identity(Role.PROXY, "a"), late).certificate
    assert certificate.not_valid_after_utc == authority.certificate.not_valid_after_utc


def test_keys_are_p256_and_serials_random(authority: Issued, leaf: tuple[Identity, Issued]) -> None:
    for issued in (authority, leaf[1]):
        assert isinstance(issued.private_key, ec.EllipticCurvePrivateKey)
        assert isinstance(issued.private_key.curve, ec.SECP256R1)
        assert issued.certificate.public_key() == issued.private_key.public_key()
    serials = {issue_leaf(authority, leaf[0], NOW).certificate.serial_number for _ in range(20)}
    assert len(serials) == 20
    # RFC 5280, 4.1.2.2: positive and at most 20 octets; CA/B 7.1: at least 64 random bits.
    assert all(0 < serial < 1 << 159 for serial in serials)
    assert max(serials) > 1 << 64


def test_server_names_are_told_apart(authority: Issued) -> None:
    names = ["Relay.example.org", "192.0.2.1", "2001:db8::1", "*.example.org", "relay.example.org", "server"]
    certificate = issue_leaf(authority, Identity(Role.SERVER, "a"), NOW, names).certificate
    found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert found.get_values_for_type(x509.DNSName) == ["relay.example.org", "*.example.org", "server"]
    assert found.get_values_for_type(x509.IPAddress) == [ip_address("192.0.2.1"), ip_address("2001:db8::1")]


@pytest.mark.parametrize(
    "name",
    [
        "",
        "relay:8081",
        "[::1]",
        "10.0.0.256",
        "10.0.0",
        "fe80::1%eth0",
        "reläy.example.org",
        "a..b",
        "-a.example",
        "a b",
        "a\nb",
        "relay.example.org.",
        "a.*.example",
        "x" * 64,
        ".".join(["abcdefg"] * 32),
        "192.0.2.0/24",
        "https://relay",
    ],
)
def test_other_server_names_are_refused_in_one_line(name: str) -> None:
    with pytest.raises(PkiError, match="expected a DNS name") as caught:
        alternative_names_of([name])
    assert "\n" not in str(caught.value)


def test_time_without_zone_is_a_mistake() -> None:
    with pytest.raises(ValueError, match="time zone"):
        issue_authority(NOW.replace(tzinfo=None))


@pytest.mark.parametrize(
    ("role", "purpose", "fits"),
    [
        (Role.SERVER, "sslserver", True),
        (Role.SERVER, "sslclient", False),
        (Role.CLIENT, "sslclient", True),
        (Role.CLIENT, "sslserver", False),
        (Role.PROXY, "sslclient", True),
        (Role.PROXY, "sslserver", False),
    ],
)
def test_openssl_agrees_on_the_purpose(
    tmp_path: Path, authority: Issued, role: Role, purpose: str, fits: bool
) -> None:
    leaf = issue_leaf(authority, Identity(role, "a"), NOW, ["localhost"] if role is Role.SERVER else [])
    assert openssl_verifies(tmp_path, authority, leaf, "-purpose", purpose) is fits


def test_openssl_refuses_another_authority_and_a_leaf_that_signs(tmp_path: Path, authority: Issued) -> None:
    leaf = issue_leaf(authority, Identity(Role.CLIENT, "a"), NOW)
    assert openssl_verifies(tmp_path, authority, leaf)
    assert not openssl_verifies(tmp_path, issue_authority(NOW), leaf)
    forged = issue_leaf(leaf, Identity(Role.CLIENT, "b"), NOW)
    chain = tmp_path / "untrusted.pem"
    chain.write_bytes(leaf.certificate_pem())
    assert not openssl_verifies(tmp_path, authority, forged, "-untrusted", str(chain))


def openssl_verifies(directory: Path, authority: Issued, leaf: Issued, *options: str) -> bool:
    """As `openssl verify`, with every check of RFC 5280 that it has."""
    ca, cert = directory / "ca.pem", directory / "cert.pem"
    ca.write_bytes(authority.certificate_pem())
    cert.write_bytes(leaf.certificate_pem())
    moment = ["-attime", str(int(NOW.timestamp()))]
    command = ["openssl", "verify", "-x509_strict", *moment, *options, "-CAfile", str(ca), str(cert)]
    return subprocess.run(command, check=False, capture_output=True, timeout=20).returncode == 0
