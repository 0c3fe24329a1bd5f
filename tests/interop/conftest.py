"""Our roles and those of another gRPC stack: certificates, the loop, and which of our transports is tried."""

from __future__ import annotations

import asyncio

import pytest

from tests.loopback.conftest import _warm, log, pki, pytest_pyfunc_call
from tests.loopback.running import the_runner

__all__ = ["_warm", "log", "pki", "pytest_pyfunc_call"]

TRANSPORTS = ("grpcio", "native")
"""Values of the key ``transport`` that every test here is run with."""


@pytest.fixture(params=TRANSPORTS)
def transport(request: pytest.FixtureRequest) -> str:
    """What carries the links of our roles."""
    return str(request.param)


@pytest.fixture(scope="session", autouse=True)
def _first_process(_warm: None) -> None:
    """What the loop opens with the first process, and keeps, is there before a test counts."""

    async def once() -> None:
        await (
            await asyncio.create_subprocess_exec("node", "--version", stdout=asyncio.subprocess.PIPE)
        ).communicate()

    the_runner().run(once())
