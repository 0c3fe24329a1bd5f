"""Credentials that follow their files: a renewed certificate is used without a restart."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from tunneler.addresses import Role
from tunneler.errors import PkiError
from tunneler.pki.credentials import Credentials, load_credentials

LOOK_SECONDS = 1.0
"""The files are looked at no more often: a flood of links is no flood of system calls."""

FileState = tuple[int, int, int] | None
"""Inode, size and time of change of a file, in nanoseconds; None where there is none."""


def _utc_now() -> datetime:
    return datetime.now(UTC)


class RenewedCredentials:
    """Call it for the credentials to use now; they are the same object until others take their place.

    What takes their place has passed every check that the first ones passed. Otherwise the old
    ones stay: a key that is not yet the new certificate's, or a disk that was full, ends no service.

    Args:
        role: what the certificate must name its holder.
        renewed: told of credentials that took the place of others.
        not_renewed: told, once for each change of the files, why the old ones stay.
        clock: seconds, monotonic.
        now: the current time, with its time zone.

    Raises:
        PkiError: the files cannot be used; only from the constructor.
    """

    def __init__(
        self,
        cert_file: Path,
        key_file: Path,
        ca_file: Path,
        role: Role,
        *,
        renewed: Callable[[Credentials], None],
        not_renewed: Callable[[PkiError], None],
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], datetime] = _utc_now,
    ) -> None:
        self.files = (cert_file, key_file, ca_file)
        self._role = role
        self._renewed = renewed
        self._not_renewed = not_renewed
        self._clock = clock
        self._now = now
        self._seen = self._states()
        self._next_look = clock() + LOOK_SECONDS
        self._current = self._load()

    def __call__(self) -> Credentials:
        if self._clock() >= self._next_look:
            self._next_look = self._clock() + LOOK_SECONDS
            self.look()
        return self._current

    def look(self) -> None:
        """Look at the files now."""
        # Taken before the files are read: a change in between is seen at the next look.
        states = self._states()
        if states == self._seen:
            return
        self._seen = states
        try:
            loaded = self._load()
        except PkiError as error:
            self._not_renewed(error)
            return
        self._take(loaded)

    def moved_to(self, cert_file: Path, key_file: Path, ca_file: Path) -> Callable[[], None]:
        """Load other files; calling what is returned puts them in the place of these.

        Raises:
            PkiError: they cannot be used; these stay.
        """
        files = (cert_file, key_file, ca_file)
        states = tuple(map(_state_of, files))
        loaded = load_credentials(*files, self._role, now=self._now())

        def move() -> None:
            self.files, self._seen = files, states
            self._take(loaded)

        return move

    def _take(self, loaded: Credentials) -> None:
        if loaded != self._current:
            self._current = loaded
            self._renewed(loaded)

    def _load(self) -> Credentials:
        return load_credentials(*self.files, self._role, now=self._now())

    def _states(self) -> tuple[FileState, ...]:
        return tuple(map(_state_of, self.files))


def _state_of(file: Path) -> FileState:
    try:
        status = file.stat()  # follows links: a new target is a new inode
    except OSError:
        return None
    return status.st_ino, status.st_size, status.st_mtime_ns
