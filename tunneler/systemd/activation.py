"""Sockets that systemd listens on and passes to us: sd_listen_fds(3), systemd.socket(5).

A role asks for what it can use, by FileDescriptorName=. Its main socket may also go by the name
that systemd gives without one, which is that of the role's own unit. Anything else that was
passed is a mistake in a unit, and is refused: a socket that nobody accepts from would let every
peer hang.
"""

from __future__ import annotations

import os
import re
import socket
import stat
from collections.abc import Mapping
from contextlib import ExitStack
from typing import Final, NamedTuple

from tunneler.addresses import Role
from tunneler.errors import ConfigError

VARIABLES = ("LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES")
TCP: Final = frozenset({socket.AF_INET, socket.AF_INET6})

NAMELESS: Final = "unknown"
"""Name of a socket that came without one, as from systemd-socket-activate: sd_listen_fds(3)."""


class Use(NamedTuple):
    """What a role does with sockets of one name.

    Attributes:
        name: FileDescriptorName= of their units.
        families: address families that it can be done with.
        advice: a ListenStream= that would be right.
    """

    name: str
    families: frozenset[socket.AddressFamily]
    advice: str


LINKS: Final = Use("tunneler-link", TCP, "PORT or ADDRESS:PORT")
"""Where links arrive at a server."""
CAPTURED: Final = Use("tunneler-capture", TCP, "PORT or ADDRESS:PORT")
"""Where the kernel redirects captured connections to."""

ADMIN: Final = Use("tunneler-admin", TCP | {socket.AF_UNIX}, "127.0.0.1:PORT or a path")
"""Where the role tells how it is."""

PassedSockets = Mapping[Use, list[socket.socket]]


def passed_sockets(role: Role, *uses: Use) -> PassedSockets:
    """Take the sockets that were passed to this process; none where it was started in another way.

    They are non-blocking and closed on exec. The variables that announce them are removed from
    the environment: children are not to look for them, and a second call finds none.

    Args:
        role: its unit's name means the first use.
        uses: all that the role has; each is a key of the answer.

    Raises:
        ConfigError: a socket has a name that the role does not know, is of a kind that is of no
            use, or listens where another does.
    """
    taken: dict[Use, list[socket.socket]] = {use: [] for use in uses}
    named = _passed()
    with ExitStack() as undo:
        for descriptor in named:
            undo.callback(os.close, descriptor)
        use_of = {descriptor: _use_of(descriptor, name, role, uses) for descriptor, name in named.items()}
        for descriptor, use in use_of.items():
            _require_fit(descriptor, named[descriptor], use)
        _require_distinct(named)
        undo.pop_all()
    for descriptor, use in use_of.items():
        taken[use].append(_adopt(descriptor))
    return taken


def own_passed_sockets() -> list[str]:
    """Make the sockets that were passed to this process belong to its user; they stay passed to others.

    It needs CAP_CHOWN.

    Returns:
        their names.

    Raises:
        ConfigError: there are none, or the capability is missing.
    """
    named = _passed()
    if not named:
        raise ConfigError("LISTEN_FDS", "", "expected sockets of systemd; give the unit Sockets=")
    for descriptor, name in named.items():
        try:
            os.fchown(descriptor, os.geteuid(), -1)
        except PermissionError as error:
            advice = "give the unit AmbientCapabilities=CAP_CHOWN, and not PrivateUsers=yes"
            raise _fault(descriptor, name, f"cannot be given to user {os.geteuid()}; {advice}") from error
    return list(named.values())


def _passed() -> dict[int, str]:
    """What was passed, by descriptor, with its name."""
    if "LISTEN_FDS" not in os.environ:
        return {}
    from systemd.daemon import listen_fds_with_names

    named: dict[int, str] = listen_fds_with_names(unset_environment=True)
    for variable in VARIABLES:  # os.environ is a copy, of which libsystemd does not know
        os.environ.pop(variable, None)
    return named


def _use_of(descriptor: int, name: str, role: Role, uses: tuple[Use, ...]) -> Use:
    for use in uses:
        if name == use.name:
            return use
    if name == NAMELESS or re.fullmatch(rf"tunneler-{role}(@.*)?\.socket", name):
        return uses[0]
    known = " or ".join(use.name for use in uses)
    raise _fault(descriptor, name, f"no name that a {role} knows; set FileDescriptorName= to {known}")


def _require_fit(descriptor: int, name: str, use: Use) -> None:
    if found := _unfit(descriptor, use):
        kind = "TCP socket" if use.families == TCP else "stream socket"
        advice = f"give the .socket unit ListenStream={use.advice}, and Accept=no"
        raise _fault(descriptor, name, f"expected a listening {kind}, not {found}; {advice}")


def _unfit(descriptor: int, use: Use) -> str | None:
    """What the descriptor is instead of something that can be used."""
    if not stat.S_ISSOCK(os.fstat(descriptor).st_mode):
        return "a file"
    with socket.socket(fileno=os.dup(descriptor)) as duplicate:
        if duplicate.family not in use.families:
            return f"one of {_name_of(duplicate.family)}"
        if duplicate.type != socket.SOCK_STREAM:
            return f"one of {_name_of(duplicate.type)}"
        if not duplicate.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
            return "a connection (Accept=yes), or a socket that does not listen"
    return None


def _require_distinct(named: Mapping[int, str]) -> None:
    """With ReusePort=yes two units can have one address, of which each would get a part."""
    first_at: dict[object, str] = {}
    for descriptor, name in named.items():
        with socket.socket(fileno=os.dup(descriptor)) as duplicate:
            address = duplicate.getsockname()
        if address in first_at:
            where = address if isinstance(address, str) else " port ".join(map(str, address[:2]))
            raise _fault(
                descriptor, name, f"listens on {where}, as {first_at[address]} does; disable one of the units"
            )
        first_at[address] = name


def _name_of(kind: socket.AddressFamily | socket.SocketKind | int) -> str:
    """Python has no name for some of the families that Linux has."""
    return getattr(kind, "name", str(kind))


def _fault(descriptor: int, name: str, expected: str) -> ConfigError:
    return ConfigError("LISTEN_FDS", f"descriptor {descriptor} ({name})", expected)


def _adopt(descriptor: int) -> socket.socket:
    adopted = socket.socket(fileno=descriptor)
    adopted.setblocking(False)
    adopted.set_inheritable(False)
    return adopted
