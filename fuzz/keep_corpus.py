"""Keep a corpus in the repository: ``keep_corpus.py DIRECTORY``, which has a directory for each target.

A file for each target, a line for each input: base64, the shortest first.
"""

from __future__ import annotations

import sys
from base64 import b64decode, b64encode
from pathlib import Path
from typing import Final

KEPT: Final = Path(__file__).parent / "corpus"
TARGETS: Final = ("batches", "http2_frames", "http2_headers")


def kept(target: str) -> list[bytes]:
    """The inputs that are kept for one target, if any are."""
    file = KEPT / f"{target}.txt"
    return [b64decode(line) for line in file.read_text().splitlines()] if file.exists() else []


def keep(target: str, inputs: list[bytes]) -> None:
    lines = [b64encode(each).decode() for each in sorted(inputs, key=lambda each: (len(each), each))]
    KEPT.mkdir(exist_ok=True)
    (KEPT / f"{target}.txt").write_text("".join(f"{line}\n" for line in lines))


def main() -> None:
    root = Path(sys.argv[1])
    for target in TARGETS:
        keep(target, [file.read_bytes() for file in (root / target).iterdir()])


if __name__ == "__main__":
    main()
