"""The path with the stock transport, in every role and in some: what it carries is the same."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from testbed import Host, Lab
from testbed.suite import TARGET, Suite
from testbed.web import Web
from tests.namespaces.applications import attempt
from tests.namespaces.conftest import PAGE
from tests.namespaces.test_transfers import Echo, _at_once

CASTS = {
    "grpcio alone": ("grpcio", "grpcio", "grpcio"),
    "grpcio server": ("native", "grpcio", "native"),
    "native server": ("grpcio", "native", "grpcio"),
}


@pytest.fixture(scope="module", params=list(CASTS.values()), ids=list(CASTS))
def suite(
    lab: Lab, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Iterator[Suite]:
    client, server, proxy = ({"transport": transport} for transport in request.param)
    with Suite(lab, tmp_path_factory.mktemp("suite")) as suite:
        suite.add_three_roles(client=client, server=server, proxy=proxy)
        suite.start()
        yield suite


def test_curl(suite: Suite, web: Web, client: Host) -> None:
    assert client.run("curl", "-sS", "-m", "10", f"http://{TARGET}/").stdout == PAGE


def test_refusal(suite: Suite, client: Host) -> None:
    outcome = attempt(client, 81)
    assert outcome.result in ("ECONNRESET", "ECONNREFUSED")
    assert outcome.seconds < 1.0


def test_200_connections_at_once(suite: Suite, client: Host, target: Host) -> None:
    asyncio.run(_at_once(Echo(client, target), 200))
