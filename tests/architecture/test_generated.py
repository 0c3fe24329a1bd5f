"""The committed protobuf code is what tunnel.proto says."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.architecture.sources import ROOT


@pytest.fixture(scope="module")
def regenerated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("generated")
    subprocess.run((ROOT / "scripts/generate", directory), timeout=60, check=True, capture_output=True)
    return directory


@pytest.mark.parametrize("name", ["tunneler/wire/tunnel_pb2.py", "tunneler/wire/tunnel_pb2.pyi"])
def test_generated_code_is_current(regenerated: Path, name: str) -> None:
    assert (ROOT / name).read_text() == (regenerated / name).read_text(), "run scripts/generate"
