"""Who a certificate says its holder is, and every way in which it may fail to say so."""

from __future__ import annotations

import contextlib
import ssl
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID
from hypothesis import given
from hypothesis import strategies as st

from tunneler.addresses import Identity, Role
from tunneler.errors import PkiError
from tunneler.pki.identity import identity_of_certificate
from tunneler.pki.issue import issue_authority, issue_leaf

NOW = datetime(2026, 1, 1, tzinfo=UTC)
KEY = ec.generate_private_key(ec.SECP256R1())
AUTHORITY = issue_authority(NOW)
GENUINE = issue_leaf(AUTHORITY, Identity(Role.PROXY, "proxy-1"), NOW).certificate_pem()
GENUINE_DER = ssl.PEM_cert_to_DER_cert(GENUINE.decode())


def uri(text: str) -> x509.GeneralName:
    return x509.UniformResourceIdentifier(text)


def certificate(
    names: Sequence[x509.GeneralName], common_name: str = "x", *, ca: bool | None = None
) -> bytes:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(KEY.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(NOW)
        .not_valid_after(NOW + timedelta(days=1))
    )
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    if ca is not None:
        builder = builder.add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
    return builder.sign(KEY, SHA256()).public_bytes(Encoding.PEM)


@pytest.mark.parametrize("role", list(Role))
def test_what_was_issued_is_read_back(role: Role) -> None:
    identity = Identity(role, "site-b.host_2")
    assert (
        identity_of_certificate(issue_leaf(AUTHORITY, identity, NOW, ["localhost"]).certificate_pem())
        == identity
    )


def test_first_certificate_of_a_chain_is_the_peer() -> None:
    assert identity_of_certificate(GENUINE + AUTHORITY.certificate_pem()) == Identity(Role.PROXY, "proxy-1")


def test_foreign_certificate_without_basic_constraints_counts() -> None:
    pem = certificate([x509.DNSName("localhost"), uri("spiffe://tunneler/client/a")])
    assert identity_of_certificate(pem) == Identity(Role.CLIENT, "a")


@pytest.mark.parametrize(
    ("pem", "reason"),
    [
        pytest.param(b"", "PEM", id="empty"),
        pytest.param(b"spiffe://tunneler/client/a", "PEM", id="not PEM"),
        pytest.param(GENUINE[:200], "PEM", id="cut short"),
        pytest.param(GENUINE.replace(b"MII", b"MIJ", 1), "PEM", id="broken DER"),
        pytest.param(certificate([]), "exactly one URI.* not 0", id="no alternative name"),
        pytest.param(
            certificate([], "spiffe://tunneler/client/a"), "exactly one URI.* not 0", id="URI as common name"
        ),
        pytest.param(
            certificate([x509.DNSName("spiffe://tunneler/client/a")]),
            "exactly one URI.* not 0",
            id="URI as DNS name",
        ),
        pytest.param(
            certificate([x509.RFC822Name("client@tunneler")]), "exactly one URI.* not 0", id="mail address"
        ),
        pytest.param(
            certificate([uri("spiffe://tunneler/client/a"), uri("spiffe://tunneler/proxy/a")]),
            "exactly one URI.* not 2",
            id="two",
        ),
        pytest.param(
            certificate([uri("spiffe://tunneler/client/a"), uri("https://example.org/")]),
            "exactly one URI.* not 2",
            id="one of ours, one foreign",
        ),
        pytest.param(
            certificate([uri("spiffe://example.org/client/a")]), "expected spiffe", id="other domain"
        ),
        pytest.param(certificate([uri("spiffe://tunneler/admin/a")]), "expected spiffe", id="other role"),
        pytest.param(certificate([uri("spiffe://tunneler/client/a/b")]), "expected spiffe", id="longer path"),
        pytest.param(certificate([uri("spiffe://tunneler/client/a\n")]), "expected spiffe", id="line end"),
        pytest.param(certificate([uri("SPIFFE://tunneler/client/a")]), "expected spiffe", id="upper case"),
        pytest.param(certificate([uri("spiffe://tunneler/client/a")], ca=True), "authority", id="authority"),
        pytest.param(AUTHORITY.certificate_pem(), "authority", id="our own authority"),
    ],
)
def test_whatever_else_is_refused_in_one_line(pem: bytes, reason: str) -> None:
    with pytest.raises(PkiError, match=reason) as caught:
        identity_of_certificate(pem)
    assert "\n" not in str(caught.value)


@given(st.binary(max_size=64))
def test_no_bytes_raise_anything_else(noise: bytes) -> None:
    with pytest.raises(PkiError):
        identity_of_certificate(noise)


@pytest.mark.filterwarnings("ignore:Parsed a serial number:cryptography.utils.CryptographyDeprecationWarning")
@given(position=st.integers(0, len(GENUINE_DER) - 1), value=st.integers(0, 255))
def test_no_damaged_certificate_raises_anything_else(position: int, value: int) -> None:
    damaged = bytearray(GENUINE_DER)
    damaged[position] = value
    with contextlib.suppress(PkiError):
        identity_of_certificate(ssl.DER_cert_to_PEM_cert(bytes(damaged)).encode())
