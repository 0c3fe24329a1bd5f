"""The servers' addresses, which are not to be captured, found by child processes without privilege.

A name's answer comes from the network, and what reads it here is the C library. So it is read by a
child that has given away every capability, and what the child says is taken for nothing but
addresses. Nor does a name server that does not answer hold up whoever keeps the rules.
"""

from __future__ import annotations

import ctypes
import os
import select
import signal
import struct
from collections.abc import Sequence
from contextlib import suppress
from ipaddress import ip_address, ip_network
from typing import Final, NoReturn

from tunneler.addresses import HostPort, Network
from tunneler.capture.select import addresses_of
from tunneler.errors import CaptureError

INTERVAL: Final = 60.0
"""Seconds between two looks: resolvers keep most answers for at least that long."""
INTERVAL_AFTER_FAILURE: Final = 5.0
DEADLINE: Final = 30.0
"""Seconds for all names; resolv.conf(5) allows two attempts of 5 s with each of three name servers."""
MAX_ANSWER: Final = 1 << 16
"""Bytes: the capacity of a pipe (pipe(7)), and room for more than a thousand addresses."""

_CAPABILITY_VERSION_3: Final = 0x20080522
_CAPABILITY_SETS_SIZE: Final = 24
"""linux/capability.h: three sets in two words of 32 bits each."""


class Lookup:
    """Follows the addresses of servers.

    Attributes:
        addresses: those known, each as a network of one; a name not found any more keeps its last.
        failure: why a name could not be found, the last time that this was tried.
    """

    def __init__(self, servers: Sequence[HostPort]) -> None:
        self._names = [server for server in servers if not _is_address(server.host)]
        self._fixed = {
            network for server in servers if server not in self._names for network in addresses_of(server)
        }
        self._found: dict[HostPort, frozenset[Network]] = {}
        self._child: _Child | None = None
        self._due = 0.0
        self.failure: str | None = None

    @property
    def addresses(self) -> tuple[Network, ...]:
        found = self._fixed.union(*self._found.values())
        return tuple(sorted(found, key=lambda network: (network.version, network)))

    @property
    def complete(self) -> bool:
        """Whether every name has been found at least once."""
        return len(self._found) == len(self._names)

    def look(self, now: float) -> bool:
        """Take what a child found, and start one when it is time; return whether addresses changed."""
        before = self.addresses
        if self._child is None:
            if self._names and now >= self._due:
                self._child = _Child(self._names, now + DEADLINE)
        elif self._child.ended(now):
            self._take(self._child.answer())
            self.close()
            self._due = now + (INTERVAL if self.failure is None else INTERVAL_AFTER_FAILURE)
        return self.addresses != before

    def wait(self, now: float, seconds: float) -> None:
        """Give a first look some time to end."""
        self.look(now)
        if self._child is not None:
            self._child.wait(seconds)
            self.look(now)

    def close(self) -> None:
        """End a child that is still looking."""
        if self._child is not None:
            self._child.end()
            self._child = None

    def _take(self, answer: list[str]) -> None:
        self.failure = None
        for server, line in zip(self._names, answer, strict=False):
            kind, _, rest = line.partition(" ")
            try:
                if kind == "found":
                    self._found[server] = frozenset(ip_network(ip_address(text)) for text in rest.split())
                    continue
            except ValueError:
                rest = f"{server}: the look-up answered nonsense"
            self.failure = rest
        if len(answer) < len(self._names):
            self.failure = f"{self._names[len(answer)]}: no answer within {DEADLINE:g} s"


class _Child:
    """A process that looks up names once: a line for each, then it ends."""

    def __init__(self, names: Sequence[HostPort], deadline: float) -> None:
        self._deadline = deadline
        self._reader, writer = os.pipe()
        self._pid = os.fork()
        if not self._pid:
            _look_up(names, writer)
        os.close(writer)

    def ended(self, now: float) -> bool:
        """Whether it has said all that it will; if not by its deadline, what it said until then is all."""
        return now >= self._deadline or self.wait(0.0)

    def wait(self, seconds: float) -> bool:
        """Return whether it ended within that time."""
        poller = select.poll()
        poller.register(self._reader, 0)  # POLLHUP is told in any case: poll(2)
        return bool(poller.poll(seconds * 1000))

    def answer(self) -> list[str]:
        """What it said, in whole lines. It can say no more than fits in the pipe."""
        os.set_blocking(self._reader, False)
        with suppress(BlockingIOError):
            complete, _, _ = os.read(self._reader, MAX_ANSWER).rpartition(b"\n")
            return complete.decode("ascii", "replace").splitlines()
        return []

    def end(self) -> None:
        os.close(self._reader)
        os.kill(self._pid, signal.SIGKILL)
        os.waitpid(self._pid, 0)


def _look_up(names: Sequence[HostPort], writer: int) -> NoReturn:
    """Runs in the child; never returns: nothing of the parent's is finished twice."""
    try:
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(round(DEADLINE))  # should the parent be gone
        _give_up_privilege()
        for server in names:
            os.write(writer, _line_about(server).encode("ascii", "replace"))
    finally:
        os._exit(0)


def _line_about(server: HostPort) -> str:
    try:
        return f"found {' '.join(str(network.network_address) for network in addresses_of(server))}\n"
    except CaptureError as error:
        return f"failed {' '.join(str(error).split())}\n"


def _give_up_privilege() -> None:
    """Empty all sets of capabilities: capset(2).

    Raises:
        OSError: the kernel refused.
    """
    library = ctypes.CDLL(None, use_errno=True)
    head = struct.pack("@Ii", _CAPABILITY_VERSION_3, 0)
    if library.capset(head, bytes(_CAPABILITY_SETS_SIZE)):
        raise OSError(ctypes.get_errno(), "capset")


def _is_address(host: str) -> bool:
    try:
        ip_address(host.partition("%")[0])
    except ValueError:
        return False
    return True
