"""What may change in the configuration of a role that runs, and what has to wait for a restart."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Final, NamedTuple

LIVE: Final = frozenset(
    {
        "log",
        "limits",
        "timeouts",
        "tcp_keepalive",
        "tls.cert_file",
        "tls.key_file",
        "tls.ca_file",
        # client
        "target_cidr",
        "exclude",
        "capture.user",
        "capture.when_down",  # that of "tunneler capture run"; a client has no use for it
        # proxy
        "group",
        "managed_cidr",
        "routes",
        "virtual_base",
    }
)
"""Keys, and whole sections, that take effect at once; whatever is not named here needs a restart."""

DERIVED: Final = frozenset({"all_routes", "link_addresses"})
"""Values that are computed from keys, and are none themselves."""


class Changes(NamedTuple):
    """The difference between two configurations, by dotted key, and what comes of it.

    Attributes:
        live: keys whose new values take effect now.
        pending: keys whose new values take effect with the next start.
        config: the new configuration, but with the old values of ``pending``.
    """

    live: tuple[str, ...]
    pending: tuple[str, ...]
    config: SimpleNamespace


def changes(old: SimpleNamespace, new: SimpleNamespace) -> Changes:
    """Compare two configurations of one role; both as :mod:`tunneler.config.plain` makes them."""
    differing = tuple(_differing(old, new, ""))
    live = tuple(key for key in differing if not LIVE.isdisjoint((key, key.partition(".")[0])))
    pending = tuple(key for key in differing if key not in live)
    return Changes(live, pending, _with_values_of(old, new, frozenset(pending), ""))


def _differing(old: SimpleNamespace, new: SimpleNamespace, above: str) -> Iterator[str]:
    for name, value in vars(new).items():
        before = getattr(old, name)
        if isinstance(value, SimpleNamespace):
            yield from _differing(before, value, f"{above}{name}.")
        elif value != before and name not in DERIVED:
            yield f"{above}{name}"


def _with_values_of(
    old: SimpleNamespace, new: SimpleNamespace, kept: frozenset[str], above: str
) -> SimpleNamespace:
    values = {}
    for name, value in vars(new).items():
        before = getattr(old, name)
        if isinstance(value, SimpleNamespace):
            values[name] = _with_values_of(before, value, kept, f"{above}{name}.")
        else:
            values[name] = before if f"{above}{name}" in kept else value
    return SimpleNamespace(**values)
