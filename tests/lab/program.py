"""The program tree: this checkout as a package would install it, to be laid over the base tree.

It holds /opt/tunneler, a virtual environment with the locked versions; its programs in /usr/bin, where the
units look for them; and what ``packaging/systemd`` has for /usr/lib.

There are two trees, because one changes seldom: the environment without the product, and the whole.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from pathlib import Path

from tests.lab import cache
from tests.lab.base import run

ROOT = Path(__file__).parents[2]
PYTHON = "/usr/bin/python3"
HOME = "opt/tunneler"
"""Of the virtual environment, below the root of a host."""
SOURCE = ("tunneler", "packaging", "pyproject.toml", "README.md", "LICENSE")

VENDOR_DIRECTORIES = {
    # systemd.unit(5), sysusers.d(5), tmpfiles.d(5), and for catalogs journalctl(1), --update-catalog
    ".service": "usr/lib/systemd/system",
    ".socket": "usr/lib/systemd/system",
    ".target": "usr/lib/systemd/system",
    ".timer": "usr/lib/systemd/system",
    "sysusers.d": "usr/lib/sysusers.d",
    "tmpfiles.d": "usr/lib/tmpfiles.d",
    "catalog": "usr/lib/systemd/catalog",
}
"""Where things of ``packaging/systemd`` go: files by suffix, directories by name."""


def tree() -> Path:
    """The tree of this checkout as it is now.

    Raises:
        MakingFailed: pip failed.
    """
    parts: list[str | bytes] = [Path(__file__).read_bytes(), _environment_key()]
    for path in _source_files():
        parts.append(str(path.relative_to(ROOT)))
        parts.append(path.read_bytes())
    environment = cache.tree("environment", _environment_key(), _make_environment)
    return cache.tree("program", cache.digest(parts), lambda target: _make(target, environment))


def _environment_key() -> str:
    lock = ROOT / "requirements/runtime.txt"
    return cache.digest([Path(__file__).read_bytes(), lock.read_bytes(), run([PYTHON, "-VV"]).encode()])


def _source_files() -> list[Path]:
    files: list[Path] = []
    for name in SOURCE:
        files += [ROOT / name] if (ROOT / name).is_file() else (ROOT / name).rglob("*")
    return sorted(path for path in files if path.is_file() and "__pycache__" not in path.parts)


def _make_environment(target: Path) -> None:
    """The virtual environment, without the product in it."""
    home = target / HOME
    run([PYTHON, "-m", "venv", "--without-pip", str(home)])
    with tempfile.TemporaryDirectory(prefix="tunneler-wheels-") as wheels:
        lock = str(ROOT / "requirements/runtime.txt")
        # Two of them come as source, and are built with the build tools of the checkout's own environment.
        exact = ("--require-hashes", "--no-deps", "--no-build-isolation", "--requirement", lock)
        _pip("wheel", "--wheel-dir", wheels, *exact)
        _install(home, *map(str, sorted(Path(wheels).glob("*.whl"))))
    _correct_paths(home)


def _make(target: Path, environment: Path) -> None:
    cache.copy_linked(environment, target)
    home = target / HOME
    with tempfile.TemporaryDirectory(prefix="tunneler-source-") as directory:
        # From a copy, because setuptools builds inside the source tree.
        source = Path(directory) / "source"
        for path in _source_files():
            copy = source / path.relative_to(ROOT)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(path, copy)
        _pip("wheel", "--wheel-dir", directory, "--no-deps", "--no-build-isolation", str(source))
        _install(home, *map(str, Path(directory).glob("*.whl")))
    _correct_paths(home)
    programs = target / "usr/bin"
    programs.mkdir(parents=True)
    for program in sorted((home / "bin").glob("tunneler*")):
        (programs / program.name).symlink_to(f"/{HOME}/bin/{program.name}")
    _install_units(target)


def _install_units(target: Path) -> None:
    units = ROOT / "packaging/systemd"
    for item in sorted(units.iterdir()) if units.is_dir() else ():
        place = VENDOR_DIRECTORIES.get(item.name if item.is_dir() else item.suffix)
        if place is None:
            continue
        (target / place).mkdir(parents=True, exist_ok=True)
        for file in sorted(item.iterdir()) if item.is_dir() else (item,):
            shutil.copy(file, target / place / file.name)


def _pip(*arguments: str, python: Path | None = None) -> None:
    other = ("--python", str(python)) if python else ()
    run(
        [
            sys.executable,
            "-m",
            "pip",
            "--disable-pip-version-check",
            "--no-input",
            "--quiet",
            *other,
            *arguments,
        ]
    )


def _install(home: Path, *wheels: str) -> None:
    _pip("install", "--no-index", "--no-deps", *wheels, python=home / "bin/python3")


def _correct_paths(home: Path) -> None:
    """Let the programs say where the environment will be, not where it was made."""
    made_at = str(home)
    for script in (home / "bin").iterdir():
        if script.is_symlink() or not script.read_bytes().startswith(f"#!{made_at}/".encode()):
            continue
        text = script.read_text(encoding="utf-8").replace(made_at, f"/{HOME}")
        replacement = script.with_suffix(".new")  # never written in place: the file may have other names
        replacement.write_text(text, encoding="utf-8")
        replacement.chmod(script.stat().st_mode)
        replacement.replace(script)
