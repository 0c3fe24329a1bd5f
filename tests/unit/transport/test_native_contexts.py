"""TLS contexts of the native transport: versions, ciphers, renewal, and where the key may be seen."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, PrivateFormat

from tests.loopback.peers import Material
from tests.loopback.running import descriptors
from tests.loopback.trio import HOST
from tunneler.addresses import Identity, Role
from tunneler.errors import TransportError
from tunneler.pki.identity import identity_of_certificate
from tunneler.pki.issue import issue_authority, issue_leaf
from tunneler.transport.native.contexts import context_source
from tunneler.transport.seam import Security, TlsMaterial

V12, V13 = ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3


@dataclass(frozen=True)
class Pem:
    """See :class:`tunneler.transport.seam.TlsMaterial`."""

    certificate_chain: bytes
    private_key: bytes
    certificate_authority: bytes


def context(
    pki: Path, holder: str, *, server_side: bool, minimum: ssl.TLSVersion | None = None
) -> ssl.SSLContext:
    security = Security(Material(pki, holder), identity_of_certificate)
    if minimum is not None:
        security = security._replace(minimum_version=minimum)
    return context_source(security, server_side=server_side)()


def foreign_context(pki: Path, holder: str, *, server_side: bool, newest: ssl.TLSVersion) -> ssl.SSLContext:
    """What another program makes of the same certificates."""
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER if server_side else ssl.PROTOCOL_TLS_CLIENT)
    made.load_verify_locations(pki / "ca" / "cert.pem")
    made.load_cert_chain(pki / holder / "cert.pem", pki / holder / "key.pem")
    made.verify_mode = ssl.CERT_REQUIRED
    made.maximum_version = newest
    made.set_alpn_protocols(["h2"])
    return made


def shaken(dialling: ssl.SSLContext, listening: ssl.SSLContext) -> ssl.SSLObject:
    """Shake hands in memory; return the dialling end.

    Raises:
        ssl.SSLError: one of them would not.
    """
    up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
    near = dialling.wrap_bio(down, up, server_hostname=HOST)
    far = listening.wrap_bio(up, down, server_side=True)
    for _ in range(5):
        for end in (near, far):
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue
    assert near.version() == far.version()
    assert near.selected_alpn_protocol() == "h2"
    return near


# Versions and ciphers.


@pytest.mark.parametrize("minimum", [None, V12, V13])
def test_between_two_of_ours(pki: Path, minimum: ssl.TLSVersion | None) -> None:
    near = shaken(
        context(pki, "client", server_side=False, minimum=minimum),
        context(pki, "server", server_side=True, minimum=minimum),
    )
    assert near.version() == "TLSv1.3"


@pytest.mark.parametrize("minimum", [None, V13, V12])
def test_tls_1_2_where_it_is_allowed(pki: Path, minimum: ssl.TLSVersion | None) -> None:
    """Both ways: with an old client, and with an old server."""
    as_client = (
        context(pki, "client", server_side=False, minimum=minimum),
        foreign_context(pki, "server", server_side=True, newest=V12),
    )
    as_server = (
        foreign_context(pki, "client", server_side=False, newest=V12),
        context(pki, "server", server_side=True, minimum=minimum),
    )
    for pair in (as_client, as_server):
        if minimum is V12:
            near = shaken(*pair)
            assert near.version() == "TLSv1.2"
            name, _, _ = near.cipher() or ("", "", 0)
            assert name.startswith("ECDHE-")
            assert "GCM" in name or "CHACHA20" in name
        else:
            with pytest.raises(ssl.SSLError):
                shaken(*pair)


@pytest.mark.parametrize("ciphers", ["ECDHE+AES:!AESGCM:!AESCCM", "kRSA"])
def test_ciphers_that_http2_forbids(pki: Path, ciphers: str) -> None:
    """RFC 9113, appendix A: no CBC, no key exchange without forward secrecy."""
    old = foreign_context(pki, "client", server_side=False, newest=V12)
    old.set_ciphers(ciphers)
    with pytest.raises(ssl.SSLError):
        shaken(old, context(pki, "server", server_side=True, minimum=V12))


# Renewal.


def test_made_anew_when_the_material_is(pki: Path) -> None:
    materials = [Material(pki, "client"), Material(pki, "client")]
    shown = [materials[0]]
    source = context_source(Security(lambda: shown[0], identity_of_certificate), server_side=False)
    first = source()
    assert source() is first
    shown[0] = materials[1]
    assert source() is not first
    assert source() is source()


def test_plaintext_has_none() -> None:
    with pytest.raises(ValueError, match="plaintext"):
        context_source(Security(None, identity_of_certificate), server_side=False)


# The key, and what cannot be used.


def test_key_is_on_no_disk(pki: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """ssl reads it out of memory without a name, which is gone afterwards."""
    read: list[str] = []
    load = ssl.SSLContext.load_cert_chain

    def seen(self: ssl.SSLContext, path: str, **options: str) -> None:
        read.append(str(Path(path).readlink()))
        load(self, path, **options)

    monkeypatch.setattr(ssl.SSLContext, "load_cert_chain", seen)
    before = descriptors()
    context(pki, "client", server_side=False)
    assert read == ["/memfd:tunneler-tls (deleted)"]
    assert descriptors() == before


@pytest.fixture(scope="module")
def good() -> Pem:
    authority = issue_authority(datetime.now(UTC))
    leaf = issue_leaf(authority, Identity(Role.CLIENT, "client"), datetime.now(UTC))
    return Pem(leaf.certificate_pem(), leaf.private_key_pem(), authority.certificate_pem())


def with_password(pem: Pem) -> Pem:
    key = issue_authority(datetime.now(UTC)).private_key
    encrypted = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret"))
    return Pem(pem.certificate_chain, encrypted, pem.certificate_authority)


BAD: dict[str, Callable[[Pem], Pem]] = {
    "no certificate": lambda pem: Pem(b"", pem.private_key, pem.certificate_authority),
    "no key": lambda pem: Pem(pem.certificate_chain, b"", pem.certificate_authority),
    "no authority": lambda pem: Pem(pem.certificate_chain, pem.private_key, b""),
    "nonsense": lambda pem: Pem(b"nonsense", b"nonsense", b"nonsense"),
    "cut off": lambda pem: Pem(pem.certificate_chain[:200], pem.private_key, pem.certificate_authority),
    "another's key": lambda pem: Pem(
        pem.certificate_chain,
        issue_authority(datetime.now(UTC)).private_key_pem(),
        pem.certificate_authority,
    ),
    "not ASCII": lambda pem: Pem(pem.certificate_chain, pem.private_key, "–".encode()),
    "password": with_password,
    "NUL": lambda pem: Pem(pem.certificate_chain, pem.private_key, b"\0"),
}


@pytest.mark.parametrize("spoil", BAD.values(), ids=BAD)
@pytest.mark.parametrize("server_side", [False, True])
def test_bad_material(good: Pem, spoil: Callable[[Pem], Pem], server_side: bool) -> None:
    material: TlsMaterial = spoil(good)
    source = context_source(Security(lambda: material, identity_of_certificate), server_side=server_side)
    before = descriptors()
    with pytest.raises(TransportError, match="cannot be used") as caught:
        source()
    assert "\n" not in str(caught.value)
    assert descriptors() == before
