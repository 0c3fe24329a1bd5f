"""Certificates for keys that never leave their host: it asks, and who has the authority answers.

The request proves that its sender has the key. Whose key it is, the signer says; nothing that a host writes
into a request is believed.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from tunneler.addresses import Identity
from tunneler.errors import PkiError
from tunneler.pki.files import CERTIFICATE_MODE, KEY_MODE, make_directory, stage, sync
from tunneler.pki.identity import MALFORMED
from tunneler.pki.issue import Issued, PublicKey, issue_request, sign_leaf
from tunneler.pki.pem import is_signed_by, read_certificates, read_private_key, require_fit


def request(key_file: Path) -> bytes:
    """A request (PEM) for the key in a file, which is made if it does not exist.

    Raises:
        PkiError: the key cannot be read or written.
    """
    if key_file.exists() or key_file.is_symlink():
        return issue_request(read_private_key(key_file)[1])
    key = ec.generate_private_key(ec.SECP256R1())
    _write(key_file, key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()), KEY_MODE)
    return issue_request(key)


def sign(
    authority: tuple[Path, Path],
    identity: Identity,
    request_pem: bytes,
    cert_file: Path,
    *,
    server_names: Sequence[str],
    renew_within: timedelta,
    now: datetime,
    dry_run: bool = False,
) -> bool:
    """Put a certificate for the key of a request into a file, unless the one there will still do.

    Args:
        authority: the files of its certificate and of its key.
        identity: whose key it is.
        request_pem: what :func:`request` returned on the key's host.
        cert_file: written as a whole, or not at all.
        server_names: DNS names and IP addresses that clients dial; for a server only.
        renew_within: a certificate that ends earlier than this from now is replaced.
        now: the current time, with its time zone.
        dry_run: write nothing.

    Returns:
        Whether a certificate was, or with ``dry_run`` would be, written.

    Raises:
        PkiError: the request is none, the authority is not usable, or a file cannot be read or written.
    """
    public_key = _key_of(request_pem)
    signer = _authority(*authority)
    wanted = sign_leaf(signer, identity, public_key, now, server_names)
    if cert_file.exists():
        present = read_certificates(cert_file)[1][0]
        if _equivalent(present, wanted, signer) and present.not_valid_after_utc - now > renew_within:
            return False
    if not dry_run:
        _write(cert_file, wanted.public_bytes(Encoding.PEM), CERTIFICATE_MODE)
    return True


def _key_of(request_pem: bytes) -> PublicKey:
    try:
        found = x509.load_pem_x509_csr(request_pem)
        key, valid = found.public_key(), found.is_signature_valid
    except (*MALFORMED, UnsupportedAlgorithm) as error:
        raise PkiError("expected a request in PEM form, as tunneler pki request prints it") from error
    if not valid:
        raise PkiError("the request is not signed with the key that it names; make it again")
    if not isinstance(key, ec.EllipticCurvePublicKey | rsa.RSAPublicKey):
        raise PkiError(
            "the request is for neither an ECDSA nor an RSA key; make it with tunneler pki request"
        )
    return key


def _authority(cert_file: Path, key_file: Path) -> Issued:
    certificate = read_certificates(cert_file)[1][0]
    key = read_private_key(key_file)[1]
    require_fit(
        certificate, cert_file, key, key_file, advice="give the certificate and the key of one authority"
    )
    return Issued(certificate, key)


def _equivalent(present: x509.Certificate, wanted: x509.Certificate, signer: Issued) -> bool:
    """Whether they differ in nothing but the serial number and the time."""
    return (
        present.public_key() == wanted.public_key()
        and is_signed_by(present, signer.certificate)
        and present.subject == wanted.subject
        and _names(present) == _names(wanted)
    )


def _names(certificate: x509.Certificate) -> list[x509.GeneralName]:
    try:
        return list(certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value)
    except (x509.ExtensionNotFound, *MALFORMED):
        return []


def _write(path: Path, content: bytes, mode: int) -> None:
    try:
        make_directory(path.parent)
        temporary, final = stage(path, content, mode)
        try:
            temporary.replace(final)
        finally:
            temporary.unlink(missing_ok=True)
        sync(final.parent)
    except OSError as error:
        raise PkiError(f"{path}: cannot be written: {error.strerror}; correct that and run again") from error
