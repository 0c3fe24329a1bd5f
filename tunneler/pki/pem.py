"""Read certificates and keys from files, and check that they belong together.

Every error is one line for an operator: the file, what is wrong with it, what to do.
"""

from __future__ import annotations

import os
import stat
from datetime import datetime
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

from tunneler.errors import NotYetValid, PkiError
from tunneler.pki.identity import MALFORMED
from tunneler.pki.issue import PrivateKey

MAX_FILE_BYTES = 1 << 20
"""No chain of certificates is as large; a device or a log named by mistake is not read whole."""

FORBIDDEN_KEY_MODE = stat.S_IRWXO | stat.S_IWGRP
"""What nobody but its owner may do with a key file.

The group may read: systemd's credentials (LoadCredential=) show 0440 when access is granted by an
ACL, and Debian's ssl-cert group uses 0640. PostgreSQL draws the same line for its ssl_key_file.
"""


def read_certificates(path: Path) -> tuple[bytes, list[x509.Certificate]]:
    """The content of a PEM file, and every certificate in it (at least one).

    Raises:
        PkiError: it cannot be read or holds no certificate.
    """
    content = _read(path, forbidden_mode=0)
    try:
        return content, x509.load_pem_x509_certificates(content)
    except MALFORMED as error:
        raise PkiError(f"{path}: expected a certificate in PEM form (-----BEGIN CERTIFICATE-----)") from error


def read_private_key(path: Path) -> tuple[bytes, PrivateKey]:
    """The content of a PEM file, and the private key in it.

    Raises:
        PkiError: it cannot be read, others can read it, or it holds no usable key.
    """
    content = _read(path, forbidden_mode=FORBIDDEN_KEY_MODE)
    try:
        key = load_pem_private_key(content, password=None)
    except TypeError as error:
        hint = f"write it without one: openssl pkey -in {path} -out NEW"
        raise PkiError(f"{path}: the private key is encrypted with a passphrase; {hint}") from error
    except (ValueError, UnsupportedAlgorithm) as error:
        raise PkiError(f"{path}: expected a private key in PEM form (-----BEGIN PRIVATE KEY-----)") from error
    if not isinstance(key, (ec.EllipticCurvePrivateKey, rsa.RSAPrivateKey)):
        raise PkiError(f"{path}: expected an ECDSA or RSA key; make one with tunneler-gencerts")
    return content, key


def require_fit(
    certificate: x509.Certificate, cert_file: Path, key: PrivateKey, key_file: Path, *, advice: str
) -> None:
    """Raises PkiError, with ``advice`` at its end, when the key is not that of the certificate."""
    form = (Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    if certificate.public_key().public_bytes(*form) != key.public_key().public_bytes(*form):
        raise PkiError(f"{key_file}: does not fit {cert_file}; {advice}")


def require_valid_at(now: datetime, certificate: x509.Certificate, path: Path, *, advice: str) -> None:
    """Raises PkiError when the certificate is not yet valid, or has expired: ``advice`` is for then."""
    start, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    if now > end:
        raise PkiError(f"{path}: expired on {end:%Y-%m-%d %H:%M} UTC; {advice}")
    if now < start:
        raise NotYetValid(
            f"{path}: valid only from {start:%Y-%m-%d %H:%M} UTC on; check this machine's clock"
        )


def is_signed_by(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    """Whether the names match and the issuer's key made the signature."""
    try:
        certificate.verify_directly_issued_by(issuer)
    except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm):
        # ValueError: another issuer's name. TypeError: a key of a kind that cannot sign.
        return False
    return True


def _read(path: Path, *, forbidden_mode: int) -> bytes:
    try:
        with path.open("rb") as file:
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
            if mode & forbidden_mode:
                raise PkiError(
                    f"{path}: others can get at this private key (mode {mode:04o}); run chmod g-w,o= {path}"
                )
            content = file.read(MAX_FILE_BYTES + 1)
    except FileNotFoundError as error:
        raise PkiError(f"{path}: no such file; make it with tunneler-gencerts or correct the path") from error
    except PermissionError as error:
        hint = f"let the user that runs tunneler read it (now uid {os.geteuid()})"
        raise PkiError(f"{path}: permission denied; {hint}") from error
    except OSError as error:
        raise PkiError(f"{path}: cannot be read: {error.strerror}; give a file in PEM form") from error
    if len(content) > MAX_FILE_BYTES:
        raise PkiError(f"{path}: larger than {MAX_FILE_BYTES} bytes; give a file in PEM form")
    return content
