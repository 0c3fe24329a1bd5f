"""Events into the systemd journal, with every field as a field of its own.

``journalctl TUNNELER_CONNECTION=…`` follows one connection, ``journalctl MESSAGE_ID=…`` one kind
of event. Imported only when the journal is what the operator wants.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import re
import socket
import struct
import termios
import time
import uuid
from collections.abc import Mapping
from functools import lru_cache

from tunneler.errors import ConfigError
from tunneler.observability.journal_stream import SOCKET
from tunneler.observability.log import EventHandler
from tunneler.observability.rendering import Plain, plain, sentence

try:
    from systemd.journal import sendv
except ImportError as error:
    advice = "install systemd-python, or choose json or text"
    raise ConfigError("log.format", "", f"journal is not available ({error}); {advice}") from error

MESSAGE_ID_NAMESPACE = uuid.UUID("02a794d2-f6f8-471c-858c-74cc71fc78b0")
"""MESSAGE_ID of an event is the version 5 UUID of its name under this one (chosen once, at random)."""

MAX_FIELD_NAME = 64
"""journald drops fields with longer names (journal_field_valid in systemd's journal-util.c)."""

READ_SECONDS = 3.0
"""For journald to read what was sent; it takes a millisecond where nothing is wrong."""

# syslog(3); journald sorts and colours by it.
_PRIORITIES = ((logging.CRITICAL, 2), (logging.ERROR, 3), (logging.WARNING, 4), (logging.INFO, 6))
_DEBUG_PRIORITY = 7


class JournalHandler(EventHandler):
    """Sends each event to journald as one datagram; what journald does not take is lost."""

    def __init__(self, role: str) -> None:
        """Raises ConfigError when no journald listens: libsystemd itself would drop all in silence."""
        super().__init__(role)
        if not SOCKET.is_socket():
            raise ConfigError("log.format", "", f"journal needs journald at {SOCKET}; choose json or text")

    def take(self, record: logging.LogRecord, event: str, fields: Mapping[str, object]) -> None:
        shown = {name: plain(value) for name, value in fields.items()}
        entry: dict[str, object] = {
            "MESSAGE": sentence(event, shown),
            "MESSAGE_ID": message_id(event),
            "PRIORITY": priority(record.levelno),
            "SYSLOG_IDENTIFIER": f"tunneler-{self.role}",
            "TUNNELER_ROLE": self.role,
            "TUNNELER_EVENT": event,
        }
        send_entry(entry, shown)


def send_entry(entry: dict[str, object], fields: Mapping[str, Plain]) -> None:
    """Send an entry.

    Args:
        entry: what journald knows itself (systemd.journal-fields(7)).
        fields: ours, by the names that events give them.
    """
    for name, value in fields.items():
        key = field_name(name)
        entry[f"{key}_" if key in entry else key] = value
    # While journald restarts, or is overrun, there is nobody to tell.
    with contextlib.suppress(OSError):
        # Not send(), which finds its caller by reading source files, for every event.
        sendv(*[_assignment(name, value) for name, value in entry.items()])


def wait_until_read() -> None:
    """Wait until journald has taken up what was sent, before the process ends.

    It looks up which unit an entry belongs to when it reads it, in /proc: an entry whose sender is gone by
    then belongs to none, and neither ``journalctl --unit`` nor ``systemctl status`` shows it. What we wait
    for is an empty datagram, which journald passes over (server_process_datagram in journald-server.c):
    once it has left the queue, all before it has been dealt with.
    """
    deadline = time.monotonic() + READ_SECONDS
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as last, contextlib.suppress(OSError):
        last.settimeout(READ_SECONDS)  # for room in the queue
        last.sendto(b"", str(SOCKET))
        while _unread(last) and time.monotonic() < deadline:
            time.sleep(0.001)


def _unread(sock: socket.socket) -> int:
    """Memory of what was sent and nobody has read: SIOCOUTQ (unix_outq_len in net/unix/af_unix.c)."""
    (size,) = struct.unpack("i", fcntl.ioctl(sock, termios.TIOCOUTQ, b"\0\0\0\0"))
    return int(size)


@lru_cache(maxsize=256)
def field_name(name: str) -> str:
    """``connection`` becomes ``TUNNELER_CONNECTION``."""
    return ("TUNNELER_" + re.sub(r"[^A-Z0-9_]", "_", name.upper()))[:MAX_FIELD_NAME]


@lru_cache(maxsize=16)
def priority(level: int) -> int:
    """The syslog priority of a level of the logging module."""
    return next((number for least, number in _PRIORITIES if level >= least), _DEBUG_PRIORITY)


@lru_cache(maxsize=256)
def message_id(event: str) -> str:
    """Thirty-two hex digits that name this kind of event, the same on every host."""
    return uuid.uuid5(MESSAGE_ID_NAMESPACE, event).hex


def _assignment(name: str, value: object) -> bytes:
    """As sd_journal_sendv(3) takes it: it deals with line ends itself, but wants UTF-8."""
    if value is None or isinstance(value, bool):
        value = {None: "null", True: "true", False: "false"}[value]
    return f"{name}={value}".encode("utf-8", "backslashreplace")
