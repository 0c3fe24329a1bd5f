"""A run that leaves something behind, or skips where it must not, fails."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.architecture.sources import ROOT

DAEMON = """
import subprocess, sys

def test_that_forgets():
    subprocess.run(
        [sys.executable, "-c", "import os, time; os.fork() or (os.setsid(), time.sleep(60))"],
        timeout=10, check=True,
    )
"""
CHILD = """
import subprocess
def test_that_forgets():
    globals()["kept"] = subprocess.Popen(["sleep", "60"], env={})
"""
NAMESPACE = """
import os, subprocess
def test_that_forgets():
    subprocess.run(["ip", "netns", "add", f"forgotten-{os.getpid()}"], timeout=10, check=True)
"""
TIDY = """
import subprocess
def test_that_cleans_up():
    subprocess.run(["sleep", "0"], timeout=10, check=True)
"""
SKIP = """
import pytest
def test_that_skips():
    pytest.skip("no such tool")
"""


def run(directory: Path, source: str) -> subprocess.CompletedProcess[str]:
    """Run pytest, with this project's configuration and conftest, on one test."""
    (directory / "conftest.py").write_text("from tests.conftest import *\n")
    (directory / "test_it.py").write_text(source)
    return subprocess.run(
        (
            *(sys.executable, "-m", "pytest", "--forbid-skips", "-p", "no:cacheprovider"),
            *(f"--rootdir={directory}", "-c", ROOT / "pyproject.toml", directory),
        ),
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )


def test_a_tidy_run_passes(tmp_path: Path) -> None:
    done = run(tmp_path, TIDY)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(("source", "what"), [(DAEMON, "time.sleep(60)"), (CHILD, "sleep 60")])
def test_a_process_left_behind_fails_the_run(tmp_path: Path, source: str, what: str) -> None:
    done = run(tmp_path, source)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "left behind by this run" in done.stdout
    assert what in done.stdout


def test_a_namespace_left_behind_fails_the_run(tmp_path: Path) -> None:
    names_before = set(os.listdir("/run/netns")) if Path("/run/netns").is_dir() else set()
    done = run(tmp_path, NAMESPACE)
    forgotten = [name for name in os.listdir("/run/netns") if name.startswith("forgotten-")]
    for name in set(forgotten) - names_before:
        subprocess.run(("ip", "netns", "delete", name), timeout=10, check=True)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "network namespace forgotten-" in done.stdout


def test_a_skip_fails_the_run(tmp_path: Path) -> None:
    done = run(tmp_path, SKIP)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "no such tool" in done.stdout
