"""The nat table of the legacy packet filter, through python-iptables: its errors and traps end here.

What python-iptables does by itself, and what is done about it:

* It keeps one table object, with its copy of the rules and its socket, for the life of the process:
  every :class:`NatTable` reads the rules anew, through a new socket in the namespace of now.
* It writes after each single change (autocommit): switched off; :meth:`NatTable.commit` writes all.
* It takes no lock, though a commit replaces the whole table: :func:`xtables_lock` is iptables' own.
* Its rule objects load extensions (see ``xtables.py``), redirect the process's standard output while they
  do, and cannot hold every rule that others may have: only entries as bytes go through its lower half.

The library is loaded when it is first needed; loading it runs ldconfig(8) and takes 0.3 s.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import re
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

from tunneler.capture.rules import IPVersion
from tunneler.capture.xtables import Entry, renamed
from tunneler.errors import CaptureError, CaptureUnavailable

DEFAULT_LOCK_FILE = "/run/xtables.lock"
"""XT_LOCK_NAME of iptables; XTABLES_LOCKFILE overrides it there as here (iptables(8))."""
LOCK_TIMEOUT = 10.0
"""Seconds to wait for other programs that change rules; each holds the lock for milliseconds."""
LOCK_POLL_INTERVAL = 0.05

TABLE_NAMES: dict[IPVersion, Path] = {
    4: Path("/proc/thread-self/net/ip_tables_names"),
    6: Path("/proc/thread-self/net/ip6_tables_names"),
}
"""The legacy tables that exist in this namespace; opening one makes it exist, for good."""

OPENED = "opened"
NOT_PERMITTED = "you must be root"
"""What libiptc makes of EPERM (iptc_strerror in libiptc.c)."""


class _Table(Protocol):
    """What is used of iptc.Table and iptc.Table6."""

    autocommit: bool

    def refresh(self) -> None: ...
    def close(self) -> None: ...
    def commit(self) -> None: ...
    def is_chain(self, chain: str) -> bool: ...
    def create_chain(self, chain: str) -> object: ...
    def flush_entries(self, chain: str) -> None: ...
    def delete_chain(self, chain: str) -> None: ...
    def append_entry(self, chain: str, entry: object) -> None: ...
    def insert_entry(self, chain: str, entry: object, position: int) -> None: ...
    def delete_entry(self, chain: str, entry: object, mask: object) -> None: ...
    def first_rule(self, chain: str) -> Any: ...
    def next_rule(self, previous: Any) -> Any: ...
    def get_target(self, entry: Any) -> bytes | None: ...


@cache
def load() -> Any:
    """Import python-iptables.

    Raises:
        CaptureUnavailable: it, or a C library that it needs, is missing or does not fit.
    """
    try:
        with warnings.catch_warnings():
            # Compiling its source warns of invalid escape sequences; that is not ours to mend.
            warnings.simplefilter("ignore")
            import iptc
    except Exception as error:
        # Not only ImportError: what it does while it is imported may also end in an OSError, an
        # AttributeError of a library not found, or an exception class defined in itself.
        raise CaptureUnavailable(
            f"python-iptables cannot be loaded (are libip4tc and libxtables there?): {error}"
        ) from error
    return iptc


def table_exists(version: IPVersion, name: str = "nat") -> bool | None:
    """Whether a legacy table exists in this namespace; None: only root may know."""
    try:
        return name in TABLE_NAMES[version].read_text().split()
    except FileNotFoundError:
        return False
    except PermissionError:
        return None


@contextmanager
def xtables_lock() -> Iterator[None]:
    """Keep iptables(8) and other callers from changing rules meanwhile.

    Raises:
        CaptureError: the lock cannot be opened, or somebody held it for LOCK_TIMEOUT seconds.
    """
    path = Path(os.environ.get("XTABLES_LOCKFILE") or DEFAULT_LOCK_FILE)
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise CaptureError(
            f"{path}: cannot lock the rules: {error.strerror}; set XTABLES_LOCKFILE to a file of this user's"
        ) from error
    try:
        _lock(descriptor, path)
        yield
    finally:
        os.close(descriptor)


def _lock(descriptor: int, path: Path) -> None:
    deadline = time.monotonic() + LOCK_TIMEOUT
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= deadline:
                raise CaptureError(
                    f"{path}: another program has held the lock for {LOCK_TIMEOUT:g} s; see lslocks(8)"
                ) from None
            time.sleep(LOCK_POLL_INTERVAL)
        else:
            return


class NatTable:
    """A copy of one family's nat table, read now; changes reach the kernel, all at once, by :meth:`commit`.

    Every method raises CaptureError if libiptc or the kernel refuses; opening one, CaptureUnavailable if
    there is none. To be used as a context manager, and by one thread: all objects of a family share one
    object of python-iptables.
    """

    def __init__(self, version: IPVersion) -> None:
        self.version = version
        self._iptc = load()
        with self._refusals(OPENED):
            make = self._iptc.Table if version == 4 else self._iptc.Table6
            self._table: _Table = make("nat", autocommit=False)
            self._table.refresh()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._table.close()

    def has_chain(self, chain: str) -> bool:
        return self._table.is_chain(chain)

    def entries(self, chain: str) -> list[Entry]:
        """The rules of a chain, in order; none if there is no such chain."""
        entries: list[Entry] = []
        if not self.has_chain(chain):
            return entries
        rule = self._table.first_rule(chain)
        while rule:
            raw = ctypes.string_at(ctypes.addressof(rule), rule.next_offset)
            target = self._table.get_target(rule) or b""
            entries.append(Entry(self.version, raw, target.decode("ascii", "replace")))
            rule = self._table.next_rule(rule)
        return entries

    def create_chain(self, chain: str) -> None:
        with self._refusals("given a chain"):
            self._table.create_chain(chain)

    def flush_chain(self, chain: str) -> None:
        with self._refusals("changed"):
            self._table.flush_entries(chain)

    def delete_chain(self, chain: str) -> None:
        """Delete a chain without rules, to which no rule refers."""
        with self._refusals(f"rid of its chain {chain} (do rules other than tunneler's refer to it?)"):
            self._table.delete_chain(chain)

    def append(self, chain: str, entry: Entry) -> None:
        with self._refusals("changed"):
            self._table.append_entry(chain, _buffer(entry.raw))

    def insert_first(self, chain: str, entry: Entry) -> None:
        with self._refusals("changed"):
            self._table.insert_entry(chain, _buffer(entry.raw), 0)

    def delete(self, chain: str, entry: Entry) -> None:
        """Delete the first rule that equals one of :meth:`entries`."""
        everything_counts = _buffer(b"\xff" * len(entry.raw))
        with self._refusals("changed"):
            self._table.delete_entry(chain, _buffer(renamed(entry)), everything_counts)

    def commit(self) -> None:
        """Put the changes into force."""
        with self._refusals("changed"):
            self._table.commit()

    @contextmanager
    def _refusals(self, attempt: str) -> Iterator[None]:
        try:
            yield
        except self._iptc.IPTCError as error:
            # libiptc's own words arrive as the representation of bytes.
            reason = re.sub(r"b'(.*)'", r"\1", str(error))
            # Whoever may not open it learns nothing about whether it is there.
            absent = attempt == OPENED and NOT_PERMITTED not in reason
            kind = CaptureUnavailable if absent else CaptureError
            raise kind(f"the IPv{self.version} nat table cannot be {attempt}: {reason}") from error


def _buffer(raw: bytes) -> ctypes.Array[ctypes.c_char]:
    return ctypes.create_string_buffer(raw, len(raw))
