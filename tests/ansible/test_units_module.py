"""The module that enables and starts units, with a systemctl(1) of the test's own."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.ansible.test_modules import Result, module

SYSTEMCTL = """\
#!{python}
import json, sys
from pathlib import Path
directory = Path(__file__).parent
verb, *names = [word for word in sys.argv[1:] if not word.startswith("--")]
with open(directory / "calls", "a") as calls:
    print(verb, *names, file=calls)
units = json.loads((directory / "units.json").read_text())
for name in names:
    unit = units[name]
    if verb == "start":
        unit["ActiveState"] = unit["becomes"]
    elif verb in ("enable", "disable"):
        unit["UnitFileState"] = verb + "d"
(directory / "units.json").write_text(json.dumps(units))
if verb == "show":
    print("\\n\\n".join("\\n".join(f"{{k}}={{v}}" for k, v in units[name].items()) for name in names))
"""


@dataclass(frozen=True)
class Systemd:
    """Units as a file, and what was asked of them."""

    directory: Path

    def has(self, name: str, **properties: str) -> None:
        """A unit with these properties, which runs once it is started unless they say what it ``becomes``."""
        file = self.directory / "units.json"
        units = json.loads(file.read_text()) if file.exists() else {}
        usual = {"ActiveState": "inactive", "UnitFileState": "disabled", "Job": "0", "becomes": "active"}
        units[name] = {"Id": name, **usual, **properties}
        file.write_text(json.dumps(units))

    @property
    def changes(self) -> list[str]:
        """What was asked that changes something."""
        calls = (self.directory / "calls").read_text().splitlines()
        return [call for call in calls if not call.startswith("show ")]


@pytest.fixture
def systemd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Systemd:
    program = tmp_path / "systemctl"
    program.write_text(SYSTEMCTL.format(python=sys.executable))
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    return Systemd(tmp_path)


def units(*wanted: Result, check: bool = False, timeout: int = 30) -> Result:
    return module("tunneler_units", units=list(wanted), timeout=timeout, check=check)


def test_units_are_enabled_and_started_and_the_second_time_left_alone(systemd: Systemd) -> None:
    systemd.has("a.socket")
    systemd.has("a.service", ActiveState="active", StatusText="2 links")
    wanted = ({"name": "a.socket", "enabled": True}, {"name": "a.service"})
    done = units(*wanted)
    assert (done["changed"], done["enabled"], done["started"]) == (True, ["a.socket"], ["a.socket"])
    assert done["status"] == {"a.socket": "", "a.service": "2 links"}
    assert systemd.changes == ["enable a.socket", "start a.socket"]
    again = units(*wanted)
    assert (again["changed"], again["enabled"], again["started"]) == (False, [], [])
    assert len(systemd.changes) == 2


def test_check_mode_says_the_same_and_does_nothing(systemd: Systemd) -> None:
    systemd.has("a.socket")
    systemd.has("a.service", UnitFileState="enabled", ActiveState="active")
    said = units({"name": "a.socket", "enabled": True}, {"name": "a.service", "enabled": False}, check=True)
    assert (said["changed"], said["enabled"]) == (True, ["a.socket", "a.service"])
    assert said["started"] == ["a.socket"]
    assert "status" not in said
    assert systemd.changes == []


def test_a_unit_is_disabled_and_goes_on(systemd: Systemd) -> None:
    systemd.has("a.service", UnitFileState="enabled", ActiveState="active")
    assert units({"name": "a.service", "enabled": False})["enabled"] == ["a.service"]
    assert systemd.changes == ["disable a.service"]


def test_one_that_is_about_to_run_is_not_started(systemd: Systemd) -> None:
    systemd.has("a.service", ActiveState="activating")
    failed = units({"name": "a.service"}, timeout=0)
    assert failed["msg"].startswith("a.service: ActiveState=activating")
    assert systemd.changes == []


def test_a_failed_unit_is_tried_once_and_named_at_once(systemd: Systemd) -> None:
    systemd.has("a.socket", ActiveState="active")
    systemd.has("a.service", ActiveState="failed", becomes="failed", Result="exit-code", StatusText="no key")
    failed = units({"name": "a.socket"}, {"name": "a.service"}, timeout=600)  # more than the test has
    assert failed["msg"] == (
        "a.service: ActiveState=failed Result=exit-code StatusText=no key"
        " (look at journalctl --unit a.service)"
    )
    assert systemd.changes == ["start a.service"]


def test_one_that_systemd_will_start_again_is_waited_for(systemd: Systemd) -> None:
    systemd.has("a.service", ActiveState="failed", becomes="failed", Job="17")
    assert "ActiveState=failed" in units({"name": "a.service"}, timeout=1)["msg"]
    looks = (systemd.directory / "calls").read_text().count("show ")
    assert looks > 2


def test_one_that_kept_its_old_configuration_is_not_well(systemd: Systemd) -> None:
    systemd.has("a.service", ActiveState="active", StatusText="3 links, reload refused: no such file")
    assert "reload refused" in units({"name": "a.service"}, timeout=0)["msg"]
