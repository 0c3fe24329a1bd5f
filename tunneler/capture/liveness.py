"""Whether the client lives and can carry anything, told through a file to whoever keeps the rules.

The client (:class:`Liveness`) holds a lock on its file for as long as it lives: the kernel lets go of
it however the client ends. What is written in the file is whether a link is up. A client that ends in
order removes the file; one that was killed leaves it behind, without the lock.

The reader (:func:`client_state`) is more privileged than the writer, and trusts it with nothing but
this one answer. Locks are record locks (fcntl(2)): looking at one does not take it, and what the
client forks does not hold it.
"""

from __future__ import annotations

import fcntl
import os
import stat
import struct
from collections.abc import Iterator, MutableMapping
from contextlib import suppress
from enum import IntEnum
from pathlib import Path
from typing import Final, Self

from tunneler.errors import CaptureError, ConfigError

RUNTIME_DIRECTORY: Final = "RUNTIME_DIRECTORY"
"""Where systemd says that the unit's RuntimeDirectory= is (systemd.exec(5))."""
FILE_NAME: Final = "state"
READABLE_BY_ALL: Final = 0o644

UP: Final = b"up  \n"
DOWN: Final = b"down\n"
"""Of one length: one replaces the other in one write, and no reader meets half of each."""

_FLOCK: Final = struct.Struct("@hhqqi")
"""struct flock: type, whence, start, length, process."""


class ClientState(IntEnum):
    """What can be said of a client; of several, the greatest counts."""

    NOT_STARTED = 0
    """No client has been started, or it has ended in order."""
    KILLED = 1
    """It did not end in order, and has not come back."""
    DOWN = 2
    """It lives, and has no link, or takes nothing new."""
    UP = 3
    """It lives, and has a link."""


class Liveness:
    """The client's side. Without a directory, nothing is told to anybody.

    Raises:
        CaptureError: the file cannot be made.
        ConfigError: another client uses it.
    """

    def __init__(self, directory: Path | None) -> None:
        self._path = None if directory is None else directory / FILE_NAME
        self._descriptor = -1
        self._told = b""
        if self._path is None:
            return
        try:
            self._descriptor = _locked(self._path)
            self.tell(up=False)
        except OSError as error:
            raise CaptureError(f"{self._path}: cannot be made: {error.strerror}") from error

    @classmethod
    def of_environment(cls, environment: MutableMapping[str, str] = os.environ) -> Self:
        """In the first directory that systemd made for this unit."""
        first = environment.get(RUNTIME_DIRECTORY, "").partition(":")[0]
        return cls(Path(first) if first else None)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.remove()

    def tell(self, *, up: bool) -> None:
        """Say whether new connections can be carried; costs nothing where nothing changed."""
        content = UP if up else DOWN
        if self._descriptor >= 0 and content != self._told:
            os.pwrite(self._descriptor, content, 0)
            self._told = content

    def remove(self) -> None:
        """The client ends in order."""
        if self._path is None or self._descriptor < 0:
            return
        with suppress(OSError):  # of what is being stopped, somebody else may have removed the directory
            self._path.unlink()
        os.close(self._descriptor)
        self._descriptor = -1


def client_state(directory: Path) -> ClientState:
    """Look at the clients whose files are in a directory, or in the directories within.

    A file that cannot be read, or is no such file, counts as a client's that is down.
    """
    return max(map(_state_of, _files(directory)), default=ClientState.NOT_STARTED)


def _files(directory: Path) -> Iterator[Path]:
    yield directory / FILE_NAME
    with suppress(OSError):
        yield from (entry / FILE_NAME for entry in directory.iterdir() if entry.name != FILE_NAME)


def _state_of(path: Path) -> ClientState:
    try:
        # The directory is the client's: what lies there may be a link to elsewhere, or a pipe.
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except (FileNotFoundError, NotADirectoryError):
        return ClientState.NOT_STARTED
    except OSError:
        return ClientState.DOWN
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            return ClientState.DOWN
        if not _is_locked(descriptor):
            return ClientState.KILLED
        return ClientState.UP if os.read(descriptor, len(UP)) == UP else ClientState.DOWN
    finally:
        os.close(descriptor)


def _is_locked(descriptor: int) -> bool:
    question = _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
    kind: int = _FLOCK.unpack(fcntl.fcntl(descriptor, fcntl.F_GETLK, question))[0]
    return kind != fcntl.F_UNLCK


def _locked(path: Path) -> int:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, READABLE_BY_ALL)
    try:
        os.fchmod(descriptor, READABLE_BY_ALL)  # whatever the umask
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(descriptor)
        if isinstance(error, (BlockingIOError, PermissionError)):
            raise ConfigError(
                RUNTIME_DIRECTORY, "", f"expected a directory of this client alone; another uses {path}"
            ) from error
        raise
    return descriptor
