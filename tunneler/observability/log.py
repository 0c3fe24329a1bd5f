"""The event log: what happened, as one line each, on top of the standard library's logging.

An event has a snake_case name (``connection_opened``) and fields. A line is written, by one
unbuffered write, when the call returns. Whatever libraries log goes through the same format, as
the event ``library_message``, but for their DEBUG messages, which are about their own insides (each header
that hpack encodes, each call of grpc) and may show what a peer sent.

Logging never ends a role. Lines that a full disk or a closed pipe refuses are counted, and
``log_lines_lost`` says how many there were as soon as lines can be written again.
"""

from __future__ import annotations

import logging
import os
import sys
import time
from collections.abc import Callable, Mapping
from typing import Literal

from tunneler.errors import ConfigError
from tunneler.observability.journal_stream import is_journal
from tunneler.observability.rendering import json_line, text_line

Format = Literal["auto", "json", "text", "journal"]
Renderer = Callable[[float, str, str, str, Mapping[str, object]], str]

LEVELS = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
}
_LEVEL_NAMES = {level: logging.getLevelName(level) for level in LEVELS.values()}
_STARTED = time.time()
_INVARIABLE = {
    **vars(logging.LogRecord("", 0, "", 0, "", None, None)),
    **dict.fromkeys(("thread", "threadName", "process", "processName")),
}
_OURS = "tunneler"
LIBRARY_MESSAGE = "library_message"
LOG_LINES_LOST = "log_lines_lost"

FILE_MODE = 0o640
"""Of a log file that is made here: peers and targets are nobody else's business."""

CLOSED = -1
"""Not a descriptor: a thread that comes late must not write into whatever was opened since."""

_STANDARD_OUTPUTS = {"stdout": 1, "stderr": 2}
_RENDERERS: Mapping[str, Renderer] = {"json": json_line, "text": text_line}


class EventRecord(logging.LogRecord):
    """A log record of an event of ours; ``fields`` are as the caller gave them.

    What never varies is copied from one record made for that: a LogRecord takes as long to make
    as the whole line to write.
    """

    def __init__(self, name: str, level: int, event: str, fields: Mapping[str, object]) -> None:
        self.__dict__.update(_INVARIABLE)
        self.name = name
        self.msg = event
        self.levelno = level
        self.levelname = _LEVEL_NAMES[level]
        self.created = now = time.time()
        self.msecs = now % 1 * 1000
        self.relativeCreated = (now - _STARTED) * 1000
        self.fields = fields


class EventLog:
    """Where one part of the program reports its events."""

    __slots__ = ("_logger",)

    def __init__(self, name: str) -> None:
        """Args: name: of the logger, under ``tunneler``; lines do not show it."""
        self._logger = logging.getLogger(f"{_OURS}.{name}")

    @property
    def enabled_for_debug(self) -> bool:
        """Whether to bother computing fields for :meth:`debug`."""
        return self._logger.isEnabledFor(logging.DEBUG)

    def debug(self, event: str, /, **fields: object) -> None:
        if self._logger.isEnabledFor(logging.DEBUG):
            self._logger.handle(EventRecord(self._logger.name, logging.DEBUG, event, fields))

    def info(self, event: str, /, **fields: object) -> None:
        if self._logger.isEnabledFor(logging.INFO):
            self._logger.handle(EventRecord(self._logger.name, logging.INFO, event, fields))

    def warning(self, event: str, /, **fields: object) -> None:
        if self._logger.isEnabledFor(logging.WARNING):
            self._logger.handle(EventRecord(self._logger.name, logging.WARNING, event, fields))

    def error(self, event: str, /, **fields: object) -> None:
        if self._logger.isEnabledFor(logging.ERROR):
            self._logger.handle(EventRecord(self._logger.name, logging.ERROR, event, fields))


class EventHandler(logging.Handler):
    """Base of what takes events somewhere; it makes events of the records of libraries."""

    def __init__(self, role: str) -> None:
        super().__init__()
        self.role = role

    def emit(self, record: logging.LogRecord) -> None:
        """Never raises: a caller cannot do anything about a log that fails."""
        if isinstance(record, EventRecord):
            self.take(record, record.msg, record.fields)
        else:
            self.take(record, LIBRARY_MESSAGE, _fields_of_library(record))

    def take(self, record: logging.LogRecord, event: str, fields: Mapping[str, object]) -> None:
        raise NotImplementedError


class LineHandler(EventHandler):
    """Writes each event as one line to a file descriptor, which it owns unless it is standard."""

    def __init__(self, role: str, render: Renderer, descriptor: int) -> None:
        super().__init__(role)
        self._render = render
        self._descriptor = descriptor
        self._lost = 0
        self._mid_line = False

    def take(self, record: logging.LogRecord, event: str, fields: Mapping[str, object]) -> None:
        line = self._render(record.created, level_name(record), self.role, event, fields)
        if self._lost:
            line = self._notice() + line
        if self._mid_line:
            line = "\n" + line
        content = memoryview(line.encode("ascii"))
        try:
            while content:
                content = content[os.write(self._descriptor, content) :]
                self._mid_line = bool(content)
        except OSError:
            # A full disk or pipe, or nobody reads any more.
            self._lost += 1
        else:
            self._lost = 0

    def close(self) -> None:
        self.acquire()
        try:
            descriptor, self._descriptor = self._descriptor, CLOSED
        finally:
            self.release()
        if descriptor not in (CLOSED, *_STANDARD_OUTPUTS.values()):
            os.close(descriptor)
        super().close()

    def _notice(self) -> str:
        return self._render(time.time(), "warning", self.role, LOG_LINES_LOST, {"count": self._lost})


_installed: EventHandler | None = None


def configure(role: str, level: str, format: Format, output: str) -> None:
    """Send every event of this process, and every message of a library, to one place.

    Calling it again replaces what was configured before, and opens a file anew (as after
    logrotate moved it); when it raises, the log goes on as it was.

    Args:
        role: stamped on every line.
        level: the least that is shown: debug, info, warning or error.
        format: ``journal`` speaks to journald directly, and ``output`` does not matter; ``auto`` does so
            where ``output`` is connected to the journal, and is ``json`` elsewhere.
        output: stdout, stderr, or the path of a file to append to.

    Raises:
        ConfigError: an unknown level or format, a file that cannot be opened, or no journal.
    """
    global _installed
    if level not in LEVELS:
        raise ConfigError("log.level", "", f"expected {', '.join(LEVELS)}, not {level!r}")
    handler = _handler(role, format, output)
    # What no format shows need not be found out for each record ("Optimization" in the logging HOWTO).
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    if hasattr(logging, "logAsyncioTasks"):  # Python 3.12
        logging.logAsyncioTasks = False
    logging.captureWarnings(capture=True)
    root = logging.getLogger()
    root.addHandler(handler)
    root.setLevel(max(LEVELS[level], logging.INFO))
    logging.getLogger(_OURS).setLevel(LEVELS[level])
    old, _installed = _installed, handler
    if old is not None:
        root.removeHandler(old)
        old.close()


def level_name(record: logging.LogRecord) -> str:
    return record.levelname.lower()


def _handler(role: str, format: str, output: str) -> EventHandler:
    renderer = "json" if format == "auto" else format
    if format == "journal" or (format == "auto" and is_journal(_STANDARD_OUTPUTS.get(output, CLOSED))):
        from tunneler.observability.journal import JournalHandler

        return JournalHandler(role)
    if renderer not in _RENDERERS:
        raise ConfigError("log.format", "", f"expected auto, json, text or journal, not {format!r}")
    if output in _STANDARD_OUTPUTS:
        # What was printed before belongs above the first line.
        for stream in (sys.stdout, sys.stderr):
            if stream is not None:
                stream.flush()
        return LineHandler(role, _RENDERERS[renderer], _own(_STANDARD_OUTPUTS[output]))
    try:
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
        return LineHandler(role, _RENDERERS[renderer], os.open(output, flags, FILE_MODE))
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        wanted = "expected stdout, stderr or a file that this user can write"
        raise ConfigError("log.output", "", f"{wanted}; {output!r}: {reason}") from error


def _own(descriptor: int) -> int:
    """A descriptor of the log's own: what becomes of the standard one later does not concern it."""
    try:
        return os.dup(descriptor)
    except OSError:  # it is closed: lines are refused, and counted
        return descriptor


def _fields_of_library(record: logging.LogRecord) -> dict[str, object]:
    try:
        message = record.getMessage()
    except Exception:  # noqa: BLE001 - a library's wrong format string is no reason to fail
        message = str(record.msg)
    fields: dict[str, object] = {"logger": record.name, "message": message}
    if record.exc_info:
        fields["exception"] = logging.Formatter().formatException(record.exc_info)
    return fields
