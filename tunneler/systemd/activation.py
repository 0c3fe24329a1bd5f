"""Sockets that systemd listens on and passes to us: sd_listen_fds(3), systemd.socket(5)."""

from __future__ import annotations

import os
import socket
import stat
from contextlib import ExitStack
from typing import NamedTuple

from tunneler.errors import ConfigError

VARIABLES = ("LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES")
FAMILIES = frozenset({socket.AF_INET, socket.AF_INET6})


class PassedSocket(NamedTuple):
    """A listening TCP socket, and its FileDescriptorName= (by default the name of its unit)."""

    name: str
    socket: socket.socket


def passed_sockets() -> list[PassedSocket]:
    """Take the sockets that were passed to this process; none where it was started in another way.

    They are non-blocking and closed on exec. The variables that announce them are removed from
    the environment: children are not to look for them, and a second call finds none.

    Raises:
        ConfigError: something else than listening TCP sockets was passed.
    """
    if "LISTEN_FDS" not in os.environ:
        return []
    from systemd.daemon import listen_fds_with_names

    named: dict[int, str] = listen_fds_with_names(unset_environment=True)
    for variable in VARIABLES:  # os.environ is a copy, of which libsystemd does not know
        os.environ.pop(variable, None)
    with ExitStack() as undo:
        for descriptor in named:
            undo.callback(os.close, descriptor)
        for descriptor, name in named.items():
            _require_listening(descriptor, name)
        undo.pop_all()
    return [PassedSocket(name, _adopt(descriptor)) for descriptor, name in named.items()]


def _require_listening(descriptor: int, name: str) -> None:
    if not stat.S_ISSOCK(os.fstat(descriptor).st_mode):
        raise _fault(descriptor, name, "a file")
    duplicate = socket.socket(fileno=os.dup(descriptor))
    with duplicate:
        if duplicate.family not in FAMILIES:
            raise _fault(descriptor, name, f"one of {_name_of(duplicate.family)}")
        if duplicate.type != socket.SOCK_STREAM:
            raise _fault(descriptor, name, f"one of {_name_of(duplicate.type)}")
        if not duplicate.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
            raise _fault(descriptor, name, "a connection (Accept=yes), or a socket that does not listen")


def _name_of(kind: socket.AddressFamily | socket.SocketKind | int) -> str:
    """Python has no name for some of the families that Linux has."""
    return getattr(kind, "name", str(kind))


def _fault(descriptor: int, name: str, found: str) -> ConfigError:
    return ConfigError(
        "LISTEN_FDS",
        f"descriptor {descriptor} ({name})",
        "expected a listening TCP socket, "
        f"not {found}; give the .socket unit ListenStream=PORT or ADDRESS:PORT, and Accept=no",
    )


def _adopt(descriptor: int) -> socket.socket:
    adopted = socket.socket(fileno=descriptor)
    adopted.setblocking(False)
    adopted.set_inheritable(False)
    return adopted
