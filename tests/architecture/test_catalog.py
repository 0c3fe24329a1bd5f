"""journalctl -x explains every event there is, and no other."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections import defaultdict
from functools import reduce
from pathlib import Path

from tests.architecture.events import events
from tests.architecture.sources import ROOT
from tunneler.observability.journal import field_name, message_id

CATALOG = ROOT / "packaging" / "systemd" / "catalog" / "tunneler.catalog"

ENTRY = re.compile(
    r"^# (?P<event>.*)\n"
    r"-- (?P<number>[0-9a-f]{32})\n"
    r"Subject: (?P<subject>.*)\n"
    r"Defined-By: tunneler\n"
    r"\n(?P<text>(?:.*\n)*?)(?=\n# |\Z)",
    re.MULTILINE,
)
OF_EVERY_EVENT = frozenset({"TUNNELER_EVENT"})


def entries() -> dict[str, re.Match[str]]:
    found = {entry["event"]: entry for entry in ENTRY.finditer(CATALOG.read_text(encoding="utf-8"))}
    assert len(found) == CATALOG.read_text(encoding="utf-8").count("\n-- ")
    return found


def test_every_event_is_explained() -> None:
    missing = {event.name: event.where for event in events() if event.name not in entries()}
    assert not missing, "\n".join(
        f"{where}: {CATALOG.name} lacks:\n# {name}\n-- {message_id(name)}" for name, where in missing.items()
    )


def test_every_explanation_has_an_event() -> None:
    assert set(entries()) - {event.name for event in events()} == set()


def test_the_numbers_are_those_of_the_journal() -> None:
    wrong = {
        name: message_id(name) for name, entry in entries().items() if entry["number"] != message_id(name)
    }
    assert wrong == {}


def test_what_is_filled_in_is_a_field_wherever_the_event_is_logged() -> None:
    """journalctl shows the bare name of a field that an entry lacks."""
    fields: dict[str, list[frozenset[str]]] = defaultdict(list)
    for event in events():
        fields[event.name].append(frozenset(map(field_name, event.fields)))
    for name, entry in entries().items():
        wanted = set(re.findall(r"@([^@\n]+)@", entry["text"]))
        assert wanted <= reduce(frozenset.intersection, fields[name]) | OF_EVERY_EVENT, name


def test_explanations_are_short_and_say_what_to_do_about_trouble() -> None:
    for name, entry in entries().items():
        assert len(entry["subject"]) <= 70, name
        assert all(len(line) <= 110 for line in entry["text"].splitlines()), name
        assert not re.search(r"^[#;]", entry["text"], re.MULTILINE), f"{name}: would be a comment"
        if re.search(r"failed|refused|denied|_not_|error|conflict|expires", name):
            assert "What to do:" in entry["text"], name


def test_journalctl_takes_it(tmp_path: Path) -> None:
    installed = tmp_path / "usr" / "lib" / "systemd" / "catalog"
    installed.mkdir(parents=True)
    shutil.copy(CATALOG, installed)
    update = ("journalctl", f"--root={tmp_path}", "--update-catalog")
    said = subprocess.run(update, check=True, capture_output=True, text=True, timeout=30)
    assert (said.stdout, said.stderr) == ("", "")
    show = ("journalctl", f"--root={tmp_path}", "--list-catalog")
    listed = subprocess.run(show, check=True, capture_output=True, text=True, timeout=30).stdout
    assert dict(line.split(" ", 1) for line in listed.splitlines()) == {
        entry["number"]: f"tunneler: {entry['subject']}" for entry in entries().values()
    }
