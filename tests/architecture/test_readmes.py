"""Every example in a README is run by a test, or stands here with the reason why not."""

from __future__ import annotations

import re
import shlex
import subprocess

import pytest

from bench import profile, run
from tests.readme import ROOT, example, examples, hidden

NAMESPACES = "tests/namespaces/test_readme.py"
LAB = "tests/lab/test_readme.py"
ROLL_OUT = "tests/ansible/test_readme.py"
SYSTEMD = "tests/systemd/test_restarts.py"
HERE = "tests/architecture/test_readmes.py"
BENCH = "tests/unit/bench/test_readme.py"

RUN_BY = {
    ("README.md", "scripts/demo"): NAMESPACES,
    ("README.md", "tunneler-gencerts"): NAMESPACES,
    ("README.md", "tunneler-server --listen"): NAMESPACES,
    ("README.md", "tunneler-proxy"): NAMESPACES,
    ("README.md", "tunneler-client"): NAMESPACES,
    ("README.md", "systemctl enable"): LAB,
    ("README.md", "tunneler-server --config"): LAB,
    ("README.md", "scripts/bundle"): ROLL_OUT,
    ("ansible/README.md", "scripts/bundle"): ROLL_OUT,
    ("ansible/roles/client/README.md", "- hosts"): ROLL_OUT,
    ("ansible/roles/proxy/README.md", "- hosts"): ROLL_OUT,
    ("ansible/roles/server/README.md", "- hosts"): ROLL_OUT,
    ("bench/README.md", "bench/setup"): HERE,
    ("bench/README.md", ".venv/bin/python -m bench.profile"): HERE,
    ("certs/README.md", "tunneler-gencerts"): NAMESPACES,
    ("bench/README.md", ".venv/bin/python -m bench.framing"): BENCH,
    ("examples/grpc-js-proxy/README.md", "node proxy.js"): NAMESPACES,
    ("packaging/systemd/grpcio/README.md", "install"): SYSTEMD,
}

NOT_RUN = {
    ("README.md", "┌─ network A"): "a picture",
    ("README.md", "nix flake lock"): "needs Nix with a network; docs/nix.md says what was evaluated instead",
    (
        "fuzz/README.md",
        "python3 -m venv",
    ): "fetches atheris, and searches for hours; tests/unit/fuzz makes the seeds, and looks for the targets",
}


def readmes() -> list[str]:
    listing = subprocess.run(
        ("git", "ls-files", "*README.md"), cwd=ROOT, check=True, capture_output=True, text=True, timeout=20
    )
    return listing.stdout.split()


def test_every_example_is_known() -> None:
    known = RUN_BY.keys() | NOT_RUN.keys()
    for path in readmes():
        assert hidden(path) == [], f"{path}: examples stand at the margin, indented by four or after ```"
        for block in examples(path):
            starts = [start for name, start in known if name == path and block.startswith(start)]
            assert len(starts) == 1, f"{path}: no test is known to run, or several do:\n{block}"


@pytest.mark.parametrize(("path", "start"), RUN_BY)
def test_it_is_run_where_it_says(path: str, start: str) -> None:
    assert example(path, start)
    place = RUN_BY[path, start]
    text = re.sub(r"\s+", " ", (ROOT / place).read_text(encoding="utf-8")).replace("example( ", "example(")
    assert f'example("{path}", "{start}"' in text.replace("'", '"')


@pytest.mark.parametrize(("path", "start"), NOT_RUN)
def test_an_exception_is_still_needed(path: str, start: str) -> None:
    assert example(path, start)


def test_the_benchmarks_take_the_arguments_that_are_shown() -> None:
    """Not run: one of them takes most of an hour."""
    blocks = example("bench/README.md", "bench/setup") + example(
        "bench/README.md", ".venv/bin/python -m bench.profile"
    )
    parsers = {"bench.run": run.make_parser(), "bench.profile": profile.make_parser()}
    lines = [shlex.split(line, comments=True) for line in blocks.splitlines()]
    assert lines[0] == ["bench/setup"]
    assert (ROOT / "bench/setup").is_file()
    for interpreter, option, module, *arguments in lines[1:]:
        assert (interpreter, option) == (".venv/bin/python", "-m")
        parsers[module].parse_args(arguments)
