"""What needs no packet filter; the rest is in tests/namespaces/test_capture.py."""

from __future__ import annotations

import fcntl
import subprocess
import sys
from pathlib import Path

import pytest

from tunneler.capture import libiptc
from tunneler.capture.libiptc import table_exists, xtables_lock
from tunneler.errors import CaptureError


@pytest.fixture
def lock_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "xtables.lock"
    monkeypatch.setenv("XTABLES_LOCKFILE", str(path))
    return path


def is_free(path: Path) -> bool:
    with path.open() as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True


def test_the_lock_is_held_inside_and_free_after(lock_file: Path) -> None:
    with xtables_lock():
        assert not is_free(lock_file)
    assert is_free(lock_file)
    with pytest.raises(RuntimeError), xtables_lock():
        raise RuntimeError
    assert is_free(lock_file)


def test_waiting_for_the_lock_has_an_end(lock_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(libiptc, "LOCK_TIMEOUT", 0.1)
    message = rf"{lock_file}: another program has held the lock for 0\.1 s"
    with xtables_lock(), pytest.raises(CaptureError, match=message), xtables_lock():
        raise AssertionError("two holders of one lock")


def test_a_lock_that_cannot_be_opened(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XTABLES_LOCKFILE", str(tmp_path / "missing" / "lock"))
    with pytest.raises(CaptureError, match="set XTABLES_LOCKFILE"), xtables_lock():
        raise AssertionError("no lock")


def test_which_tables_exist(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    names = tmp_path / "names"
    monkeypatch.setitem(libiptc.TABLE_NAMES, 4, names)
    assert table_exists(4) is False
    names.write_text("mangle\nnat\n")
    assert table_exists(4) is True
    assert table_exists(4, "filter") is False
    assert table_exists(4, "na") is False


def test_a_table_list_that_only_root_may_read(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path) -> str:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "read_text", refuse)
    assert table_exists(4) is None


def test_a_missing_library_is_a_capture_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "iptc", None)
    libiptc.load.cache_clear()
    with pytest.raises(CaptureError, match="python-iptables cannot be loaded"):
        libiptc.load()
    libiptc.load.cache_clear()


def test_libraries_are_loaded_only_when_used() -> None:
    program = (
        "import sys; import tunneler.capture.select as s;"
        "assert 'iptc' not in sys.modules; assert 'libnftables' not in open('/proc/self/maps').read()"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", program], check=True, timeout=30)
