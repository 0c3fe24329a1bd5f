"""The modules of the collection by themselves: what they change, and what check mode says of it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

MODULES = Path(__file__).parents[2] / "ansible/plugins/modules"
MODULE_TIMEOUT = 30.0
OWNER = {"owner": str(os.getuid()), "group": str(os.getgid())}

Result = dict[str, Any]


def module(name: str, *, check: bool = False, **arguments: object) -> Result:
    """What a module answers."""
    internal = {"_ansible_check_mode": check, "_ansible_diff": True}
    done = subprocess.run(
        (sys.executable, str(MODULES / f"{name}.py")),
        input=json.dumps({"ANSIBLE_MODULE_ARGS": arguments | internal}),
        capture_output=True,
        text=True,
        timeout=MODULE_TIMEOUT,
        check=False,
    )
    found: Result = json.loads(done.stdout)
    return found


def files(*entries: Result, check: bool = False) -> Result:
    """Put entries in place, twice, as the second time must change nothing; what the first answered."""
    wanted = [
        OWNER | {key: str(value) for key, value in entry.items() if key != "names"} for entry in entries
    ]
    for ours, theirs in zip(wanted, entries, strict=True):
        ours |= {"names": theirs["names"]} if "names" in theirs else {}
    first = module("tunneler_files", files=wanted, check=check)
    if not check and not first.get("failed"):
        again = module("tunneler_files", files=wanted)
        assert (again["changed"], again["paths"], again["diff"]) == (False, [], [])
    return first


def test_check_mode_says_the_same_and_changes_nothing(tmp_path: Path) -> None:
    (tmp_path / "old").write_text("x")
    entries: tuple[Result, ...] = (
        {"path": tmp_path / "d", "state": "directory", "mode": "0750"},
        {"path": tmp_path / "d/file", "content": "a: 1\n"},
        {"path": tmp_path / "link", "src": "d", "state": "link"},
        {"path": tmp_path / "new", "src": tmp_path / "old", "state": "renamed"},
    )
    before = sorted(tmp_path.rglob("*"))
    said = files(*entries, check=True)
    assert sorted(tmp_path.rglob("*")) == before
    done = files(*entries)
    assert said["paths"] == done["paths"] == [str(entry["path"]) for entry in entries]
    assert (tmp_path / "d/file").read_text() == "a: 1\n"
    assert (tmp_path / "d").stat().st_mode & 0o7777 == 0o750
    assert (tmp_path / "link").readlink() == Path("d")
    assert (tmp_path / "new").read_text() == "x"


def test_the_diff_has_both_texts_of_a_file(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_text("old\n")
    path.chmod(0o644)
    (diff,) = files({"path": path, "content": "new\n"})["diff"]
    assert (diff["before_header"], diff["before"], diff["after"]) == (str(path), "old\n", "new\n")


def test_a_file_of_which_only_the_mode_counts_is_not_shown(tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.write_text("secret")
    path.chmod(0o600)
    said = files({"path": path, "mode": "0640"})
    assert said["paths"] == [str(path)]
    assert "secret" not in json.dumps(said)
    assert path.stat().st_mode & 0o7777 == 0o640


def test_names_stand_for_one_entry_each(tmp_path: Path) -> None:
    source = tmp_path / "from"
    source.mkdir()
    for name in ("a", "b"):
        (source / name).write_text(name)
    files({"path": tmp_path, "src": source, "names": ["a", "b"]})
    assert [(tmp_path / name).read_text() for name in ("a", "b")] == ["a", "b"]
    files({"path": tmp_path, "names": ["a", "b", "from", "never-there"], "state": "absent"})
    assert list(tmp_path.iterdir()) == []


def test_a_link_is_replaced_as_a_whole(tmp_path: Path) -> None:
    (tmp_path / "current").symlink_to("1")
    files({"path": tmp_path / "current", "src": "2", "state": "link"})
    assert [(path.name, str(path.readlink())) for path in tmp_path.iterdir()] == [("current", "2")]


@pytest.mark.parametrize("entry", [{"mode": "0640"}, {"src": "/nonexistent/source"}])
def test_what_is_missing_is_named(tmp_path: Path, entry: Result) -> None:
    said = files({"path": tmp_path / "f"} | entry)
    assert said["failed"]
    assert f"{entry.get('src', tmp_path / 'f')} does not exist" in said["msg"]


def test_a_source_that_is_still_to_come_counts_as_a_change(tmp_path: Path) -> None:
    assert files({"path": tmp_path / "f", "src": tmp_path / "later"}, check=True)["changed"]


def test_a_host_without_anything(tmp_path: Path) -> None:
    said = module(
        "tunneler_host_info", home=str(tmp_path / "opt"), paths=[str(tmp_path), str(tmp_path / "x")]
    )
    assert (said["versions"], said["current"], said["configuration"]) == ([], "", "")
    assert said["present"] == {str(tmp_path): True, str(tmp_path / "x"): False}
    assert said["python"] == f"{sys.version_info[0]}.{sys.version_info[1]}"


def test_versions_that_are_whole_the_latest_first(tmp_path: Path) -> None:
    for age, name in enumerate(("1.10", "1.9", "1.8")):
        (tmp_path / name).mkdir()
        (tmp_path / name / ".complete").touch()
        os.utime(tmp_path / name / ".complete", (1000 - age, 1000 - age))
    (tmp_path / "1.11").mkdir()
    (tmp_path / "current").symlink_to("1.9")
    said = module("tunneler_host_info", home=str(tmp_path))
    assert (said["versions"], said["current"]) == (["1.10", "1.9", "1.8"], "1.9")
