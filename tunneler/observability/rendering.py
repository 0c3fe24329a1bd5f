"""Turn an event and its fields into one line, whatever the fields hold.

Fields often come from peers, who may be hostile: nothing that they send can end a line early,
imitate another field, drive a terminal, or make rendering raise.
"""

from __future__ import annotations

import json
import math
import re
import time
from collections.abc import Callable, Mapping
from enum import IntEnum
from functools import lru_cache
from json.encoder import encode_basestring_ascii
from typing import Any

Plain = str | int | float | bool | None

MAX_VALUE_CHARACTERS = 8192
"""A longer value is cut, and ends in CUT: no peer fills the disk with one line."""

CUT = "[cut]"

MAX_INTEGER = 1 << 128
"""Larger than any count or address; Python refuses to write out one of over 4300 digits at all."""

RESERVED_NAMES = frozenset({"time", "level", "role", "event"})
"""What every line has anyway; a field of such a name is shown with an underscore at its end."""

# As in logfmt: quotes where a space, a quote, "=" or anything outside printable ASCII would confuse.
_needs_no_quotes = re.compile(r"[!#-<>-\[\]-~]+").fullmatch
# Escapes control characters and everything outside ASCII: C1 controls, U+2028, lone surrogates.
_encode = json.JSONEncoder(separators=(",", ":"), ensure_ascii=True, check_circular=False).encode

_last_second = (-1, "")


def json_line(created: float, level: str, role: str, event: str, fields: Mapping[str, object]) -> str:
    """One JSON object and a line end; ``created`` in seconds since the epoch."""
    # Put together here, because a JSONEncoder for a whole line takes twice as long.
    members = "".join([_member_start(name) + _json(value) for name, value in fields.items()])
    start = f'"time":"{timestamp(created)}"{_constant("level", level)}{_constant("role", role)}'
    return f"{{{start}{_constant('event', event)}{members}}}\n"


@lru_cache(maxsize=256)
def _constant(name: str, value: str) -> str:
    """A member that is the same in many lines."""
    return f',"{name}":{_encode(value)}'


@lru_cache(maxsize=256)
def _member_start(name: str) -> str:
    """What stands before the value of a field: names are few, and always the same."""
    return f",{_encode(f'{name}_' if name in RESERVED_NAMES else name)}:"


def _json(value: object) -> str:
    shown = plain(value)
    if type(shown) is str:
        return encode_basestring_ascii(shown)
    return repr(shown) if type(shown) is int or type(shown) is float else _encode(shown)


def text_line(created: float, level: str, role: str, event: str, fields: Mapping[str, object]) -> str:
    """``time level role event name=value …`` and a line end; ``created`` in seconds since the epoch."""
    return f"{timestamp(created)} {level} {role} {sentence(event, fields)}\n"


def sentence(event: str, fields: Mapping[str, object]) -> str:
    """``event name=value …``, with quotes where needed."""
    words = [_word(event)]
    words += [f"{_word(name)}={_word(plain(value))}" for name, value in fields.items()]
    return " ".join(words)


def timestamp(created: float) -> str:
    """RFC 3339 in UTC, with microseconds: ``2026-01-01T00:00:00.000000Z``."""
    global _last_second  # noqa: PLW0603 - strftime costs as much as all the rest of a line
    second, text = _last_second
    now = int(created)
    if now != second:
        text = time.strftime("%Y-%m-%dT%H:%M:%S.", time.gmtime(now))
        _last_second = (now, text)
    return f"{text}{min(999_999, round((created - now) * 1_000_000)):06d}Z"


def plain(value: object) -> Plain:
    """What JSON can say of the value: itself if it is plain, bytes as hex, anything else as its text.

    A code (an IntEnum) goes by its name in lower case, an exception without text by its class.
    """
    return _PLAIN.get(type(value), _plain_of_other)(value)


def _plain_of_other(value: object) -> Plain:
    """What is not exactly of a plain type: the types that derive from one, and all others."""
    if isinstance(value, IntEnum):
        return value.name.lower()
    for kind in (str, int, float):
        if isinstance(value, kind):
            return _PLAIN[kind](value)
    return _cut(_text(value))


def _finite(value: float) -> Plain:
    return value if math.isfinite(value) else str(value)  # JSON has no infinity


def _bounded(value: int) -> Plain:
    return value if -MAX_INTEGER < value < MAX_INTEGER else _cut(hex(value))


def _text(value: object) -> str:
    try:
        if isinstance(value, (bytes, bytearray, memoryview)):
            return bytes(value[: MAX_VALUE_CHARACTERS // 2 + 1]).hex()
        return str(value) or type(value).__name__
    except Exception:  # noqa: BLE001 - a __str__ that fails must not take down whoever logs
        return f"<{type(value).__name__} without text>"


def _cut(text: str) -> str:
    return text if len(text) <= MAX_VALUE_CHARACTERS else text[:MAX_VALUE_CHARACTERS] + CUT


# By type, because every field of every line comes by here.
_PLAIN: Mapping[type, Callable[[Any], Plain]] = {
    str: _cut,
    int: _bounded,
    float: _finite,
    bool: bool,
    type(None): lambda _: None,
    bytes: lambda value: _cut(_text(value)),
}


def _word(value: Plain) -> str:
    if isinstance(value, str):
        return value if _needs_no_quotes(value) else _encode(value)
    if value is None or isinstance(value, bool):
        return _encode(value)
    return str(value)
