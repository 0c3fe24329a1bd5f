"""Certificates that are renewed while links are up: real files, real links."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from itertools import count
from pathlib import Path

import pytest
from cryptography import x509

from tests.loopback.running import background, until
from tests.loopback.trio import HOST
from tests.unit.transport.harness import Transport, grpcio_secured, native_secured
from tests.unit.transport.streams import Scribe
from tunneler.addresses import HostPort, Identity, Role
from tunneler.pki.credentials import Credentials
from tunneler.pki.identity import identity_of_certificate
from tunneler.pki.issue import Issued, issue_authority, issue_leaf
from tunneler.pki.renewal import RenewedCredentials
from tunneler.transport.seam import BatchStream, Security


class Site:
    """An authority, the files of a client and a server, and what each of these takes from them."""

    def __init__(self, directory: Path) -> None:
        self._authority = issue_authority(datetime.now(UTC))
        self._directory = directory
        self.complaints: list[str] = []
        self.callers: list[int] = []
        """Serial numbers of the client's certificates that the listener was shown."""
        self._path("ca").write_bytes(self._authority.certificate_pem())
        for role in (Role.CLIENT, Role.SERVER):
            self._path(f"{role}-key").touch(0o600)
            self.write(role, self.issue(role))

    def _path(self, name: str) -> Path:
        return self._directory / f"{name}.pem"

    def issue(self, role: Role) -> Issued:
        names = [HOST] if role is Role.SERVER else []
        return issue_leaf(self._authority, Identity(role, role.value), datetime.now(UTC), names)

    def write(self, role: Role, issued: Issued, parts: str = "cert key") -> int:
        """Returns the certificate's serial number."""
        if "cert" in parts:
            self._path(f"{role}-cert").write_bytes(issued.certificate_pem())
        if "key" in parts:
            self._path(f"{role}-key").write_bytes(issued.private_key_pem())
        return issued.certificate.serial_number

    def renew(self, role: Role) -> int:
        return self.write(role, self.issue(role))

    def security(self, role: Role) -> Security:
        seconds = count(step=2)
        source = RenewedCredentials(
            self._path(f"{role}-cert"),
            self._path(f"{role}-key"),
            self._path("ca"),
            role,
            renewed=_nothing,
            not_renewed=lambda error: self.complaints.append(str(error)),
            clock=lambda: float(next(seconds)),
        )
        return Security(source, self._identify)

    def _identify(self, pem: bytes) -> Identity:
        identity = identity_of_certificate(pem)
        if identity.role is Role.CLIENT:
            self.callers.append(x509.load_pem_x509_certificate(pem).serial_number)
        return identity

    def break_certificate(self, role: Role) -> None:
        self._path(f"{role}-cert").write_text("nonsense")

    async def shown_at(self, address: HostPort) -> int:
        """Serial number of the certificate that a new connection to the listener is shown."""
        return await asyncio.to_thread(self._shown_at, address)

    def _shown_at(self, address: HostPort) -> int:
        context = ssl.create_default_context(cafile=self._path("ca"))
        context.load_cert_chain(self._path("client-cert"), self._path("client-key"))
        context.set_alpn_protocols(["h2"])
        with (
            socket.create_connection(address) as sock,
            context.wrap_socket(sock, server_hostname=HOST) as tls,
        ):
            der = tls.getpeercert(binary_form=True)
        assert der is not None
        return x509.load_der_x509_certificate(der).serial_number


def _nothing(_: Credentials) -> None:
    pass


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


SECURED: dict[str, Callable[[Security, Security], Transport]] = {
    "grpcio": grpcio_secured,
    "native": native_secured,
}


@pytest.fixture(params=SECURED)
def transport(site: Site, request: pytest.FixtureRequest) -> Transport:
    return SECURED[request.param](site.security(Role.CLIENT), site.security(Role.SERVER))


@asynccontextmanager
async def listening(transport: Transport) -> AsyncIterator[list[Scribe]]:
    """Yields the far ends of the links that are made."""
    accepted: list[Scribe] = []

    def attach(stream: BatchStream) -> Scribe:
        accepted.append(Scribe(stream))
        accepted[-1].send(b"greeting")
        return accepted[-1]

    async with transport.listener.serve(transport.address, attach):
        yield accepted


@asynccontextmanager
async def dialled(transport: Transport) -> AsyncIterator[Scribe]:
    """Yields the near end of a link that has been greeted."""
    made: list[Scribe] = []

    def attach(stream: BatchStream) -> Scribe:
        made.append(Scribe(stream))
        return made[-1]

    async with background(transport.dialer.run_link(transport.address, attach)):
        await until(lambda: made and made[0].batches == [b"greeting"])
        yield made[0]


async def received(scribe: Scribe, batch: bytes) -> None:
    await until(lambda: scribe.batches == [batch])


async def test_listener_shows_a_renewed_certificate_to_new_links(site: Site, transport: Transport) -> None:
    async with listening(transport) as accepted, dialled(transport) as old:
        serial = site.renew(Role.SERVER)
        assert await site.shown_at(transport.address) == serial
        async with dialled(transport) as new:
            for near, far in zip((old, new), accepted, strict=True):
                near.send(b"still here")
                await received(far, b"still here")
        serial = site.renew(Role.SERVER)
        assert await site.shown_at(transport.address) == serial
    assert site.complaints == []


async def test_renewed_before_the_first_link(site: Site, transport: Transport) -> None:
    async with listening(transport):
        serial = site.renew(Role.SERVER)
        assert await site.shown_at(transport.address) == serial


async def test_dialler_shows_a_renewed_certificate_on_new_links(site: Site, transport: Transport) -> None:
    async with listening(transport) as accepted, dialled(transport) as old:
        serial = site.renew(Role.CLIENT)
        async with dialled(transport):
            assert site.callers[-1] == serial
            assert len(set(site.callers)) == 2
        old.send(b"still here")
        await received(accepted[0], b"still here")


async def test_a_broken_file_keeps_the_old_certificate(site: Site, transport: Transport) -> None:
    async with listening(transport):
        before = await site.shown_at(transport.address)
        site.break_certificate(Role.SERVER)
        assert await site.shown_at(transport.address) == before
        async with dialled(transport):
            pass
        (complaint,) = site.complaints
        assert "expected a certificate" in complaint


async def test_half_a_pair_keeps_the_old_certificate(site: Site, transport: Transport) -> None:
    async with listening(transport):
        before = await site.shown_at(transport.address)
        issued = site.issue(Role.SERVER)
        site.write(Role.SERVER, issued, "cert")
        assert await site.shown_at(transport.address) == before
        site.write(Role.SERVER, issued, "key")
        assert await site.shown_at(transport.address) == issued.certificate.serial_number
        (complaint,) = site.complaints
        assert "does not fit" in complaint
