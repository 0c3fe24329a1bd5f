#!/usr/bin/python
# Copyright: the tunneler authors
# MIT License (see LICENSE)
"""Units of systemd: enabled, started, and looked at until all are well, in one step."""

from __future__ import annotations

DOCUMENTATION = r"""
module: tunneler_units
short_description: Enable and start units, and wait until they are active
description:
  - Units are started without waiting for each other, then all are waited for.
author: the tunneler authors
options:
  units:
    description: The units.
    type: list
    elements: dict
    required: true
    suboptions:
      name:
        description: Of the unit.
        type: str
        required: true
      enabled:
        description: Whether it is started at boot; left as it is if not given.
        type: bool
  timeout:
    description: Seconds until all have to be active.
    type: int
    default: 60
attributes:
  check_mode:
    description: Says what would be enabled or started, and waits for nothing.
    support: full
  diff_mode:
    description: Nothing to show.
    support: none
"""

EXAMPLES = r"""
- name: A proxy
  tunneler_units:
    units:
      - {name: tunneler-proxy.service, enabled: true}
      - {name: tunneler.target}
"""

RETURN = r"""
started:
  description: Units that were started.
  returned: always
  type: list
  elements: str
enabled:
  description: Units that were enabled or disabled.
  returned: always
  type: list
  elements: str
status:
  description: What each unit says of itself.
  returned: when all are well
  type: dict
"""

import time
from typing import Any

from ansible.module_utils.basic import AnsibleModule

PROPERTIES = ("ActiveState", "UnitFileState", "StatusText", "Result", "Job")
POLL_SECONDS = 0.3

Unit = dict[str, str]


class Units:
    """Units of a host, by systemctl(1)."""

    def __init__(self, module: AnsibleModule) -> None:
        self.module = module
        self.wanted: list[dict[str, Any]] = module.params["units"]
        self.names: list[str] = [unit["name"] for unit in self.wanted]

    def show(self) -> dict[str, Unit]:
        """The properties of each unit."""
        text = self._systemctl("show", f"--property=Id,{','.join(PROPERTIES)}", *self.names)
        blocks = [dict(line.split("=", 1) for line in block.splitlines()) for block in text.split("\n\n")]
        # What a kind of unit does not have, such as the status of a socket, is not shown.
        return {
            name: dict.fromkeys(PROPERTIES, "") | block
            for name, block in zip(self.names, blocks, strict=True)
        }

    def enable(self, state: dict[str, Unit]) -> list[str]:
        """Let those start at boot that shall, and no others; their names."""
        changed: list[str] = []
        for verb, wanted in (("enable", True), ("disable", False)):
            names = [
                unit["name"]
                for unit in self.wanted
                if unit["enabled"] is wanted
                and (state[unit["name"]]["UnitFileState"] == "enabled") is not wanted
            ]
            if names and not self.module.check_mode:
                self._systemctl(verb, *names)
            changed += names
        return changed

    def start(self, state: dict[str, Unit]) -> list[str]:
        """Start what does not run and is not about to; the names."""
        names = [name for name in self.names if state[name]["ActiveState"] in ("inactive", "failed")]
        if names and not self.module.check_mode:
            self._systemctl("start", "--no-block", *names)
        return names

    def wait(self, seconds: int) -> dict[str, str]:
        """Wait until all are well; what each says of itself."""
        deadline = time.monotonic() + seconds
        while True:
            state = self.show()
            ill = {name: unit for name, unit in state.items() if not is_well(unit)}
            if not ill:
                return {name: unit["StatusText"] for name, unit in state.items()}
            if time.monotonic() > deadline or all(has_given_up(unit) for unit in ill.values()):
                said = "; ".join(f"{name}: {describe(unit)}" for name, unit in ill.items())
                self.module.fail_json(msg=f"{said} (look at journalctl --unit {next(iter(ill))})")
            time.sleep(POLL_SECONDS)

    def _systemctl(self, *arguments: str) -> str:
        _, said, _ = self.module.run_command(["systemctl", *arguments], check_rc=True)
        return str(said)


def is_well(unit: Unit) -> bool:
    """Whether it runs, and runs with the configuration that it has been given."""
    return unit["ActiveState"] == "active" and "reload refused" not in unit["StatusText"]


def has_given_up(unit: Unit) -> bool:
    """Whether it is over with it, unless somebody starts it."""
    return unit["ActiveState"] == "failed" and unit["Job"] in ("", "0")


def describe(unit: Unit) -> str:
    """How it is, in the words of systemctl show."""
    return " ".join(f"{key}={unit[key]}" for key in ("ActiveState", "Result", "StatusText") if unit[key])


def main() -> None:
    """Run as a module of Ansible."""
    unit = {"name": {"type": "str", "required": True}, "enabled": {"type": "bool"}}
    module = AnsibleModule(
        argument_spec={
            "units": {"type": "list", "elements": "dict", "required": True, "options": unit},
            "timeout": {"type": "int", "default": 60},
        },
        supports_check_mode=True,
    )
    units = Units(module)
    state = units.show()
    enabled, started = units.enable(state), units.start(state)
    changes = {"changed": bool(enabled or started), "enabled": enabled, "started": started}
    if not module.check_mode:
        changes["status"] = units.wait(module.params["timeout"])
    module.exit_json(**changes)


if __name__ == "__main__":
    main()
