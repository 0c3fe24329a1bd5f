"""The native dialler: names and addresses, silence, whom it believes, and cancellation at every await."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from tests.loopback.applications import SilentTarget, Target
from tests.loopback.peers import Material
from tests.loopback.running import background, descriptors, eventually, until
from tests.loopback.trio import HOST, free_port
from tests.unit.transport.harness import never_attached
from tests.unit.transport.streams import Scribe
from tunneler.addresses import HostPort, Identity, Role
from tunneler.errors import TransportError
from tunneler.pki import issue
from tunneler.pki.identity import identity_of_certificate
from tunneler.pki.issue import Issued, issue_authority, issue_leaf
from tunneler.sockets.reactor import Reactor
from tunneler.transport.native.dialer import NativeDialer
from tunneler.transport.native.listener import NativeListener
from tunneler.transport.seam import BatchStream, Security

TIMEOUT = 0.3


@contextmanager
def dialer(pki: Path | None, timeout: float = TIMEOUT) -> Iterator[NativeDialer]:
    """A client's; leaves nothing in its reactor."""
    security = Security(Material(pki, "client") if pki else None, identity_of_certificate)
    with Reactor() as reactor:
        yield NativeDialer(Role.CLIENT, security, reactor, timeout)
        assert len(reactor) == 0


@asynccontextmanager
async def listening(security: Security, port: int, host: str = HOST) -> AsyncIterator[list[Scribe]]:
    scribes: list[Scribe] = []

    def attach(stream: BatchStream) -> Scribe:
        scribes.append(Scribe(stream))
        scribes[-1].send(b"greeting")
        return scribes[-1]

    with Reactor() as reactor:
        listener = NativeListener(security, reactor, lambda: 100, lambda *_, **__: None)
        async with listener.serve(HostPort(host, port), attach):
            yield scribes


def server(pki: Path | None) -> Security:
    return Security(Material(pki, "server") if pki else None, identity_of_certificate)


@pytest.fixture(params=["plaintext", "TLS"])
def certificates(request: pytest.FixtureRequest, pki: Path) -> Path | None:
    return pki if request.param == "TLS" else None


async def told(certificates: Path | None, address: HostPort, seconds: float = TIMEOUT) -> str:
    """What the operator is told of a server that cannot be linked to."""
    with dialer(certificates, seconds) as dialling, pytest.raises(TransportError) as caught:
        await dialling.run_link(address, never_attached)
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith(f"{address}: ")
    return str(caught.value)


# Names and addresses.


async def test_name_that_nobody_knows(certificates: Path | None, monkeypatch: pytest.MonkeyPatch) -> None:
    async def getaddrinfo(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", getaddrinfo, raising=False)
    message = await told(certificates, HostPort("nobody.invalid", 1))
    assert message.endswith("Name or service not known; is the name right?")


@pytest.mark.parametrize("host", ["a" * 64 + ".invalid", "two..dots.invalid", "\udcff"])
async def test_name_that_is_none(certificates: Path | None, host: str) -> None:
    message = await told(certificates, HostPort(host, 1), 10)
    assert "right?" in message


Resolve = Callable[..., None]


@pytest.fixture
def resolve(monkeypatch: pytest.MonkeyPatch) -> Resolve:
    """Have localhost resolve to these addresses."""

    def to(*addresses: tuple[str, int]) -> None:
        loop = asyncio.get_running_loop()
        resolved = loop.getaddrinfo

        async def getaddrinfo(host: str, port: int, **options: Any) -> Any:
            if host != "localhost":  # uvloop asks for addresses, too
                return await resolved(host, port, **options)
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", address) for address in addresses]

        monkeypatch.setattr(loop, "getaddrinfo", getaddrinfo, raising=False)

    return to


async def test_first_of_two_addresses_refuses(certificates: Path | None, resolve: Resolve) -> None:
    port = free_port()
    async with listening(server(certificates), port) as accepted:
        resolve((HOST, 1), (HOST, port))
        with dialer(certificates, 3) as dialling:
            async with background(dialling.run_link(HostPort("localhost", 1), Scribe)):
                await until(lambda: accepted)
            await until(lambda: accepted[0].closed)


async def test_every_address_refuses(certificates: Path | None, resolve: Resolve) -> None:
    resolve((HOST, 1), (HOST, 2))
    assert "Connection refused; is the server running there?" in await told(
        certificates, HostPort("localhost", 1)
    )


async def test_no_address(certificates: Path | None, resolve: Resolve) -> None:
    resolve()
    assert "no address" in await told(certificates, HostPort("localhost", 1))


async def test_ipv6(certificates: Path | None) -> None:
    if certificates is not None:
        assert "name or address" in await refused_by_name(certificates)
        return
    port = free_port()
    async with listening(server(None), port, "::1") as accepted:
        with dialer(None, 3) as dialling:
            async with background(dialling.run_link(HostPort("::1", port), Scribe)):
                await until(lambda: accepted)
            await until(lambda: accepted[0].closed)


async def refused_by_name(pki: Path) -> str:
    """Its certificate is for 127.0.0.1, not for ::1."""
    port = free_port()
    async with listening(server(pki), port, "::1"):
        return await told(pki, HostPort("::1", port), 3)


# Silence.


@pytest.mark.parametrize("target", [SilentTarget, Target], ids=["no answer to SYN", "nothing after it"])
async def test_silence(certificates: Path | None, target: type[Target]) -> None:
    loop = asyncio.get_running_loop()
    with target() as silent:
        start = loop.time()
        assert "no answer within 0.3 s" in await told(certificates, HostPort(HOST, silent.port))
        assert loop.time() - start < 2


async def answering(target: Target, octets: bytes, *, stay: bool) -> None:
    sock = await target.accept()
    with sock:
        await asyncio.get_running_loop().sock_sendall(sock, octets)
        if stay:
            await asyncio.sleep(10)
        while await asyncio.get_running_loop().sock_recv(sock, 4096):
            pass


@pytest.mark.parametrize(
    "octets", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"SSH-2.0-OpenSSH_9.2\r\n", bytes(2000)]
)
async def test_not_a_server_of_ours(certificates: Path | None, octets: bytes) -> None:
    with Target() as other:
        async with background(answering(other, octets, stay=True)):
            assert await told(certificates, HostPort(HOST, other.port))


async def test_server_that_hangs_up(certificates: Path | None) -> None:
    async def hang_up(target: Target) -> None:
        (await target.accept()).close()

    with Target() as other:
        async with background(hang_up(other)):
            message = await told(certificates, HostPort(HOST, other.port))
    assert "cut off" in message or "reset by peer" in message


# Whom it believes.


@dataclass(frozen=True)
class Pem:
    """See :class:`tunneler.transport.seam.TlsMaterial`."""

    certificate_chain: bytes
    private_key: bytes
    certificate_authority: bytes

    def __call__(self) -> Pem:
        return self


def security(authority: Issued, holder: Issued) -> Security:
    pem = Pem(holder.certificate_pem(), holder.private_key_pem(), authority.certificate_pem())
    return Security(pem, identity_of_certificate)


@pytest.mark.parametrize("role", [Role.CLIENT, Role.PROXY])
async def test_server_whose_identity_is_another_roles(monkeypatch: pytest.MonkeyPatch, role: Role) -> None:
    """Its purpose (TLS server) and its name are right; who it is, by URI, is not: no call is made."""
    now = datetime.now(UTC)
    authority = issue_authority(now)
    client = issue_leaf(authority, Identity(Role.CLIENT, "client"), now)
    monkeypatch.setitem(issue.PURPOSE, role, issue.PURPOSE[Role.SERVER])
    impostor = issue_leaf(authority, Identity(role, "mallory"), now, [HOST])
    port = free_port()
    async with listening(security(authority, impostor), port) as accepted:
        with Reactor() as reactor:
            dialling = NativeDialer(Role.CLIENT, security(authority, client), reactor, 3)
            with pytest.raises(TransportError, match=f"{role}/mallory, which is not a server"):
                await dialling.run_link(HostPort(HOST, port), never_attached)
    assert accepted == []


async def test_material_that_cannot_be_used(pki: Path) -> None:
    """Found before anything is opened."""
    spoilt = Material(pki, "client")
    spoilt.private_key = b"nonsense"
    before = descriptors()
    with Target() as target, Reactor() as reactor:
        dialling = NativeDialer(Role.CLIENT, Security(spoilt, identity_of_certificate), reactor, 3)
        with pytest.raises(TransportError, match="cannot be used"):
            await dialling.run_link(HostPort(HOST, target.port), never_attached)
    assert descriptors() == before


# Cancellation.


async def cancelled_after(turns: int, certificates: Path | None, address: HostPort) -> None:
    """Cancel a dial after so many turns of the loop; it leaves no descriptor and nothing to watch."""
    before = descriptors()
    with dialer(certificates, 10) as dialling:
        async with background(dialling.run_link(address, Scribe)) as (task,):
            for _ in range(turns):
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.wait((task,))
            assert task.cancelled()
    assert await eventually(lambda: not {kind for kind in descriptors() - before if kind == "socket"}, 2)


@pytest.mark.parametrize("turns", [0, 1, 2, 3, 5, 8, 20, 100])
async def test_cancelled(certificates: Path | None, turns: int) -> None:
    with SilentTarget() as silent, Target() as mute:
        port = free_port()
        async with listening(server(certificates), port):
            for address in (silent.port, mute.port, port):
                await cancelled_after(turns, certificates, HostPort(HOST, address))


async def test_cancelled_while_a_name_is_resolved(pki: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started = asyncio.Event()

    async def getaddrinfo(*_: object, **__: object) -> None:
        started.set()
        await asyncio.sleep(100)

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", getaddrinfo, raising=False)
    with dialer(pki, 10) as dialling:
        async with background(dialling.run_link(HostPort("localhost", 1), never_attached)) as (task,):
            await started.wait()
            task.cancel()
            await asyncio.wait((task,))
            assert task.cancelled()
