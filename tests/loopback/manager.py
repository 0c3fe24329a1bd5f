"""A service manager as far as a service sees it: the socket that it listens on."""

from __future__ import annotations

import os
import select
import socket
from pathlib import Path
from typing import Self

PATIENCE = 10.0


class FakeManager:
    """Takes what services say, and keeps it; listens while its context is open.

    Args:
        address: as in NOTIFY_SOCKET.
    """

    def __init__(self, address: str | Path) -> None:
        self.address = str(address)
        self.messages: list[str] = []
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(self.address.replace("@", "\0", 1) if self.address[0] == "@" else self.address)
        self._socket.setblocking(False)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def fileno(self) -> int:
        return self._socket.fileno()

    def said(self) -> list[str]:
        """Every message up to now. A barrier's descriptor is closed when it is read, as systemd does."""
        while True:
            try:
                message, descriptors, _, _ = socket.recv_fds(self._socket, 65536, 8)
            except BlockingIOError:
                return self.messages
            self.messages.append(message.decode())
            for descriptor in descriptors:
                os.close(descriptor)

    def wait_for(self, wanted: str, seconds: float = PATIENCE) -> str:
        """Wait for the next message in which a line begins so; return it, and forget those before it."""
        while True:
            for position, message in enumerate(self.said()):
                if any(line.startswith(wanted) for line in message.splitlines()):
                    del self.messages[: position + 1]
                    return message
            ready, _, _ = select.select([self._socket], [], [], seconds)
            assert ready, f"no {wanted} within {seconds:g} s; but {self.messages}"
