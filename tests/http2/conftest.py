"""Certificates, or none; and the loop of all tests."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.loopback.running import pytest_pyfunc_call
from tunneler.pki.store import generate

__all__ = ["pytest_pyfunc_call"]


@pytest.fixture(scope="session")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A throwaway CA, and a certificate for each role."""
    directory = tmp_path_factory.mktemp("pki")
    generate(directory, ["127.0.0.1", "localhost"], force=False, now=datetime.now(UTC))
    return directory


@pytest.fixture(params=["plaintext", "TLS"])
def certificates(request: pytest.FixtureRequest, pki: Path) -> Path | None:
    """What :func:`tests.http2.listening.listening` wants: for tests that hold with and without TLS."""
    return pki if request.param == "TLS" else None
