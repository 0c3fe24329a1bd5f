"""A configuration without the machinery that validated it.

A role only looks values up. The library that checks them takes as much memory as everything
else in an idle role, so what a role keeps for its lifetime are the values alone.
"""

from __future__ import annotations

from functools import cached_property
from types import SimpleNamespace

from tunneler.config.sections import Section


def plain_copy(section: Section) -> SimpleNamespace:
    """The same keys with the same values, those that are computed from others included."""
    values = {name: _plain(value) for name, value in section}
    for model in type(section).__mro__:
        if issubclass(model, Section) and model is not Section:
            computed = (
                name for name, what in vars(model).items() if isinstance(what, (property, cached_property))
            )
            values.update({name: getattr(section, name) for name in computed})
    return SimpleNamespace(**values)


def _plain(value: object) -> object:
    return plain_copy(value) if isinstance(value, Section) else value
