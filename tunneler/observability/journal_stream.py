"""Whether what this process writes ends in the systemd journal: systemd.exec(5), $JOURNAL_STREAM."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

SOCKET: Final = Path("/run/systemd/journal/socket")
"""Where journald takes entries with fields (systemd-journald.service(8)); absent where it does not run."""


def is_journal(descriptor: int) -> bool:
    """Whether a descriptor is the stream that systemd connected to the journal, and entries can be sent.

    The variable alone says nothing: whoever started us may have redirected the output since.
    """
    stream = os.environ.get("JOURNAL_STREAM")
    if not stream:
        return False
    try:
        status = os.fstat(descriptor)
    except OSError:  # it is closed
        return False
    return stream == f"{status.st_dev}:{status.st_ino}" and SOCKET.is_socket()
