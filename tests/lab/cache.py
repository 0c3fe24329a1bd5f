"""Trees that take long to make and change seldom, kept outside the checkout and shared by all of them.

A tree is a directory named ``<kind>-<key>``; the key is a digest of everything that it is made of, so that
it is never changed, only replaced. Laws of this file:

* a name without ``.partial`` is a whole tree: it is made under another name, and renamed when it is done;
* one process makes trees at a time; others wait, and then find it made;
* who uses a tree holds a shared lock on it (:func:`hold`); only what nobody holds, and nobody has asked
  for in ``UNUSED`` seconds, is removed.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

UNUSED = 14 * 24 * 3600.0
"""Seconds after which a tree that nobody asked for may go."""


def directory() -> Path:
    """Where the trees are: below ``XDG_CACHE_HOME``, or ``~/.cache`` (XDG base directory specification)."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "tunneler-lab"


def digest(parts: Iterable[str | bytes]) -> str:
    """A key over all parts; where one ends and the next begins counts."""
    whole = hashlib.sha256()
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        whole.update(b"%d:" % len(data) + data)
    return whole.hexdigest()[:24]


def tree(kind: str, key: str, make: Callable[[Path], None]) -> Path:
    """The tree of that kind and key; ``make`` fills an empty directory if there is none yet."""
    place = directory()
    place.mkdir(parents=True, exist_ok=True)
    whole = place / f"{kind}-{key}"
    _lock_file(whole).touch()  # asked for now, see _remove_unused
    if whole.is_dir():
        return whole
    with _locked(place / "making.lock", fcntl.LOCK_EX):
        if not whole.is_dir():
            for abandoned in place.glob("*.partial"):
                _remove(abandoned)
            partial = place / f"{whole.name}.partial"
            partial.mkdir()
            make(partial)
            partial.rename(whole)
            _remove_unused(place)
    return whole


def hold(whole: Path) -> int:
    """Keep a tree from being removed until the descriptor that is returned is closed, or the process ends."""
    descriptor = os.open(_lock_file(whole), os.O_RDWR | os.O_CREAT, 0o644)
    fcntl.flock(descriptor, fcntl.LOCK_SH)
    return descriptor


def _remove_unused(place: Path) -> None:
    for lock in place.glob("*.used"):
        if time.time() - lock.stat().st_mtime < UNUSED:
            continue
        descriptor = os.open(lock, os.O_RDWR)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            _remove(lock.with_suffix(""))
            lock.unlink()
        except BlockingIOError:  # held
            continue
        finally:
            os.close(descriptor)


def _remove(path: Path) -> None:
    # rm(1), because it never follows a link out of the tree, and copes with what a chroot's root left there.
    if path.exists():
        subprocess.run(["rm", "-rf", "--one-file-system", "--", path], timeout=120, check=True)


def _lock_file(whole: Path) -> Path:
    return whole.with_name(f"{whole.name}.used")


@contextmanager
def _locked(path: Path, how: int) -> Iterator[None]:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(descriptor, how)
        yield
    finally:
        os.close(descriptor)


def copy_linked(source: Path, target: Path) -> None:
    """Copy a tree by hard links: quick and small. Nobody may write into a file of either, only replace it."""
    shutil.copytree(source, target, symlinks=True, copy_function=os.link, dirs_exist_ok=True)
