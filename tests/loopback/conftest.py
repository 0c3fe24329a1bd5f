"""Three roles in one process: certificates, and the loop that everything runs on."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.loopback.recorder import Recorder
from tests.loopback.running import grpc_in_use, pytest_pyfunc_call, the_runner
from tests.loopback.trio import running_trio
from tunneler.pki.store import generate

__all__ = ["pytest_pyfunc_call"]


@pytest.fixture(scope="session")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A throwaway CA, and a certificate for each role."""
    directory = tmp_path_factory.mktemp("pki")
    generate(directory, ["127.0.0.1", "localhost"], force=False, now=datetime.now(UTC))
    return directory


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


@pytest.fixture
def log() -> Iterator[Recorder]:
    """Every event of the test, as it would be logged."""
    with Recorder() as recorder:
        yield recorder
