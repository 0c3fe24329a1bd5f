"""Write certificates and keys so that no instant shows half of a file, or a key that others can read."""

from __future__ import annotations

import os
import secrets
from pathlib import Path
from typing import NamedTuple

DIRECTORY_MODE = 0o755
CERTIFICATE_MODE = 0o644
KEY_MODE = 0o600
"""Certificates are public, and roles run as users of their own need to read that of the CA;
the secret is the key alone. The umask may take away from these, never add."""


class Staged(NamedTuple):
    """A file that is written and synced beside its final place."""

    temporary: Path
    final: Path


def make_directory(path: Path) -> None:
    """Make it and its parents; mkdir(parents=True) would leave the mode of those to the umask."""
    if path.is_dir():
        return
    make_directory(path.parent)
    path.mkdir(DIRECTORY_MODE)
    sync(path.parent)


def stage(final: Path, content: bytes, mode: int) -> Staged:
    """Write the content beside its final place; no instant shows it with a wider mode than ``mode``."""
    temporary = final.with_name(f".{final.name}.{secrets.token_hex(8)}.tmp")
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(temporary, flags, mode)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    return Staged(temporary, final)


def sync(directory: Path) -> None:
    """Make renames in the directory last (fsync(2): syncing a file does not sync its entry)."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
