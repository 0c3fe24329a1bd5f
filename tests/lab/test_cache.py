from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from testbed.processes import Process
from tests.lab import cache, program

MAKING = """
import sys, time
from pathlib import Path
from tests.lab import cache

def make(target: Path) -> None:
    with open({log!r}, "a") as log:
        log.write("made\\n")
    (target / "half").write_text("")
    print("making", flush=True)
    time.sleep({seconds})

print(cache.tree("kind", "key", make), flush=True)
"""


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "tunneler-lab"


@pytest.fixture
def making(tmp_path: Path) -> Callable[[float], Process]:
    """Make the tree in another process; made/log counts how often."""

    def start(seconds: float) -> Process:
        script = MAKING.format(log=str(tmp_path / "made"), seconds=seconds)
        environment = {"XDG_CACHE_HOME": str(tmp_path), "PYTHONPATH": str(program.ROOT)}
        return Process((sys.executable, "-c", script), tmp_path / f"{time.monotonic_ns()}.log", environment)

    return start


def write(target: Path) -> None:
    (target / "whole").write_text("")


def fail(target: Path) -> None:
    raise AssertionError(f"{target} is made a second time")


def test_a_tree_is_made_once(place: Path) -> None:
    made = cache.tree("kind", "key", write)
    assert made == place / "kind-key"
    assert os.listdir(made) == ["whole"]
    assert cache.tree("kind", "key", fail) == made


def test_a_tree_that_fails_to_be_made_is_none(place: Path) -> None:
    with pytest.raises(AssertionError):
        cache.tree("kind", "key", fail)
    assert not (place / "kind-key").exists()
    assert os.listdir(cache.tree("kind", "key", write)) == ["whole"]


def test_a_tree_whose_making_was_killed_is_made_anew(place: Path, making: Callable[[float], Process]) -> None:
    process = making(60)
    process.wait_for_line(lambda line: line == "making", 10)
    process.kill()
    assert not (place / "kind-key").exists()
    assert os.listdir(cache.tree("kind", "key", write)) == ["whole"]
    assert not list(place.glob("*.partial"))


def test_two_at_once_make_one(tmp_path: Path, making: Callable[[float], Process]) -> None:
    processes = [making(0.3), making(0.3)]
    assert [process.wait(20) for process in processes] == [0, 0]
    assert (tmp_path / "made").read_text() == "made\n"


def test_only_what_is_unused_and_not_held_is_removed(place: Path) -> None:
    trees = {name: cache.tree("kind", name, write) for name in ("held", "idle", "recent")}
    long_ago = time.time() - cache.UNUSED - 60
    for name in ("held", "idle"):
        os.utime(place / f"kind-{name}.used", (long_ago, long_ago))
    descriptor = cache.hold(trees["held"])
    try:
        cache.tree("kind", "new", write)
    finally:
        os.close(descriptor)
    assert sorted(path.name for path in place.glob("kind-*") if path.is_dir()) == [
        "kind-held",
        "kind-new",
        "kind-recent",
    ]
    assert not (place / "kind-idle.used").exists()


def test_a_digest_tells_parts_apart() -> None:
    assert cache.digest(["ab", "c"]) != cache.digest(["a", "bc"])


def test_a_linked_copy_shares_files_but_not_directories(tmp_path: Path) -> None:
    (tmp_path / "one/inner").mkdir(parents=True)
    (tmp_path / "one/inner/file").write_text("")
    (tmp_path / "one/link").symlink_to("inner/file")
    cache.copy_linked(tmp_path / "one", tmp_path / "two")
    (tmp_path / "two/inner/new").write_text("")
    assert (tmp_path / "two/inner/file").samefile(tmp_path / "one/inner/file")
    assert (tmp_path / "two/link").readlink() == Path("inner/file")
    assert os.listdir(tmp_path / "one/inner") == ["file"]


def test_a_dead_maker_holds_nobody_up(making: Callable[[float], Process]) -> None:
    """Whoever waits for the lock of the trees waits for one that lives: the kernel frees a dead one's."""
    first = making(60)
    first.wait_for_line(lambda line: line == "making", 10)
    second = making(0)
    with pytest.raises(subprocess.TimeoutExpired):
        second.wait(0.5)
    first.kill()
    assert second.wait(20) == 0
