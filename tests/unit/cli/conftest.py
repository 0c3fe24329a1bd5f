"""Commands, run as the console scripts run them, in this process."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import pytest

from tests.loopback.running import pytest_pyfunc_call
from tunneler.cli import main

__all__ = ["pytest_pyfunc_call"]


class Ended(NamedTuple):
    """What a program left behind."""

    status: int
    output: str
    errors: str


@dataclass(frozen=True)
class Programs:
    """Runs a program of the suite by the name of its console script."""

    _monkeypatch: pytest.MonkeyPatch
    _captured: pytest.CaptureFixture[str]

    def __call__(self, program: str, *arguments: str) -> Ended:
        entry: Callable[[], None] = getattr(
            main, program.removeprefix("tunneler-").replace("tunneler", "main")
        )
        self._monkeypatch.setattr(sys, "argv", [program, *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            entry()
        output, errors = self._captured.readouterr()
        return Ended(int(ended.value.code or 0), output, errors)


@pytest.fixture
def program(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Programs:
    for name in [name for name in os.environ if name.startswith("TUNNELER_")]:
        monkeypatch.delenv(name)
    return Programs(monkeypatch, capsys)
