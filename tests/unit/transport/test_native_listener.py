"""Whom the native listener keeps, for how long, and what it does when it cannot go on.

What peers say that break the rules, or nothing at all, is in tests/http2.
"""

from __future__ import annotations

import asyncio
import socket
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.http2.conformance import response_on
from tests.http2.listening import Place, listening
from tests.http2.rawframes import (
    CLIENT_STREAM,
    PROXY_STREAM,
    Error,
    Kind,
    headers,
    health_call,
    request,
)
from tests.http2.rawpeer import RawPeer
from tests.loopback.applications import reset
from tests.loopback.peers import Material
from tests.loopback.running import until
from tests.loopback.trio import HOST, free_port
from tests.unit.transport.harness import never_attached
from tunneler.addresses import ANY_HOST, HostPort
from tunneler.errors import TransportError
from tunneler.pki.identity import identity_of_certificate
from tunneler.sockets.acceptor import listen
from tunneler.sockets.reactor import Reactor
from tunneler.transport.native import guest
from tunneler.transport.native.listener import NativeListener
from tunneler.transport.seam import Security

PERMISSION_DENIED, DEADLINE_EXCEEDED = "7", "4"


@pytest.fixture(params=["plaintext", "TLS"])
def certificates(request: pytest.FixtureRequest, pki: Path) -> Path | None:
    return pki if request.param == "TLS" else None


async def linked(place: Place, peer: RawPeer, path: str = CLIENT_STREAM) -> None:
    """Have a peer begin a link, and wait until it has one."""
    before = len(place.links)
    await peer.start()
    await peer.send(headers(1, request(path)))
    await until(lambda: len(place.links) == before + 1)


# How many.


async def test_no_more_guests_than_agreed(certificates: Path | None) -> None:
    async with listening(certificates, max_guests=2) as place, AsyncExitStack() as peers:
        guests = [await peers.enter_async_context(place.peer()) for _ in range(2)]
        for peer in guests:
            await linked(place, peer)
        async with place.peer() as late:
            await late.to_the_end()
        ((event, fields),) = place.reports
        assert event == "peer_turned_away"
        assert "max_links" in str(fields["reason"])
        guests[0].close()
        await until(lambda: place.open_links == 1)
        async with place.peer() as later:
            await linked(place, later)


async def test_oldest_stranger_goes(certificates: Path | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those who have shown who they are stay, and an honest newcomer is let in."""
    monkeypatch.setattr("tunneler.transport.native.listener.MAX_STRANGERS", 3)
    async with listening(certificates) as place, AsyncExitStack() as peers:
        known = await peers.enter_async_context(place.peer())
        await linked(place, known)
        if certificates is None:  # where nobody is certified, nobody is a stranger
            return
        strangers = [await peers.enter_async_context(place.peer()) for _ in range(3)]
        async with place.peer() as honest:
            await linked(place, honest)
            await strangers[0].to_the_end()
            assert [stranger.ending for stranger in strangers[1:]] == ["", ""]
            await known.answers_ping()
        assert [event for event, _ in place.reports] == ["handshake_failed"]


# How long.


async def test_guest_who_has_called_may_rest(
    certificates: Path | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For longer than one who never called, and not for ever."""
    monkeypatch.setattr(guest, "FIRST_CALL_SECONDS", 0.3)
    monkeypatch.setattr(guest, "IDLE_SECONDS", 1.2)
    loop = asyncio.get_running_loop()
    async with listening(certificates) as place, place.started() as peer:
        await peer.send(health_call())
        await response_on(peer, 1)
        start = loop.time()
        assert await peer.goaway() is Error.NO_ERROR
        assert 1.1 <= loop.time() - start <= 2.5


async def test_guest_with_a_link_may_be_silent(
    certificates: Path | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is silent on a link is the link's business (and the keepalive's)."""
    monkeypatch.setattr(guest, "FIRST_CALL_SECONDS", 0.1)
    monkeypatch.setattr(guest, "IDLE_SECONDS", 0.1)
    async with listening(certificates) as place, place.peer() as peer:
        await linked(place, peer)
        await asyncio.sleep(0.8)  # three looks at the clock
        assert place.open_links == 1
        await peer.answers_ping()


async def test_silent_guest_is_asked_and_given_up(
    certificates: Path | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tunneler.transport.native.carrier.KEEPALIVE_SECONDS", 0.3)
    monkeypatch.setattr("tunneler.transport.native.carrier.KEEPALIVE_TIMEOUT", 0.5)
    async with listening(certificates) as place, place.peer() as peer:
        await linked(place, peer)
        await peer.until(lambda frame: frame.kind == Kind.PING)
        await peer.to_the_end()
        assert "nothing heard" in str(place.links[0].error)


async def test_link_with_a_deadline(certificates: Path | None) -> None:
    """By grpc-timeout, as the caller wishes."""
    async with listening(certificates) as place, place.started() as peer:
        await peer.send(headers(1, request(CLIENT_STREAM, ("grpc-timeout", "300m"))))
        response = await response_on(peer, 1)
        assert response.grpc_status == DEADLINE_EXCEEDED
        await until(lambda: place.links[0].closed)
        await peer.answers_ping()


# Who.


@pytest.mark.parametrize(("holder", "path"), [("client", PROXY_STREAM), ("proxy", CLIENT_STREAM)])
async def test_role_that_may_not_call_is_told_and_reported(pki: Path, holder: str, path: str) -> None:
    async with listening(pki) as place, place.peer(holder) as peer:
        await peer.start()
        await peer.send(headers(1, request(path)))
        assert (await response_on(peer, 1)).grpc_status == PERMISSION_DENIED
        ((event, fields),) = place.reports
        assert event == "peer_denied"
        assert f"spiffe://tunneler/{holder}/{holder} may not call {path}" in str(fields["reason"])
        assert place.links == []


# What it cannot do.


class Renewed:
    """A source of material that is spoilt later."""

    def __init__(self, pki: Path) -> None:
        self.material = Material(pki, "server")

    def __call__(self) -> Material:
        return self.material


async def test_unusable_material_is_found_at_the_start(pki: Path) -> None:
    source = Renewed(pki)
    source.material.private_key = b"nonsense"
    with Reactor() as reactor:
        listener = NativeListener(Security(source, identity_of_certificate), reactor, lambda: 10, no_report)
        with pytest.raises(TransportError, match="cannot be used"):
            async with listener.serve(HostPort(HOST, free_port()), never_attached):
                pass
        assert len(reactor) == 0


async def test_unusable_material_later_costs_a_newcomer_only(pki: Path) -> None:
    """Every one is reported, and those who are here already stay."""
    source, place = Renewed(pki), Place(HostPort(HOST, free_port()), pki)
    with Reactor() as reactor:
        listener = NativeListener(
            Security(source, identity_of_certificate), reactor, lambda: 10, place.report
        )
        async with listener.serve(place.address, place.attach), place.peer() as early:
            await linked(place, early)
            good, source.material = source.material, Material(pki, "server")
            source.material.certificate_chain = b"nonsense"
            for _ in range(2):
                async with place.peer() as late:
                    await late.to_the_end()
            assert [event for event, _ in place.reports] == ["handshake_failed"] * 2
            assert "cannot be used" in str(place.reports[0][1]["reason"])
            source.material = good
            async with place.peer() as later:
                await linked(place, later)
            await early.answers_ping()


def no_report(event: str, **fields: Any) -> None:
    raise AssertionError(f"reported {event}")


async def test_passed_sockets_are_the_listeners_own(pki: Path) -> None:
    """It takes links on all of them, and closes them."""
    sockets = [listen(HOST, free_port()) for _ in range(2)]
    place = Place(HostPort(HOST, 1), pki)
    with Reactor() as reactor:
        security = Security(Material(pki, "server"), identity_of_certificate)
        async with NativeListener(security, reactor, lambda: 10, no_report).serve(sockets, place.attach):
            for sock in sockets:
                place.address = HostPort(*sock.getsockname())
                async with place.peer() as peer:
                    await linked(place, peer)
        assert len(reactor) == 0
    assert [sock.fileno() for sock in sockets] == [-1, -1]


async def test_address_that_is_taken_leaves_nothing_behind(pki: Path) -> None:
    """Not even the socket of the other family."""
    port = free_port()
    security = Security(Material(pki, "server"), identity_of_certificate)
    with socket.create_server(("::", port), family=socket.AF_INET6), Reactor() as reactor:
        listener = NativeListener(security, reactor, lambda: 10, no_report)
        with pytest.raises(TransportError, match="cannot listen"):
            async with listener.serve(HostPort(ANY_HOST, port), never_attached):
                pass
        assert len(reactor) == 0
    with socket.create_server((HOST, port)):
        pass


async def test_peer_that_is_gone_when_it_is_accepted(certificates: Path | None) -> None:
    async with listening(certificates) as place:
        for _ in range(20):
            with socket.socket() as sock:
                sock.connect(place.address)
                reset(sock)
        async with place.peer() as peer:
            await linked(place, peer)
        await until(lambda: not place.open_links)
        assert {event for event, _ in place.reports} <= {"handshake_failed"}
