"""What a role shows its peers, and whom it believes: loaded from files and checked at once.

TLS would refuse most of what is refused here, but only once a peer connects, at the far end,
and in words that do not name a file.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from cryptography import x509

from tunneler.addresses import Identity, Role
from tunneler.errors import PkiError
from tunneler.pki.identity import MALFORMED, identity_in
from tunneler.pki.issue import PURPOSE
from tunneler.pki.pem import is_signed_by, read_certificates, read_private_key, require_fit, require_valid_at

EXPIRY_WARNING_DAYS = 30
"""A role says so in its log from this many days before its certificate expires."""


@dataclass(frozen=True, slots=True)
class Credentials:
    """Checked TLS material of one role, every part in PEM form.

    Attributes:
        certificate_chain: the role's certificate, then any intermediate ones.
        private_key: the key of the first certificate of the chain.
        certificate_authority: the authorities whose word about peers is taken.
        identity: what the certificate says of this role.
    """

    certificate_chain: bytes
    private_key: bytes = field(repr=False)
    certificate_authority: bytes
    identity: Identity


def load_credentials(
    cert_file: Path, key_file: Path, ca_file: Path, role: Role, *, now: datetime
) -> Credentials:
    """Read and check the three files of a role.

    The key file is refused when anybody but its owner can write it or others can read it; the
    group may read it, as systemd's LoadCredential= (0400, or 0440 with an ACL) needs.

    Args:
        cert_file: the certificate of this role, then any intermediate ones.
        key_file: its private key, without passphrase.
        ca_file: the authorities that vouch for peers, and for this certificate too.
        role: what the certificate must name its holder.
        now: the current time, with its time zone.

    Raises:
        PkiError: a file is missing, unreadable or not PEM, the key does not fit, the certificate
            is not valid now, not signed by the authority, or not one for ``role``.
    """
    chain_pem, chain = read_certificates(cert_file)
    key_pem, key = read_private_key(key_file)
    ca_pem, authorities = read_certificates(ca_file)
    leaf = chain[0]
    require_fit(leaf, cert_file, key, key_file, advice="give the key that the certificate was made for")
    identity = _identity(leaf, cert_file, role)
    _require_purpose(leaf, cert_file, role)
    path = _path(leaf, chain[1:], authorities)
    if not path:
        raise PkiError(
            f"{cert_file}: not signed by {ca_file}; give the CA certificate that it was issued with"
        )
    for certificate in path:
        file = ca_file if certificate in authorities else cert_file
        require_valid_at(now, certificate, file, advice="replace it (see tunneler-gencerts --help)")
    return Credentials(chain_pem, key_pem, ca_pem, identity)


def days_left(credentials: Credentials, *, now: datetime) -> int:
    """Whole days until the certificate, or the first of those that vouch for it, expires.

    Negative once that has happened. A role warns below :data:`EXPIRY_WARNING_DAYS`.
    """
    chain = x509.load_pem_x509_certificates(credentials.certificate_chain)
    authorities = x509.load_pem_x509_certificates(credentials.certificate_authority)
    path = _path(chain[0], chain[1:], authorities)
    return (min(certificate.not_valid_after_utc for certificate in path) - now).days


def _identity(leaf: x509.Certificate, cert_file: Path, role: Role) -> Identity:
    wanted = f"a {role} needs a certificate for spiffe://tunneler/{role}/<name>"
    try:
        identity = identity_in(leaf)
    except PkiError as error:
        raise PkiError(f"{cert_file}: {error}; {wanted}") from error
    if identity.role is not role:
        raise PkiError(f"{cert_file}: is the certificate of {identity.uri}; {wanted}")
    return identity


def _require_purpose(leaf: x509.Certificate, cert_file: Path, role: Role) -> None:
    try:
        purposes = leaf.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except x509.ExtensionNotFound:
        return  # RFC 5280, 4.2.1.12: without the extension, any purpose is allowed
    except MALFORMED as error:
        raise PkiError(f"{cert_file}: malformed certificate: {error}; issue it again") from error
    if PURPOSE[role] not in purposes:
        name = "serverAuth" if role is Role.SERVER else "clientAuth"
        raise PkiError(
            f"{cert_file}: a {role} needs {name} as extended key usage; issue the certificate with it"
        )


def _path(
    leaf: x509.Certificate, intermediates: Sequence[x509.Certificate], authorities: Sequence[x509.Certificate]
) -> list[x509.Certificate]:
    """The certificates from the leaf up to one of the authorities; empty when none is reached."""
    path = [leaf]
    while len(path) <= len(intermediates) + 1:
        for authority in authorities:
            if is_signed_by(path[-1], authority):
                return [*path, authority]
        issuer = next((one for one in intermediates if one not in path and is_signed_by(path[-1], one)), None)
        if issuer is None:
            return []
        path.append(issuer)
    return []
