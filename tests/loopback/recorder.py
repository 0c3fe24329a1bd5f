"""Keeps the events that the program logs, for tests to look at."""

from __future__ import annotations

import logging
from typing import Any

from tunneler.observability.log import EventHandler


class Recorder(EventHandler):
    """A list of events; as a context manager it listens.

    Args:
        least: the level below which it does not.
    """

    def __init__(self, least: int = logging.DEBUG) -> None:
        super().__init__("test")
        self._least = least
        self.events: list[tuple[str, str, dict[str, Any]]] = []
        self._logger = logging.getLogger("tunneler")

    def __enter__(self) -> Recorder:
        self._logger.addHandler(self)
        self._level = self._logger.level
        self._logger.setLevel(self._least)
        return self

    def __exit__(self, *_: object) -> None:
        self._logger.removeHandler(self)
        self._logger.setLevel(self._level)

    def take(self, record: logging.LogRecord, event: str, fields: Any) -> None:
        self.events.append((record.name.rpartition(".")[2], event, dict(fields)))

    def of(self, event: str, part: str | None = None, **fields: object) -> list[dict[str, Any]]:
        """The fields of each such event whose fields include these."""
        return [
            found
            for name, kind, found in self.events
            if kind == event and part in (None, name) and fields.items() <= found.items()
        ]
