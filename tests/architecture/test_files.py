"""What no file of this repository may contain."""

from __future__ import annotations

import re
from pathlib import Path

from tests.architecture.sources import ROOT, tracked

# Split, so that this file is clean too.
PRIVATE_KEY = re.compile(rb"-----BEGIN [A-Z ]*" + rb"PRIVATE KEY-----(\s|\\n)+[A-Za-z0-9+/=]{16}")
PRIVATE_KEY_SUFFIXES = {".key", ".p12", ".pfx", ".p8", ".jks"}
INDEX = re.compile(
    rb"pypi\." + rb"org|pythonhosted\." + rb"org|--(extra-)?index" + rb"-url|--find" + rb"-links|--trusted"
    rb"-host|PIP_(EXTRA_)?INDEX" + rb"_URL|(deb|snapshot)\.debian" + rb"\.org|registry\.npmjs" + rb"\.org"
)


def offenders(pattern: re.Pattern[bytes], paths: tuple[Path, ...]) -> list[str]:
    """``file:line: what matched``, for every match."""
    found = []
    for path in paths:
        content = path.read_bytes()
        for match in pattern.finditer(content):
            line = content.count(b"\n", 0, match.start()) + 1
            found.append(f"{path.relative_to(ROOT)}:{line}: {match[0][:40].decode(errors='replace')}")
    return found


def test_no_private_key() -> None:
    """A test or an example that needs one makes it."""
    assert offenders(PRIVATE_KEY, tracked()) == []
    assert [path.name for path in tracked() if path.suffix in PRIVATE_KEY_SUFFIXES] == []


def test_certs_holds_nothing_but_its_own_explanation() -> None:
    here = {str(path.relative_to(ROOT)) for path in tracked() if path.is_relative_to(ROOT / "certs")}
    assert here <= {"certs/README.md", "certs/.gitignore"}


def test_no_package_index_is_named() -> None:
    """Where packages come from is the machine's configuration; the locks' hashes say what they are."""
    assert offenders(INDEX, tracked()) == []


def test_every_locked_requirement_has_an_exact_version_and_hashes() -> None:
    for lock in ("build", "dev", "runtime"):
        text = (ROOT / "requirements" / f"{lock}.txt").read_text()
        requirements = [line for line in text.replace("\\\n", " ").splitlines() if line.strip()]
        assert requirements
        for requirement in requirements:
            assert re.match(r"[a-z0-9-]+==[0-9][^ ]* .*--hash=sha256:[0-9a-f]{64}", requirement), requirement


def test_locks_agree() -> None:
    """What the tests ran with is what the roles run with."""
    versions = {
        lock: dict(re.findall(r"^([a-z0-9-]+)==([^ ;\\]+)", text, re.MULTILINE))
        for lock in ("build", "dev", "runtime")
        if (text := (ROOT / "requirements" / f"{lock}.txt").read_text())
    }
    dev = versions["dev"]
    assert versions["runtime"] == {name: dev[name] for name in versions["runtime"]}
    assert all(dev.get(name, version) == version for name, version in versions["build"].items())


def test_links_between_pages_lead_somewhere() -> None:
    link = re.compile(r"\]\((?!https?:|#)([^)#\s]+)(?:#[^)]*)?\)")
    dead = [
        f"{page.relative_to(ROOT)}: {target}"
        for page in tracked()
        if page.suffix == ".md"
        for target in link.findall(page.read_text(encoding="utf-8"))
        if not (page.parent / target).exists()
    ]
    assert dead == []
