"""Every event that the program can log, with the fields it always has: read from the source."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from typing import NamedTuple

from tests.architecture.sources import ROOT, tracked
from tunneler.observability import complaint, log

LOGGING = frozenset({"debug", "info", "warning", "error", "log", "report", "_report"})
"""Functions, by their last name, that log the event which their first argument names."""

FIELDS_OF_PASSING = {"_logged": {"error", "hint"}}
"""Functions that are given the name of an event for later, and the fields that they will log it with."""

ELSEWHERE = {
    log.LIBRARY_MESSAGE: {"logger", "message"},
    log.LOG_LINES_LOST: {"count"},
    **{name: {"reason"} for name in complaint.EVENTS},
}
"""What the log itself makes, and what is said before there is one."""


class Event(NamedTuple):
    """One place that logs an event."""

    name: str
    fields: frozenset[str]
    where: str


def events() -> Iterator[Event]:
    """Each place in the package that logs one."""
    for name, fields in ELSEWHERE.items():
        yield Event(name, frozenset(fields), "observability")
    for path in tracked():
        if path.suffix == ".py" and path.is_relative_to(ROOT / "tunneler"):
            yield from _events_of(ast.parse(path.read_bytes()), str(path.relative_to(ROOT)))


def _events_of(module: ast.Module, file: str) -> Iterator[Event]:
    for node in ast.walk(module):
        if isinstance(node, ast.Call) and node.args:
            function = _last_name(node.func)
            if function in LOGGING:
                fields = _fields_of(node, module)
            elif function in FIELDS_OF_PASSING:
                fields = FIELDS_OF_PASSING[function]
            else:
                continue
            for name in _names_in(node.args[0]):
                yield Event(name, frozenset(fields), f"{file}:{node.lineno}")


def _last_name(function: ast.expr) -> str:
    if isinstance(function, ast.Attribute):
        return function.attr
    return function.id if isinstance(function, ast.Name) else ""


def _names_in(argument: ast.expr) -> list[str]:
    """The names of events that an argument can be: one, or one of two."""
    if isinstance(argument, ast.IfExp):
        return [*_names_in(argument.body), *_names_in(argument.orelse)]
    if isinstance(argument, ast.Constant) and isinstance(argument.value, str):
        return re.findall(r"\A[a-z]+(?:_[a-z]+)*\Z", argument.value)
    return []


def _fields_of(call: ast.Call, module: ast.Module) -> set[str]:
    fields = {keyword.arg for keyword in call.keywords if keyword.arg is not None}
    for keyword in call.keywords:
        if keyword.arg is None:
            fields |= _keys_made_by(keyword.value, module)
    if len(call.args) > 1:  # as gRPC's messages are reported
        fields.add("reason")
    return fields


def _keys_made_by(mapping: ast.expr, module: ast.Module) -> set[str]:
    """The keys of ``**_fields(event)``, where that function returns a dictionary as it is written."""
    assert isinstance(mapping, ast.Call), ast.unparse(mapping)
    for node in ast.walk(module):
        if isinstance(node, ast.FunctionDef) and node.name == _last_name(mapping.func):
            return {
                key.value
                for returned in ast.walk(node)
                if isinstance(returned, ast.Return) and isinstance(returned.value, ast.Dict)
                for key in returned.value.keys
                if isinstance(key, ast.Constant) and isinstance(key.value, str)
            }
    raise AssertionError(f"{ast.unparse(mapping)}: not found in its module")
