#!/usr/bin/python
# Copyright: the tunneler authors
# MIT License (see LICENSE)
"""Files, links, directories and absences in one step: each task costs a host the start of a Python."""

from __future__ import annotations

DOCUMENTATION = r"""
module: tunneler_files
short_description: Put files, links and directories in place, all in one step
description:
  - What C(ansible.builtin.copy) and C(ansible.builtin.file) do in a loop, without the time that a loop takes.
  - Entries are done in their order.
author: the tunneler authors
options:
  files:
    description: What is to be where.
    type: list
    elements: dict
    required: true
    suboptions:
      path:
        description: Where.
        type: path
        required: true
      state:
        description: What is to be there.
        type: str
        choices: [file, link, directory, absent, renamed]
        default: file
      content:
        description:
          - Of a file. With neither this nor O(files[].src), only its owner, group and mode are seen to.
        type: str
      src:
        description:
          - What a file is a copy of, what a link points to, or what is renamed if it exists; on the host.
        type: path
      names:
        description:
          - For several of a kind; each is added to O(files[].path), and to O(files[].src) if that is given.
        type: list
        elements: str
      owner:
        description: Of a file or a directory.
        type: str
        default: root
      group:
        description: Of a file or a directory.
        type: str
        default: root
      mode:
        description: Of a file or a directory; 0644 or 0755 if not given.
        type: raw
attributes:
  check_mode:
    description: A source that does not exist yet counts as a change.
    support: full
  diff_mode:
    description: Shows the text of files that have a content or a source.
    support: full
"""

EXAMPLES = r"""
- name: A configuration, and the directory that it is in
  tunneler_files:
    files:
      - {path: /etc/tunneler, state: directory}
      - {path: /etc/tunneler/proxy.yaml, content: "proxy_id: site-1\n"}
"""

RETURN = r"""
paths:
  description: What was changed.
  returned: always
  type: list
  elements: str
"""

import itertools
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule

Entry = dict[str, Any]
STATES = ("file", "link", "directory", "absent", "renamed")
DEFAULT_MODES = {"file": "0644", "directory": "0755"}


class Refused(Exception):
    """Something is in the way of an entry; the text says what."""


class Files:
    """Carries out entries; knows what it changed, and how that looks as a diff."""

    def __init__(self, module: AnsibleModule) -> None:
        self.module = module
        self.paths: list[str] = []
        self.diffs: list[dict[str, str]] = []

    def put(self, entry: Entry) -> None:
        """Carry out one entry.

        Raises:
            Refused: a file is not there that should be.
            OSError: what the kernel refuses.
        """
        changed: bool = getattr(self, f"_{entry['state']}")(Path(entry["path"]), entry)
        if entry["state"] in DEFAULT_MODES:
            changed = self._attributes(entry, changed)
        if changed:
            self.paths.append(entry["path"])

    def _file(self, path: Path, entry: Entry) -> bool:
        wanted = self._wanted(entry)
        if wanted is None:
            if not path.is_file() and not self.module.check_mode:
                raise Refused(f"{path} does not exist")
            return False
        present = path.read_bytes() if path.exists() else b""
        if path.exists() and present == wanted:
            return False
        self._differs(path, _text(present), _text(wanted))
        if not self.module.check_mode:
            descriptor, staged = tempfile.mkstemp(dir=self.module.tmpdir)
            with os.fdopen(descriptor, "wb") as file:
                file.write(wanted)
            self.module.atomic_move(staged, str(path))
        return True

    def _wanted(self, entry: Entry) -> bytes | None:
        """The content that a file is to have; None if that is not our affair."""
        if entry["content"] is not None:
            return str(entry["content"]).encode()
        if entry["src"] is None:
            return None
        source = Path(entry["src"])
        if source.exists():
            return source.read_bytes()
        if self.module.check_mode:
            return f"(what will be in {source})\n".encode()
        raise Refused(f"{source} does not exist")

    def _link(self, path: Path, entry: Entry) -> bool:
        present = str(path.readlink()) if path.is_symlink() else ""
        if present == entry["src"]:
            return False
        self._differs(path, f"-> {present}\n" if present else "", f"-> {entry['src']}\n")
        if not self.module.check_mode:
            # Whoever follows it finds what was there or what is wanted, and never nothing.
            staged = path.with_name(f".{path.name}.next")
            _remove(staged)
            staged.symlink_to(entry["src"])
            staged.replace(path)
        return True

    def _directory(self, path: Path, _: Entry) -> bool:
        if path.is_dir():
            return False
        self._differs(path, "", "directory\n")
        if not self.module.check_mode:
            path.mkdir()
        return True

    def _absent(self, path: Path, _: Entry) -> bool:
        if not _exists(path):
            return False
        self._differs(path, "present\n", "")
        if not self.module.check_mode:
            _remove(path)
        return True

    def _renamed(self, path: Path, entry: Entry) -> bool:
        source = Path(entry["src"])
        if source == path or not _exists(source):
            return False
        self._differs(path, "", f"what was {source}\n")
        if not self.module.check_mode:
            source.replace(path)
        return True

    def _attributes(self, entry: Entry, changed: bool) -> bool:
        wanted = {
            "path": entry["path"],
            "owner": entry["owner"],
            "group": entry["group"],
            "mode": entry["mode"] or DEFAULT_MODES[entry["state"]],
            "secontext": self.module.selinux_default_context(entry["path"]),
            "attributes": None,
        }
        diff: dict[str, dict[str, str]] = {"before": {}, "after": {}}
        differs = bool(self.module.set_fs_attributes_if_different(wanted, changed, diff))
        before, after = (
            "".join(f"{key}: {value}\n" for key, value in diff[when].items() if key != "path")
            for when in ("before", "after")
        )
        if before != after:
            self._differs(Path(entry["path"]), before, after)
        return differs

    def _differs(self, path: Path, before: str, after: str) -> None:
        header = {"before_header": str(path), "after_header": str(path)}
        self.diffs.append({**header, "before": before, "after": after})


def each(entry: Entry) -> list[Entry]:
    """The entries that one with names stands for."""
    if entry["names"] is None:
        return [entry]
    keys = [key for key in ("path", "src") if entry[key] is not None]
    return [entry | {key: str(Path(entry[key]) / name) for key in keys} for name in entry["names"]]


def _text(content: bytes) -> str:
    return content.decode(errors="replace")


def _exists(path: Path) -> bool:
    return path.exists() or path.is_symlink()


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def main() -> None:
    """Run as a module of Ansible."""
    options = {
        "path": {"type": "path", "required": True},
        "state": {"type": "str", "choices": list(STATES), "default": "file"},
        "content": {"type": "str"},
        "src": {"type": "path"},
        "names": {"type": "list", "elements": "str"},
        "owner": {"type": "str", "default": "root"},
        "group": {"type": "str", "default": "root"},
        "mode": {"type": "raw"},
    }
    rules = {
        "mutually_exclusive": [("content", "src")],
        "required_if": [("state", "link", ("src",)), ("state", "renamed", ("src",))],
    }
    entry = {"type": "list", "elements": "dict", "required": True, "options": options, **rules}
    module = AnsibleModule(argument_spec={"files": entry}, supports_check_mode=True)
    files = Files(module)
    for wanted in itertools.chain.from_iterable(map(each, module.params["files"])):
        try:
            files.put(wanted)
        except (OSError, Refused) as error:
            module.fail_json(msg=f"{wanted['path']}: {error}")
    module.exit_json(changed=bool(files.paths), paths=files.paths, diff=files.diffs)


if __name__ == "__main__":
    main()
