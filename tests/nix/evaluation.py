"""What Nix makes of the modules here: evaluated with the stand-ins beside this file, not with nixpkgs."""

from __future__ import annotations

import json
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.architecture.sources import ROOT

HERE = Path(__file__).parent
TIMEOUT = 60.0
"""Seconds; one evaluation takes a fraction of one."""
CONFIG = "experimental-features = nix-command flakes\nbuild-users-group =\nsandbox = false\nsubstituters =\n"
"""Nix without a daemon, and without a network."""


class EvaluationError(Exception):
    """Nix refused; its own words."""


def nix(*arguments: str) -> str:
    """Run nix-instantiate. EvaluationError unless it succeeds."""
    done = subprocess.run(
        ("nix-instantiate", *arguments),
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        cwd=ROOT,
        env={**os.environ, "NIX_CONFIG": CONFIG},
        check=False,
    )
    if done.returncode != 0:
        raise EvaluationError(done.stderr)
    return done.stdout


def evaluate(expression: str) -> Any:
    """The value of an expression; paths in it are relative to the repository."""
    return json.loads(nix("--eval", "--strict", "--json", "--expr", expression))


@dataclass(frozen=True)
class Host:
    """A host with the modules and one configuration, which is an expression: ``{ services.tunneler… }``."""

    configuration: str

    def look(self) -> Any:
        """What tests/nix/evaluate.nix shows of it."""
        return evaluate(f"import {HERE}/evaluate.nix {{ configuration = {self.configuration}; }}")


def merged(*configurations: str) -> Host:
    """A host that has all of these."""
    return Host(f"{{ imports = [ {' '.join(f'({part})' for part in configurations)} ]; }}")
