"""What a program has to say while there is no event log, or no longer: on standard error.

People get lines with the program's name before them. Where standard error is the journal each
line becomes an entry, with a MESSAGE_ID and a priority, as an event would.
"""

from __future__ import annotations

import sys
from typing import Final

from tunneler.errors import ExitStatus
from tunneler.observability.journal_stream import is_journal

CONFIGURATION_DOUBTFUL: Final = "configuration_doubtful"
CONFIGURATION_REFUSED: Final = "configuration_refused"
CREDENTIALS_REFUSED: Final = "credentials_refused"
HOST_UNSUPPORTED: Final = "host_unsupported"
PROGRAM_FAILED: Final = "program_failed"

EVENT_OF_STATUS: Final = {
    ExitStatus.FAILURE: PROGRAM_FAILED,
    ExitStatus.USAGE: CONFIGURATION_REFUSED,
    ExitStatus.CREDENTIALS: CREDENTIALS_REFUSED,
    ExitStatus.UNSUPPORTED: HOST_UNSUPPORTED,
}
"""What it is called that a program ends for such a reason."""

EVENTS: Final = (CONFIGURATION_DOUBTFUL, *EVENT_OF_STATUS.values())

_STDERR: Final = 2
_ERROR, _WARNING = 3, 4
"""Priorities of syslog(3)."""


def complain(program: str, message: str, event: str = CONFIGURATION_DOUBTFUL) -> None:
    """Print each line of a message to standard error, with the program's name before it.

    Args:
        event: what it is called in the journal; one of the above.
    """
    lines = message.splitlines() or [""]
    if is_journal(_STDERR):
        _send(program, lines, event)
        return
    if sys.stderr is not None:  # it may have been closed before we were started
        sys.stderr.write("".join(f"{program}: {line}\n" for line in lines))
        sys.stderr.flush()


def _send(program: str, lines: list[str], event: str) -> None:
    from tunneler.observability.journal import message_id, send_entry, wait_until_read

    for line in lines:
        entry: dict[str, object] = {
            "MESSAGE": line,
            "MESSAGE_ID": message_id(event),
            "PRIORITY": _WARNING if event == CONFIGURATION_DOUBTFUL else _ERROR,
            "SYSLOG_IDENTIFIER": program,
            "TUNNELER_EVENT": event,
        }
        send_entry(entry, {"reason": line})
    if event != CONFIGURATION_DOUBTFUL:  # the program ends next
        wait_until_read()
