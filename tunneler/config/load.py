"""Files, environment and flags become one validated configuration, or a line for each fault.

Precedence is by kind (YAML, JSON, .env, environment, flags), then by order: a later file of
a kind overrides an earlier one. Sections are merged key by key; a list replaces a list.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from pydantic import ValidationError

from tunneler.config import keys
from tunneler.config.fields import RelativeToFile
from tunneler.config.flags import FLAG_OF_KEY
from tunneler.config.messages import fault_of, one_line
from tunneler.config.model import RoleConfig
from tunneler.config.sections import Section
from tunneler.config.sources import Kind, kind_of_file, read_mapping
from tunneler.errors import ConfigError

Model = TypeVar("Model", bound=RoleConfig)

STREAMS = frozenset({"stdout", "stderr"})
"""Values of log.output that are not paths."""


class CombinedConfigError(ConfigError):
    """Several faults at once; the text has a line for each."""

    def __init__(self, faults: Sequence[ConfigError]) -> None:
        first = faults[0]
        super().__init__(first.source, first.key, first.expected)
        self.faults = tuple(faults)
        self.args = ("\n".join(str(fault) for fault in faults),)


@dataclass(frozen=True)
class Loaded(Generic[Model]):
    """A configuration in force.

    Attributes:
        config: the validated configuration.
        warnings: one line each, for the operator.
        sources: for each dotted key that was set, the file, variable or flag that set it.
    """

    config: Model
    warnings: tuple[str, ...]
    sources: Mapping[str, str]


@dataclass(frozen=True)
class _Setting:
    """One value of one key, and who says so."""

    path: keys.Path
    value: object
    source: str


def load(
    model: type[Model], files: Sequence[Path], environment: Mapping[str, str], flags: Mapping[str, object]
) -> Loaded[Model]:
    """Read all sources and validate the result.

    Args:
        model: the configuration of a role.
        files: in the order given by the operator.
        environment: only names that begin with TUNNELER_ are read.
        flags: dotted key to value; a flag that was not given is None or an empty tuple.

    Raises:
        ConfigError: one fault; several are a :class:`CombinedConfigError`.
    """
    reader = _Reader(model)
    reader.read_files(files)
    reader.read_variables(environment, "{}")
    reader.read_flags(flags)
    if reader.unreadable:
        # Whatever else is wrong may be so only because these values are missing.
        raise _error_of(reader.unreadable)
    settings = reader.settings
    sources = {keys.dotted(path): setting.source for path, setting in settings.items()}
    try:
        config = model.model_validate(_nested(settings))
    except ValidationError as error:
        invalid = [
            fault_of(detail, model, sources)
            for detail in error.errors(include_url=False)
            # A misspelt key is missing, too; one line about it is enough.
            if not (reader.misplaced and detail["type"] == "missing")
        ]
        raise _error_of(reader.misplaced + invalid) from None
    if reader.misplaced:
        raise _error_of(reader.misplaced)
    return Loaded(config, (*reader.warnings, *_doubts(config)), sources)


def _error_of(faults: Sequence[ConfigError]) -> ConfigError:
    return faults[0] if len(faults) == 1 else CombinedConfigError(faults)


class _Reader:
    """Collects settings, and faults that have nothing to do with the values."""

    def __init__(self, model: type[RoleConfig]) -> None:
        self.settings: dict[keys.Path, _Setting] = {}
        self.unreadable: list[ConfigError] = []
        self.misplaced: list[ConfigError] = []
        self.warnings: list[str] = []
        self._model = model

    def read_files(self, files: Sequence[Path]) -> None:
        by_kind: dict[Kind, list[tuple[Path, dict[str, Any]]]] = {}
        for path in files:
            try:
                by_kind.setdefault(kind_of_file(path), []).append((path, read_mapping(path)))
            except ConfigError as error:
                self.unreadable.append(ConfigError(one_line(error.source), "", one_line(error.expected)))
        for kind in sorted(by_kind):
            for path, content in by_kind[kind]:
                self._read_content(kind, content, path)

    def _read_content(self, kind: Kind, content: dict[str, Any], path: Path) -> None:
        source = one_line(str(path))
        if kind is Kind.DOTENV:
            self._warn_of_foreign_names(content, source)
            self.read_variables(content, f"{source}: {{}}", path.parent)
        else:
            self._read_section(self._model, content, (), source, path.parent)

    def read_variables(self, values: Mapping[str, str], label: str, directory: Path | None = None) -> None:
        known = keys.variables(self._model)
        for name, value in values.items():
            if name in known:
                self._set(known[name], value, label.format(name), directory)
            elif name.startswith(keys.ENVIRONMENT_PREFIX) and name not in keys.variables_of_every_role():
                near = keys.suggested_variable(self._model, name)
                self.misplaced.append(
                    ConfigError(label.format(one_line(name)), "", f"no such variable{near}")
                )

    def read_flags(self, flags: Mapping[str, object]) -> None:
        for key, value in flags.items():
            if value is not None and value != ():
                self._set(tuple(key.split(".")), value, FLAG_OF_KEY[key])

    def _read_section(
        self,
        section: type[Section],
        content: Mapping[str, Any],
        above: keys.Path,
        source: str,
        directory: Path,
    ) -> None:
        for name, value in content.items():
            path = (*above, name)
            field = section.model_fields.get(name)
            if field is None:
                near = keys.suggested_key(self._model, path)
                self.misplaced.append(ConfigError(source, one_line(keys.dotted(path)), f"unknown key{near}"))
                continue
            inner = keys.section_at(field)
            if inner is None:
                self._set(path, value, source, directory)
            elif isinstance(value, Mapping):
                self._read_section(inner, value, path, source, directory)
            elif value is not None:
                expected = f"expected a section with keys such as {next(iter(inner.model_fields))}"
                self.misplaced.append(ConfigError(source, keys.dotted(path), expected))

    def _set(self, path: keys.Path, value: object, source: str, directory: Path | None = None) -> None:
        if value is None:
            return
        if directory is not None and isinstance(value, str) and value and value not in STREAMS:
            field = keys.leaves(self._model)[path]
            if any(isinstance(mark, RelativeToFile) for mark in field.metadata):
                value = str(directory / value)
        self.settings[path] = _Setting(path, value, source)

    def _warn_of_foreign_names(self, content: Mapping[str, str], source: str) -> None:
        foreign = [name for name in content if not name.startswith(keys.ENVIRONMENT_PREFIX)]
        if foreign:
            prefix = keys.ENVIRONMENT_PREFIX
            self.warnings.append(f"{source}: not read, because the name lacks {prefix}: {', '.join(foreign)}")


def _nested(settings: Mapping[keys.Path, _Setting]) -> dict[str, Any]:
    # tls has no default, because no default of it is valid; an empty one says what is missing.
    content: dict[str, Any] = {"tls": {}}
    for path, setting in settings.items():
        section = content
        for name in path[:-1]:
            section = section.setdefault(name, {})
        section[path[-1]] = setting.value
    return content


def _doubts(config: RoleConfig) -> list[str]:
    """What is valid and yet probably not meant."""
    doubts = []
    if config.tls.insecure:
        doubts.append("tls.insecure: links are plaintext and every peer on this machine is trusted")
    timeouts = config.timeouts
    if timeouts.open <= timeouts.dial:
        doubts.append(
            f"timeouts.open ({timeouts.open:g}s) is not longer than timeouts.dial ({timeouts.dial:g}s): "
            "a client may give up before the proxy can say why a target did not answer"
        )
    return doubts
