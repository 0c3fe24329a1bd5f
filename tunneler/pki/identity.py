"""Read who a peer is out of its certificate: one URI, and nothing else.

DNS names say where a server is dialled, never who somebody is: they do not count here, and
neither does the common name.
"""

from __future__ import annotations

from cryptography import x509

from tunneler.addresses import Identity
from tunneler.errors import PkiError

MALFORMED = (ValueError, x509.InvalidVersion, x509.DuplicateExtension, x509.UnsupportedGeneralNameType)
"""What cryptography raises on reading a certificate, or its extensions, that is not well-formed."""


def identity_of_certificate(certificate_pem: bytes) -> Identity:
    """The identity in the first certificate of ``certificate_pem``, which is the peer's own.

    Whether the certificate is to be trusted is not looked at: TLS has done so before.

    Raises:
        PkiError: not a certificate, or one that does not name a party of ours.
    """
    try:
        certificate = x509.load_pem_x509_certificate(certificate_pem)
    except MALFORMED as error:
        raise PkiError("expected a certificate in PEM form") from error
    return identity_in(certificate)


def identity_in(certificate: x509.Certificate) -> Identity:
    """As :func:`identity_of_certificate`, of a certificate already parsed.

    Raises:
        PkiError: the certificate does not name a party of ours.
    """
    try:
        uris = _uris(certificate)
        if _is_authority(certificate):
            # X509-SVID, 5.2: who may sign is not, by that, a party.
            raise PkiError("the certificate is that of an authority, not of a party")
        if len(uris) != 1:
            # X509-SVID, 2: a certificate names exactly one party.
            raise PkiError(f"expected exactly one URI as subject alternative name, not {len(uris)}")
        return Identity.parse(uris[0])
    except MALFORMED as error:
        reason = " ".join(str(error).split())
        raise PkiError(f"the certificate names no party of ours: {reason}") from error


def _uris(certificate: x509.Certificate) -> list[str]:
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return []
    return names.get_values_for_type(x509.UniformResourceIdentifier)


def _is_authority(certificate: x509.Certificate) -> bool:
    try:
        return certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except x509.ExtensionNotFound:
        return False
