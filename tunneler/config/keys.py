"""The keys of a configuration, taken from the model: their paths, and their names elsewhere."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from functools import cache

from pydantic.fields import FieldInfo

from tunneler.config.flags import FLAG_OF_KEY
from tunneler.config.model import MODEL_OF_ROLE
from tunneler.config.sections import Section

ENVIRONMENT_PREFIX = "TUNNELER_"

Path = tuple[str, ...]
"""A key, outermost section first."""


def section_at(field: FieldInfo) -> type[Section] | None:
    """The model of a field that is a section, and None for a field that is a value."""
    annotation = field.annotation
    return annotation if isinstance(annotation, type) and issubclass(annotation, Section) else None


@cache
def leaves(model: type[Section]) -> Mapping[Path, FieldInfo]:
    """Every key of ``model`` that has a value of its own, in the order of the model."""
    found: dict[Path, FieldInfo] = {}
    for name, field in model.model_fields.items():
        section = section_at(field)
        if section is None:
            found[(name,)] = field
        else:
            found.update({(name, *rest): leaf for rest, leaf in leaves(section).items()})
    return found


def dotted(path: Iterable[object]) -> str:
    return ".".join(str(part) for part in path)


def variable_of(path: Path) -> str:
    """The environment variable of a key: ``tls.cert_file`` is TUNNELER_TLS_CERT_FILE."""
    return ENVIRONMENT_PREFIX + "_".join(path).upper()


@cache
def variables(model: type[Section]) -> Mapping[str, Path]:
    """The key behind each environment variable."""
    return {variable_of(path): path for path in leaves(model)}


@cache
def variables_of_every_role() -> frozenset[str]:
    return frozenset(name for model in MODEL_OF_ROLE.values() for name in variables(model))


def ways_to_set(path: Path) -> str:
    """How an operator can set a key, for the message that it is missing."""
    flag = FLAG_OF_KEY.get(dotted(path))
    ways = f"set it in a file or as {variable_of(path)}"
    return f"{ways}, or use {flag}" if flag is not None else ways


def suggestion(wrong: str, known: Iterable[str]) -> str:
    """`` (did you mean …?)`` for a name that is close to a known one, or nothing."""
    near = _nearest(wrong, known)
    return f"; did you mean {near}?" if near is not None else ""


def _nearest(wrong: str, known: Iterable[str]) -> str | None:
    return next(iter(difflib.get_close_matches(wrong, list(known), n=1, cutoff=0.6)), None)


def suggested_variable(model: type[Section], wrong: str) -> str:
    """The prefix, which all of them share, is no likeness."""
    near = _nearest(
        wrong.removeprefix(ENVIRONMENT_PREFIX),
        (name.removeprefix(ENVIRONMENT_PREFIX) for name in variables(model)),
    )
    return f"; did you mean {ENVIRONMENT_PREFIX}{near}?" if near is not None else ""


def suggested_key(model: type[Section], wrong: Path) -> str:
    """Look for the same name elsewhere (cert_file is tls.cert_file), then among the siblings."""
    *sections, name = wrong
    paths = leaves(model)
    siblings = {dotted(path[: len(wrong)]) for path in paths if list(path[: len(sections)]) == sections}
    elsewhere = [dotted(path) for path in paths if path[-1] == name]
    near = next(iter(elsewhere), None) or _nearest(dotted(wrong), siblings)
    return f"; did you mean {near}?" if near is not None else suggestion(dotted(wrong), map(dotted, paths))
