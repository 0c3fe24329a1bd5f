"""Unit files from the attributes of which NixOS makes them (nixos/lib/systemd-lib.nix), and back."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import Any

Settings = dict[str, list[str]]
"""``Section.Key`` to its values, in order, in systemd's own words."""

KEY_OF_OPTION = {
    "after": "After",
    "before": "Before",
    "conflicts": "Conflicts",
    "partOf": "PartOf",
    "requires": "Requires",
    "wants": "Wants",
}
LISTS = frozenset("Unit." + key for key in KEY_OF_OPTION.values()) | {
    "Install.WantedBy",
    "Service.Environment",
    "Socket.ListenStream",
}
"""Whose values are words in any order."""
PROGRAMS = {"/nix/store/00000000000000000000000000000000-coreutils": "",
            "/nix/store/00000000000000000000000000000000-tunneler": "/usr"}  # fmt: skip


def render(kind: str, unit: Mapping[str, Any]) -> str:
    """The text of a unit; ``kind`` is Service, Socket or Target."""
    lines = ["[Unit]", f"Description={unit['description']}"]
    lines += [f"{key}={' '.join(unit[option])}" for option, key in KEY_OF_OPTION.items() if unit[option]]
    lines += _section(unit["unitConfig"])
    if kind != "Target":
        lines.append(f"[{kind}]")
        lines += _section(unit[f"{kind.lower()}Config"])
    lines += [f"Environment={name}={value}" for name, value in unit.get("environment", {}).items()]
    lines += [f"ListenStream={stream}" for stream in unit.get("listenStreams", [])]
    if unit["wantedBy"]:
        lines += ["[Install]", f"WantedBy={' '.join(unit['wantedBy'])}"]
    text = "\n".join(lines) + "\n"
    for store, place in PROGRAMS.items():
        text = text.replace(store, place)
    return text


def _section(settings: Mapping[str, Any]) -> Iterator[str]:
    for key, value in settings.items():
        for item in value if isinstance(value, list) else [value]:
            yield f"{key}={str(item).lower() if isinstance(item, bool) else item}"


def parse(text: str) -> Settings:
    """What a unit file sets; what means the same is the same."""
    settings: dict[str, list[str]] = defaultdict(list)
    section = ""
    for line in text.splitlines():
        if line.startswith("["):
            section = line.strip("[]")
        elif line and not line.startswith("#"):
            key, _, value = line.partition("=")
            settings[f"{section}.{key}"].append({"yes": "true", "no": "false"}.get(value, value))
    for key in LISTS & settings.keys():
        settings[key] = sorted({word for value in settings[key] for word in value.split()})
    return dict(settings)
