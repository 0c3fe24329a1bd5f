"""The small benchmarks, as the README tells to run them, with little to do."""

from __future__ import annotations

import shlex
import sys
from importlib import import_module

import pytest

from bench import frames, framing
from tests.readme import example

FEW = {
    framing: {"MESSAGES_PER_ROUND": 10, "SIZES": (100,)},
    frames: {"FRAMES_PER_BATCH": (1, 4), "PAYLOADS": (100,), "RUNS": 2, "IDLE_CONNECTIONS": 100},
}


@pytest.mark.parametrize(
    "line",
    example("bench/README.md", ".venv/bin/python -m bench.framing").splitlines(),
    ids=("framing", "frames"),
)
def test_a_small_benchmark(
    line: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    program, option, name, *arguments = shlex.split(line, comments=True)
    assert (program, option) == (".venv/bin/python", "-m")
    module = import_module(name)
    for constant, value in FEW[module].items():
        monkeypatch.setattr(module, constant, value)
    monkeypatch.setattr(sys, "argv", [name, *arguments])
    assert module.main() in (None, 0)
    assert "100" in capsys.readouterr().out
