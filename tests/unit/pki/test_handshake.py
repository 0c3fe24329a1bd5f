"""Real TLS handshakes with generated files: who gets through to whom."""

from __future__ import annotations

import socket
import ssl
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tunneler.addresses import Identity, Role
from tunneler.pki.identity import identity_of_certificate
from tunneler.pki.store import generate

HANDSHAKE_SECONDS = 10.0


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return generated(tmp_path_factory.mktemp("ours"))


@pytest.fixture(scope="module")
def foreign(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return generated(tmp_path_factory.mktemp("foreign"))


def generated(directory: Path) -> Path:
    generate(directory, ["relay.example.org", "192.0.2.1", "::1"], force=False, now=datetime.now(UTC))
    return directory


def context(side: int, holder: Path | None, authority: Path) -> ssl.SSLContext:
    """Strict as RFC 5280 wants, which is Python's own default from 3.13 on."""
    made = ssl.SSLContext(side)
    made.verify_mode = ssl.CERT_REQUIRED
    made.verify_flags |= ssl.VERIFY_X509_STRICT
    made.load_verify_locations(authority / "ca" / "cert.pem")
    if holder is not None:
        made.load_cert_chain(holder / "cert.pem", holder / "key.pem")
    return made


def listener(holder: Path, authority: Path) -> ssl.SSLContext:
    return context(ssl.PROTOCOL_TLS_SERVER, holder, authority)


def dialler(holder: Path | None, authority: Path) -> ssl.SSLContext:
    return context(ssl.PROTOCOL_TLS_CLIENT, holder, authority)


def handshake(server: ssl.SSLContext, client: ssl.SSLContext, name: str = "relay.example.org") -> Identity:
    """Who the server sees, after a byte went each way.

    In TLS 1.3 a client learns that its certificate was refused only when it reads.

    Raises:
        ssl.SSLError: of the side that refused the other.
    """
    near, far = socket.socketpair()
    near.settimeout(HANDSHAKE_SECONDS)
    far.settimeout(HANDSHAKE_SECONDS)

    def serve() -> Identity:
        with far, server.wrap_socket(far, server_side=True) as link:
            link.sendall(link.recv(1))
            der = link.getpeercert(binary_form=True)
            assert der is not None
            return identity_of_certificate(ssl.DER_cert_to_PEM_cert(der).encode())

    def dial() -> None:
        with near, client.wrap_socket(near, server_hostname=name) as link:
            link.sendall(b"x")
            assert link.recv(1) == b"x"

    with ThreadPoolExecutor(2) as pool:
        served, dialled = pool.submit(serve), pool.submit(dial)
        faults = [fault for fault in (served.exception(), dialled.exception()) if fault is not None]
    for fault in faults:
        if isinstance(fault, ssl.SSLCertVerificationError) or "PEER_DID_NOT_RETURN" in str(fault):
            raise fault
    assert not faults
    return served.result()


@pytest.mark.parametrize("role", [Role.CLIENT, Role.PROXY])
@pytest.mark.parametrize("name", ["relay.example.org", "192.0.2.1", "::1"])
def test_both_sides_of_one_authority_agree(ours: Path, role: Role, name: str) -> None:
    seen = handshake(listener(ours / "server", ours), dialler(ours / role, ours), name)
    assert seen == Identity(role, role.value)


def test_server_refuses_a_certificate_of_another_authority(ours: Path, foreign: Path) -> None:
    with pytest.raises(ssl.SSLCertVerificationError):
        handshake(listener(ours / "server", ours), dialler(foreign / "client", ours))


def test_client_refuses_a_server_of_another_authority(ours: Path, foreign: Path) -> None:
    with pytest.raises(ssl.SSLCertVerificationError):
        handshake(listener(foreign / "server", ours), dialler(ours / "client", ours))


def test_server_refuses_a_peer_without_certificate(ours: Path) -> None:
    with pytest.raises(ssl.SSLError, match="PEER_DID_NOT_RETURN_A_CERTIFICATE"):
        handshake(listener(ours / "server", ours), dialler(None, ours))


def test_server_certificate_does_not_serve_as_that_of_a_client(ours: Path) -> None:
    with pytest.raises(ssl.SSLCertVerificationError, match="purpose"):
        handshake(listener(ours / "server", ours), dialler(ours / "server", ours))


@pytest.mark.parametrize("role", [Role.CLIENT, Role.PROXY])
def test_no_other_certificate_serves_as_that_of_a_server(ours: Path, role: Role) -> None:
    client = dialler(ours / "client", ours)
    client.check_hostname = False  # the purpose must suffice: these certificates carry no DNS name at all
    with pytest.raises(ssl.SSLCertVerificationError, match="purpose"):
        handshake(listener(ours / role, ours), client)


@pytest.mark.parametrize("name", ["other.example.org", "192.0.2.2", "localhost"])
def test_client_refuses_a_server_under_another_name(ours: Path, name: str) -> None:
    with pytest.raises(ssl.SSLCertVerificationError, match=r"mismatch|not valid for"):
        handshake(listener(ours / "server", ours), dialler(ours / "client", ours), name)
