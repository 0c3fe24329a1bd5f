"""A configuration in force, as YAML that says where each value comes from."""

from __future__ import annotations

from typing import Any

import yaml

from tunneler.config.keys import Path, dotted, leaves
from tunneler.config.load import Loaded
from tunneler.config.model import ProxyConfig, RoleConfig

NOT_SET = "default"
INDENT = "  "


def configuration_text(loaded: Loaded[RoleConfig]) -> str:
    """One line for each key, with its source in a comment; a proxy's routes follow as comments."""
    config = loaded.config
    lines: list[str] = []
    section: Path = ()
    values = config.model_dump(mode="json")
    for path in sorted(leaves(type(config)), key=lambda path: len(path) > 1):
        if path[:-1] != section:
            section = path[:-1]
            lines.append(f"{dotted(section)}:")
        source = loaded.sources.get(dotted(path), NOT_SET)
        lines.append(f"{INDENT * len(section)}{path[-1]}: {_flow(_value_at(values, path))}  # {source}")
    if isinstance(config, ProxyConfig):
        lines.extend(f"# announces {route}" for route in config.all_routes)
    return "\n".join(lines) + "\n"


def _value_at(values: Any, path: Path) -> Any:
    for name in path:
        values = values[name]
    return values


def _flow(value: Any) -> str:
    """A value on one line; PyYAML ends a document that is one scalar with three dots."""
    text = yaml.safe_dump(
        value, default_flow_style=True, width=float("inf"), allow_unicode=True, sort_keys=False
    )
    return text.removesuffix("...\n").rstrip("\n")
