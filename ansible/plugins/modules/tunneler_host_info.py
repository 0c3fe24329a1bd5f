#!/usr/bin/python
# Copyright: the tunneler authors
# MIT License (see LICENSE)
"""All that the roles ask about a host before they touch it, in one step."""

from __future__ import annotations

DOCUMENTATION = r"""
module: tunneler_host_info
short_description: Look at a host and at what of tunneler is on it
description:
  - Whether the host can run tunneler, which versions are on it, and the configuration that a role has.
  - Changes nothing.
author: the tunneler authors
options:
  home:
    description: Where versions are.
    type: path
    required: true
  configuration:
    description: The configuration file of the role in question.
    type: path
  paths:
    description: Files to look for.
    type: list
    elements: path
    default: []
attributes:
  check_mode:
    description: Changes nothing.
    support: full
  diff_mode:
    description: Changes nothing.
    support: none
"""

EXAMPLES = r"""
- name: What is on the host
  tunneler_host_info:
    home: /opt/tunneler
  register: host
"""

RETURN = r"""
systemd:
  description: Whether systemd runs the host.
  returned: always
  type: bool
python:
  description: Major and minor version of Python.
  returned: always
  type: str
versions:
  description: The versions that are there completely, the newest first.
  returned: always
  type: list
  elements: str
current:
  description: The version in use; empty if there is none.
  returned: always
  type: str
configuration:
  description: The text of the configuration; empty if there is none.
  returned: always
  type: str
present:
  description: For each of O(paths), whether it exists.
  returned: always
  type: dict
"""

import sys
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule

COMPLETE = ".complete"
"""The file that a version gets last."""


def versions(home: Path) -> list[str]:
    """Names of the versions that were installed to their end, the latest first."""
    marks = [mark for mark in home.glob(f"*/{COMPLETE}") if not mark.parent.is_symlink()]
    return [mark.parent.name for mark in sorted(marks, key=lambda mark: mark.stat().st_mtime, reverse=True)]


def text(path: Path) -> str:
    """What a file says; nothing if it is not there."""
    return path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""


def main() -> None:
    """Run as a module of Ansible."""
    module = AnsibleModule(
        argument_spec={
            "home": {"type": "path", "required": True},
            "configuration": {"type": "path"},
            "paths": {"type": "list", "elements": "path", "default": []},
        },
        supports_check_mode=True,
    )
    home, configuration = Path(module.params["home"]), module.params["configuration"]
    current = home / "current"
    module.exit_json(
        changed=False,
        systemd=Path("/run/systemd/system").is_dir(),  # sd_booted(3)
        python="{}.{}".format(*sys.version_info),
        versions=versions(home),
        current=str(current.readlink()) if current.is_symlink() else "",
        configuration=text(Path(configuration)) if configuration else "",
        present={path: Path(path).exists() for path in module.params["paths"]},
    )


if __name__ == "__main__":
    main()
