"""Certificates, and a loop for coroutine functions that are tests."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.loopback.running import grpc_in_use, pytest_pyfunc_call, the_runner
from tests.loopback.trio import running_trio
from tunneler.pki.store import generate

__all__ = ["pytest_pyfunc_call"]


def made(directory: Path) -> Path:
    generate(directory, ["127.0.0.1", "localhost"], force=False, now=datetime.now(UTC))
    return directory


@pytest.fixture(scope="session")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made(tmp_path_factory.mktemp("pki"))


@pytest.fixture(scope="session")
def foreign(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Another authority, and what it issued."""
    return made(tmp_path_factory.mktemp("foreign"))


@pytest.fixture(scope="session", autouse=True)
def _warm(pki: Path) -> Iterator[None]:
    """What gRPC opens once and keeps is there before the first test counts."""

    async def once() -> None:
        async with running_trio(pki):
            pass

    runner, grpc = the_runner(), grpc_in_use()
    runner.run(grpc.__aenter__())
    runner.run(once())
    yield
    runner.run(grpc.__aexit__(None, None, None))


@pytest.fixture(autouse=True)
def _short_farewells(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stream that one side closes waits for the other side, which here is in no hurry."""
    monkeypatch.setattr("tunneler.transport.grpcio.stream.FAREWELL_SECONDS", 0.2)
