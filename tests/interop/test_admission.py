"""Calls of another stack that must not become links."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.interop.node import CALLER, PATIENCE, credentials, node
from tests.loopback.recorder import Recorder
from tests.loopback.trio import HOST, Trio, stage


async def outcome(trio: Trio, method: str, flags: list[str]) -> str:
    """What a caller says that came of its call."""
    arguments = ["--server", f"{HOST}:{trio.server_port}", "--method", method, *flags]
    async with node(CALLER, arguments) as caller, asyncio.timeout(PATIENCE):
        await caller.ended()
    return " ".join(caller.lines)


@pytest.mark.parametrize(
    ("holder", "method", "expected"),
    [
        ("client", "ClientStream", "greeted"),
        ("proxy", "ProxyStream", "greeted"),
        ("client", "ProxyStream", "PERMISSION_DENIED"),
        ("proxy", "ClientStream", "PERMISSION_DENIED"),
        ("server", "ClientStream", "UNAVAILABLE"),  # not issued for dialling: TLS fails
        ("client", "NoSuchStream", "UNIMPLEMENTED"),
    ],
)
async def test_certificate_and_method(
    pki: Path, transport: str, log: Recorder, holder: str, method: str, expected: str
) -> None:
    async with stage(pki) as trio:
        trio.start_server(transport=transport)
        assert await outcome(trio, method, credentials(pki, holder)) == expected
    assert len(log.of("peer_denied", "server")) == (expected == "PERMISSION_DENIED")


async def test_no_certificate(pki: Path, transport: str) -> None:
    async with stage(pki) as trio:
        trio.start_server(transport=transport)
        authority = ["--ca", str(pki / "ca" / "cert.pem")]
        assert await outcome(trio, "ClientStream", authority) == "UNAVAILABLE"
        assert trio.server.relay.links == ()
