"""Make certificates: a certificate authority, and what it signs for the three roles.

Pure: no file is touched and the time is an argument. Profile: RFC 5280, and for the name of
a party the X509-SVID document of SPIFFE (one URI in the subject alternative name).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from ipaddress import ip_address

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID, ObjectIdentifier

from tunneler.addresses import Identity, Role
from tunneler.errors import PkiError

CA_VALIDITY = timedelta(days=3650)
"""Ten years, the default of easy-rsa (EASYRSA_CA_EXPIRE) and of step-ca for a private root."""

LEAF_VALIDITY = timedelta(days=397)
"""The most that the CA/Browser Forum's Baseline Requirements (6.3.2, of 2020) recommend: there is no
revocation here either, so a lost key must lose its worth by itself."""

CLOCK_SKEW = timedelta(minutes=5)
"""How far ``not_before`` is set back, so that a peer whose clock is behind accepts a new certificate."""

DEFAULT_SERVER_NAMES = ("localhost", "127.0.0.1", "::1")

PURPOSE: dict[Role, ObjectIdentifier] = {
    Role.CLIENT: ExtendedKeyUsageOID.CLIENT_AUTH,
    Role.SERVER: ExtendedKeyUsageOID.SERVER_AUTH,
    # A proxy dials out, so in TLS it is a client; only the URI tells the two apart.
    Role.PROXY: ExtendedKeyUsageOID.CLIENT_AUTH,
}
"""The extended key usage that the certificate of a role needs."""

PrivateKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey
"""What is made here is ECDSA P-256; an operator's own CA or certificate may use RSA."""

PublicKey = ec.EllipticCurvePublicKey | rsa.RSAPublicKey

# RFC 1123, 2.1, with a wildcard as the whole leftmost label (RFC 6125, 6.4.3).
_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_DNS_NAME = re.compile(rf"(?:\*\.)?(?:{_LABEL}\.)*{_LABEL}")


@dataclass(frozen=True, slots=True)
class Issued:
    """A certificate and the private key that belongs to it."""

    certificate: x509.Certificate
    private_key: PrivateKey

    def certificate_pem(self) -> bytes:
        return self.certificate.public_bytes(Encoding.PEM)

    def private_key_pem(self) -> bytes:
        """The key as unencrypted PKCS #8."""
        return self.private_key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def issue_authority(now: datetime) -> Issued:
    """Make a self-signed certificate authority that may sign leaves only.

    Args:
        now: the current time, with its time zone.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    key_identifier = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    # Issuers are looked up by subject: two authorities in one bundle must not share theirs.
    name = _name(f"tunneler CA {key_identifier.digest.hex()[:16]}")
    certificate = (
        _certificate(name, name, key.public_key(), _start(now) + CA_VALIDITY, now)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(authority=True), critical=True)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(key_identifier), False)
        .sign(key, SHA256())
    )
    return Issued(certificate, key)


def issue_leaf(
    authority: Issued, identity: Identity, now: datetime, server_names: Sequence[str] = ()
) -> Issued:
    """Make the key of one party and have its certificate signed.

    Args:
        authority: who signs; the certificate does not outlive the authority's own.
        identity: what the certificate says of its holder, as a URI.
        now: the current time, with its time zone.
        server_names: DNS names and IP addresses that clients dial; for a server only.

    Raises:
        PkiError: a server name is neither a DNS name nor an address.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    return Issued(sign_leaf(authority, identity, key.public_key(), now, server_names), key)


def sign_leaf(
    authority: Issued,
    identity: Identity,
    public_key: PublicKey,
    now: datetime,
    server_names: Sequence[str] = (),
) -> x509.Certificate:
    """Certify whose key this is; arguments and errors as for :func:`issue_leaf`."""
    alternative_names = [x509.UniformResourceIdentifier(identity.uri), *alternative_names_of(server_names)]
    not_after = min(_start(now) + LEAF_VALIDITY, authority.certificate.not_valid_after_utc)
    return (
        _certificate(_name(identity.name), authority.certificate.subject, public_key, not_after, now)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(authority=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([PURPOSE[identity.role]]), critical=False)
        # Not critical, as the subject is not empty (RFC 5280, 4.2.1.6).
        .add_extension(x509.SubjectAlternativeName(alternative_names), critical=False)
        .add_extension(_authority_key_identifier(authority.certificate), critical=False)
        .sign(authority.private_key, SHA256())
    )


def issue_request(key: PrivateKey) -> bytes:
    """Ask for a certificate of this key (PKCS #10, PEM).

    It proves that its sender has the key, and says no more: whose key it is, the authority decides.
    """
    request = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([])).sign(key, SHA256())
    return request.public_bytes(Encoding.PEM)


def alternative_names_of(server_names: Sequence[str]) -> list[x509.GeneralName]:
    """Tell addresses and DNS names apart; a repeated name counts once.

    Raises:
        PkiError: neither a DNS name nor an address.
    """
    names: list[x509.GeneralName] = []
    for text in server_names:
        name = _alternative_name(text)
        if name not in names:
            names.append(name)
    return names


def _alternative_name(text: str) -> x509.GeneralName:
    try:
        address = ip_address(text)
    except ValueError:
        # A name that ends in a number is an address gone wrong (10.0.0.256), never a host.
        if len(text) <= 253 and _DNS_NAME.fullmatch(text) and not text.rpartition(".")[2].isdigit():
            return x509.DNSName(text.lower())
    else:
        # An address with a scope (fe80::1%eth0) means nothing to another host.
        if "%" not in text:
            return x509.IPAddress(address)
    raise PkiError(
        f"server name {text!r}: expected a DNS name such as relay.example.org (ASCII, without port)"
        " or an IP address such as 192.0.2.1 or 2001:db8::1 (without brackets)"
    )


def _certificate(
    subject: x509.Name, issuer: x509.Name, public_key: PublicKey, not_after: datetime, now: datetime
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(_start(now))
        .not_valid_after(not_after)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
    )


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _start(now: datetime) -> datetime:
    if now.tzinfo is None:
        raise ValueError("the time needs its time zone")
    return now.replace(microsecond=0) - CLOCK_SKEW


def _key_usage(*, authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not authority,
        key_cert_sign=authority,
        crl_sign=authority,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _authority_key_identifier(authority: x509.Certificate) -> x509.AuthorityKeyIdentifier:
    """RFC 5280, 4.2.1.1: the authority's own subject key identifier, whatever way it was made."""
    try:
        subject = authority.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    except x509.ExtensionNotFound:
        subject = x509.SubjectKeyIdentifier.from_public_key(authority.public_key())
    return x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(subject)
