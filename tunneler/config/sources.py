"""Reading YAML, JSON and .env files, whatever is in them, into plain values.

A file may be hostile or simply the wrong one: it is bounded in size, it must be a regular
file in UTF-8, and every way of being unusable ends in one :class:`ConfigError`.

YAML is read by the loader that gives every scalar as text, as an environment variable
does: ``client_id: 0123`` or ``user: no`` then mean what was written. Anchors, aliases and
tags, which no configuration here needs, are refused; so is a key given twice.
"""

from __future__ import annotations

import json
import os
import re
import stat
from collections.abc import Callable, Hashable
from enum import IntEnum, unique
from pathlib import Path
from typing import Any, NoReturn

import yaml

from tunneler.errors import ConfigError

LARGEST_FILE = 256 * 1024
"""Bytes. Thousands of networks fit; PyYAML takes a few seconds for the worst of this size."""

NULLS = frozenset({"", "~", "null", "Null", "NULL"})
"""Plain scalars that are null by YAML 1.1; they mean that the key is not set here."""


@unique
class Kind(IntEnum):
    """Kinds of source, in order of increasing precedence."""

    YAML = 1
    JSON = 2
    DOTENV = 3
    ENVIRONMENT = 4
    FLAGS = 5


KIND_OF_SUFFIX = {".yaml": Kind.YAML, ".yml": Kind.YAML, ".json": Kind.JSON, ".env": Kind.DOTENV}


def kind_of_file(path: Path) -> Kind:
    """Tell by the name; a file called ``.env`` is a .env file.

    Raises:
        ConfigError: the name says nothing.
    """
    kind = KIND_OF_SUFFIX.get(path.name if path.name == ".env" else path.suffix)
    if kind is None:
        raise ConfigError(str(path), "", "expected a name that ends in .yaml, .yml, .json or .env")
    return kind


def read_mapping(path: Path) -> dict[str, Any]:
    """Read a whole file: nested for YAML and JSON, variable names to text for .env.

    Raises:
        ConfigError: unreadable, too large, not text, malformed, a key twice, or not a mapping.
    """
    parse = PARSER_OF_KIND[kind_of_file(path)]
    try:
        content: object = parse(_read_text(path))
    except _MalformedError as error:
        raise ConfigError(str(path), "", str(error)) from None
    except RecursionError:
        raise ConfigError(str(path), "", "expected a configuration, found values nested too deeply") from None
    if not isinstance(content, dict):
        found = "a list" if isinstance(content, list) else "a single value"
        raise ConfigError(str(path), "", f"expected keys and values, found {found}")
    return content


class _MalformedError(Exception):
    """The text breaks the rules of its format; the message says where."""


def _read_text(path: Path) -> str:
    try:
        # Without O_NONBLOCK, opening a FIFO would wait for its writer.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb") as file:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise _MalformedError("expected a regular file")
            content = file.read(LARGEST_FILE + 1)
    except OSError as error:
        raise _MalformedError(f"cannot be read: {error.strerror}") from None
    except ValueError:
        raise _MalformedError("expected a file name, found one with a zero byte") from None
    if len(content) > LARGEST_FILE:
        raise _MalformedError(
            f"expected a configuration of at most {LARGEST_FILE} bytes, found a larger file"
        )
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise _MalformedError(f"expected text in UTF-8, found another byte at offset {error.start}") from None


def _refusal(problem: str, mark: Any) -> yaml.MarkedYAMLError:
    return yaml.MarkedYAMLError(problem=problem, problem_mark=mark)


class _TextLoader(yaml.BaseLoader):
    """Mappings, lists and text; see the module's docstring for what is refused."""

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        event: yaml.Event = self.peek_event()  # type: ignore[no-untyped-call]
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None) is not None:
            raise _refusal("anchors and aliases are not accepted", event.start_mark)
        if getattr(event, "tag", None) is not None:
            raise _refusal("tags are not accepted", event.start_mark)
        return super().compose_node(parent, index)

    def construct_scalar(self, node: yaml.ScalarNode) -> Any:
        text = super().construct_scalar(node)
        return None if node.style is None and text in NULLS else text

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise _refusal("expected a key", key.start_mark)
            if key.value in seen:
                raise _refusal(f"the key {key.value!r} is given twice", key.start_mark)
            seen.add(key.value)
        return {key.value: self.construct_object(value, deep=True) for key, value in node.value}


def parse_yaml(text: str) -> Any:
    """Read one YAML document; an empty one is an empty mapping."""
    try:
        loader = _TextLoader(text)
        try:
            content = loader.get_single_data()
        finally:
            loader.dispose()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"line {mark.line + 1}, column {mark.column + 1}: " if mark is not None else ""
        raise _MalformedError(f"expected YAML, but {where}{error.problem or error.context}") from None
    except yaml.reader.ReaderError as error:
        raise _MalformedError(
            f"expected YAML, but found a control character at offset {error.position}"
        ) from None
    return {} if content is None else content


def parse_json(text: str) -> Any:
    """Read one JSON value (RFC 8259: no NaN, no Infinity)."""

    def pairs_to_dict(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        result: dict[str, Any] = {}
        for key, value in pairs:
            if key in result:
                raise _MalformedError(f"expected JSON, but the key {key!r} is given twice")
            result[key] = value
        return result

    def refuse_constant(name: str) -> NoReturn:
        raise _MalformedError(f"expected JSON, but found {name}")

    try:
        return json.loads(text, object_pairs_hook=pairs_to_dict, parse_constant=refuse_constant)
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        raise _MalformedError(f"expected JSON, but {where}: {error.msg}") from None
    except ValueError:
        # int() refuses thousands of digits (sys.set_int_max_str_digits).
        raise _MalformedError("expected JSON, but found a number with too many digits") from None


ASSIGNMENT = re.compile(r"(?:export\s+)?([A-Za-z_][A-Za-z0-9_]*)=(.*)")
DOUBLE_QUOTED = re.compile(r'"((?:[^"\\]|\\.)*)"\s*(?:#.*)?')
SINGLE_QUOTED = re.compile(r"'([^']*)'\s*(?:#.*)?")
COMMENT_AFTER_VALUE = re.compile(r"(?:^|\s)#.*")
ESCAPED = {"n": "\n", "t": "\t", "r": "\r"}


def parse_dotenv(text: str) -> dict[str, str]:
    """Read lines ``KEY=VALUE`` as a shell would, without any substitution.

    Blank lines, comments and ``export`` are accepted. Single quotes keep everything, double
    quotes know backslash escapes, and bare values end at `` #``. A line never continues.
    """
    values: dict[str, str] = {}
    for number, line in enumerate(text.split("\n"), start=1):
        line = line.strip()
        if not line or line.startswith("#"):
            continue
        match = ASSIGNMENT.fullmatch(line)
        if match is None:
            raise _MalformedError(f"line {number}: expected KEY=VALUE")
        key, raw = match[1], match[2].strip()
        if key in values:
            raise _MalformedError(f"line {number}: {key} is given twice")
        values[key] = _dotenv_value(raw, number)
    return values


def _dotenv_value(raw: str, line: int) -> str:
    if raw.startswith('"'):
        match = DOUBLE_QUOTED.fullmatch(raw)
        if match is not None:
            return re.sub(r"\\(.)", lambda escape: ESCAPED.get(escape[1], escape[1]), match[1])
    elif raw.startswith("'"):
        match = SINGLE_QUOTED.fullmatch(raw)
        if match is not None:
            return match[1]
    else:
        return COMMENT_AFTER_VALUE.sub("", raw, count=1).rstrip()
    raise _MalformedError(f"line {line}: expected a closing quote at the end of the value")


PARSER_OF_KIND: dict[Kind, Callable[[str], Any]] = {
    Kind.YAML: parse_yaml,
    Kind.JSON: parse_json,
    Kind.DOTENV: parse_dotenv,
}
