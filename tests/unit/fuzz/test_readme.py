"""What the README tells to type finds what it names; atheris, which would have to be fetched, is not run."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

import pytest

from fuzz import make_corpus
from tests.readme import ROOT, example

CORPORA = "/tmp/tunneler-corpus"


def test_every_target_has_its_seeds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    block = example("fuzz/README.md", "python3 -m venv").replace(CORPORA, str(tmp_path))
    lines = [shlex.split(line) for line in block.splitlines()]
    commands = [words[2:] for words in lines if words[1:2] == ["-m"] and words[2].startswith("fuzz.")]
    (seeding, *searches) = commands
    assert seeding == ["fuzz.make_corpus", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", seeding)
    make_corpus.main()
    targets = sorted(path.stem for path in (ROOT / "fuzz").glob("fuzz_*.py"))
    assert sorted(module.removeprefix("fuzz.") for module, *_ in searches) == targets
    for _, seeds, *options in searches:
        assert list(Path(seeds).iterdir())
        assert all(option.startswith("-max_") for option in options)  # libFuzzer's
