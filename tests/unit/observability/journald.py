"""A stand-in for journald, in a mount namespace with a /run of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping

LISTEN = """
import os, socket
os.makedirs("/run/systemd/journal")
journald = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
journald.bind("/run/systemd/journal/socket")
journald.settimeout(10)
"""

CONNECT = """
import os, socket
stream, _other = socket.socketpair()  # as systemd connects standard error to the journal
os.dup2(stream.fileno(), 2)
status = os.fstat(2)
os.environ["JOURNAL_STREAM"] = f"{status.st_dev}:{status.st_ino}"
"""


def in_namespace(code: str) -> subprocess.CompletedProcess[str]:
    """Run Python with a /run of its own, empty and gone afterwards."""
    own_user = [] if os.geteuid() == 0 else ["--map-root-user"]
    shell = 'mount -t tmpfs tmpfs /run && exec "$@"'
    command = ["unshare", "--mount", *own_user, "sh", "-c", shell, "sh", sys.executable, "-c", code]
    return subprocess.run(command, check=False, capture_output=True, text=True, timeout=30)


def parse(datagram: bytes) -> Mapping[str, bytes]:
    """systemd.io/JOURNAL_NATIVE_PROTOCOL: NAME=VALUE, or NAME, a 64-bit length and the value."""
    fields: dict[str, bytes] = {}
    while datagram:
        line, _, rest = datagram.partition(b"\n")
        name, equals, value = line.partition(b"=")
        if not equals:
            length = int.from_bytes(rest[:8], "little")
            value, rest = rest[8 : 8 + length], rest[8 + length + 1 :]
        assert name.decode() not in fields
        fields[name.decode()] = value
        datagram = rest
    return fields
