"""The files that the architecture tests look at."""

from __future__ import annotations

import subprocess
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
CODE = ("tunneler", "testbed", "bench", "fuzz", "ansible", "tests")
"""Directories that hold Python of ours."""


@cache
def tracked() -> tuple[Path, ...]:
    """Every file that is committed, or would be by ``git add --all``."""
    listing = subprocess.run(
        # The checkout may belong to another user than the one who runs the tests.
        ("git", "-c", "safe.directory=*", "ls-files", "-z", "--cached", "--others", "--exclude-standard"),
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    paths = (ROOT / name for name in sorted(set(listing.stdout.split("\0"))) if name)
    return tuple(path for path in paths if path.is_file())


def modules() -> list[Path]:
    """Python modules of ours; generated code is nobody's to cut."""
    return [
        path
        for path in tracked()
        if path.suffix == ".py"
        and path.relative_to(ROOT).parts[0] in CODE
        and not path.name.endswith("_pb2.py")
    ]
