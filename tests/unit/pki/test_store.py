"""What is on disk after a run, a second run, a forced one, a failed one and a killed one."""

from __future__ import annotations

import errno
import os
import stat
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509

from tunneler.addresses import Identity, Role
from tunneler.errors import PkiError
from tunneler.pki.credentials import load_credentials
from tunneler.pki.issue import CA_VALIDITY, LEAF_VALIDITY
from tunneler.pki.store import generate

NOW = datetime(2026, 1, 1, tzinfo=UTC)
HOLDERS = ("ca", "server", "client", "proxy")
FILES = {f"{holder}/{kind}.pem" for holder in HOLDERS for kind in ("cert", "key")}


def contents(directory: Path) -> dict[str, bytes]:
    """Every file below the directory, hidden ones too."""
    return {
        str(path.relative_to(directory)): path.read_bytes() for path in directory.rglob("*") if path.is_file()
    }


def load(directory: Path, role: Role) -> Identity:
    files = (directory / role / "cert.pem", directory / role / "key.pem", directory / "ca" / "cert.pem")
    return load_credentials(*files, role, now=NOW).identity


def remove(directory: Path, *names: str) -> None:
    for name in names:
        (directory / name).unlink()


@pytest.fixture
def made(tmp_path: Path) -> Path:
    directory = tmp_path / "certs"
    generate(directory, force=False, now=NOW)
    return directory


@pytest.fixture
def umask_zero() -> Any:
    old = os.umask(0)
    yield
    os.umask(old)


def test_a_set_is_made_whole_and_every_role_can_use_it(tmp_path: Path) -> None:
    directory = tmp_path / "a" / "b"
    written = generate(directory, force=False, now=NOW)
    assert {str(path.relative_to(directory)) for path in written} == FILES == set(contents(directory))
    for role in Role:
        assert load(directory, role) == Identity(role, role.value)


def test_names_of_the_identities_can_be_chosen(tmp_path: Path) -> None:
    generate(tmp_path, force=False, now=NOW, names={Role.SERVER: "relay-1", Role.PROXY: "site-b"})
    assert load(tmp_path, Role.PROXY) == Identity(Role.PROXY, "site-b")
    assert not (tmp_path / "client").exists()
    with pytest.raises(PkiError, match=r"name 'a/b' of the proxy: expected spiffe"):
        generate(tmp_path / "new", force=False, now=NOW, names={Role.PROXY: "a/b"})
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    ("given", "dns", "addresses"),
    [
        ([], ["localhost"], ["127.0.0.1", "::1"]),
        (["relay.example.org", "192.0.2.1"], ["relay.example.org"], ["192.0.2.1"]),
    ],
)
def test_server_certificate_alone_has_server_names(
    tmp_path: Path, given: list[str], dns: list[str], addresses: list[str]
) -> None:
    generate(tmp_path, given, force=False, now=NOW)
    for role in Role:
        certificate = x509.load_pem_x509_certificate((tmp_path / role / "cert.pem").read_bytes())
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        expected = (dns, addresses) if role is Role.SERVER else ([], [])
        found = [str(address) for address in names.get_values_for_type(x509.IPAddress)]
        assert (names.get_values_for_type(x509.DNSName), found) == expected


@pytest.mark.usefixtures("umask_zero")
def test_no_umask_opens_a_key_even_for_an_instant(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    born: dict[str, int] = {}
    real_open = os.open

    def spying_open(path: Any, flags: int, mode: int = 0o777, **rest: Any) -> int:
        descriptor = real_open(path, flags, mode, **rest)
        if flags & os.O_CREAT:
            born[str(path)] = stat.S_IMODE(os.fstat(descriptor).st_mode)
        return descriptor

    monkeypatch.setattr(os, "open", spying_open)
    directory = tmp_path / "new" / "certs"
    generate(directory, force=False, now=NOW)
    keys = {path: mode for path, mode in born.items() if "key.pem" in path}
    assert len(keys) == 4
    assert set(keys.values()) == {0o600}
    assert len(born) == 8
    for holder in HOLDERS:
        assert stat.S_IMODE((directory / holder / "key.pem").stat().st_mode) == 0o600
        assert stat.S_IMODE((directory / holder / "cert.pem").stat().st_mode) == 0o644
    for made in (directory.parent, directory, *(directory / holder for holder in HOLDERS)):
        assert stat.S_IMODE(made.stat().st_mode) == 0o755


def test_every_file_is_synced_before_it_is_renamed_and_its_directory_after(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Kinds of step, in order: d for a synced directory, f for a synced file, r for a rename."""
    steps: list[str] = []
    real_fsync, real_replace = os.fsync, os.replace

    def spying_fsync(descriptor: int) -> None:
        steps.append("d" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "f")
        real_fsync(descriptor)

    def spying_replace(source: Path, target: Path) -> None:
        assert source.parent == target.parent
        steps.append("r")
        real_replace(source, target)

    monkeypatch.setattr(os, "fsync", spying_fsync)
    monkeypatch.setattr(os, "replace", spying_replace)
    generate(tmp_path, force=False, now=NOW)
    trace = "".join(steps).lstrip("d")
    assert trace == "f" * 8 + "d" * 4 + "rd" * 8


def test_second_run_changes_nothing(made: Path) -> None:
    before = contents(made)
    assert generate(made, force=False, now=NOW) == []
    assert generate(made, ["localhost", "::1"], force=False, now=NOW) == []
    assert contents(made) == before


def test_what_is_missing_is_issued_by_the_authority_that_is_there(made: Path) -> None:
    before = contents(made)
    remove(made, "client/cert.pem", "client/key.pem")
    (made / "client").rmdir()
    written = generate(made, force=False, now=NOW + timedelta(minutes=1))
    assert written == [made / "client" / "key.pem", made / "client" / "cert.pem"]
    after = contents(made)
    assert {name for name in FILES if before[name] != after[name]} == {"client/cert.pem", "client/key.pem"}
    assert load(made, Role.CLIENT) == Identity(Role.CLIENT, "client")


def test_force_replaces_everything(made: Path) -> None:
    before = contents(made)
    assert len(generate(made, force=True, now=NOW)) == 8
    after = contents(made)
    assert {name for name in FILES if before[name] != after[name]} == FILES == set(after)
    for role in Role:
        load(made, role)


@pytest.mark.parametrize("missing", sorted(FILES))
def test_half_a_pair_is_an_error_and_stays_as_it_is(made: Path, missing: str) -> None:
    remove(made, missing)
    before = contents(made)
    with pytest.raises(PkiError, match=rf"{missing}: missing beside .*; (restore|remove)"):
        generate(made, force=False, now=NOW)
    assert contents(made) == before
    generate(made, force=True, now=NOW)
    assert set(contents(made)) == FILES


def swap_authority(directory: Path) -> None:
    generate(directory.parent / "other", force=False, now=NOW)
    for kind in ("cert.pem", "key.pem"):
        (directory.parent / "other" / "ca" / kind).replace(directory / "ca" / kind)


def swap_key(directory: Path) -> None:
    (directory / "client" / "key.pem").replace(directory / "proxy" / "key.pem")
    generate(directory.parent / "other", force=False, now=NOW)
    (directory.parent / "other" / "client" / "key.pem").replace(directory / "client" / "key.pem")


def use_leaf_as_authority(directory: Path) -> None:
    for kind in ("cert.pem", "key.pem"):
        (directory / "server" / kind).replace(directory / "ca" / kind)
    remove(directory, "client/cert.pem", "client/key.pem", "proxy/cert.pem", "proxy/key.pem")


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda d: remove(d, "ca/cert.pem", "ca/key.pem"), r"server/cert\.pem: its CA is missing; .*--force"),
        (swap_authority, r"server/cert\.pem: not signed by .*/ca/cert\.pem; remove"),
        (swap_key, r"client/key\.pem: does not fit .*; remove"),
        (use_leaf_as_authority, r"ca/cert\.pem: is not the certificate of a CA; .*--force"),
        (
            lambda d: (d / "ca" / "cert.pem").write_text("x"),
            r"ca/cert\.pem: expected a certificate in PEM form",
        ),
        (lambda d: (d / "ca" / "key.pem").chmod(0o644), r"ca/key\.pem: others can get at .*chmod g-w,o="),
    ],
)
def test_what_does_not_add_up_is_an_error_and_stays_as_it_is(
    made: Path, spoil: Callable[[Path], object], reason: str
) -> None:
    spoil(made)
    before = contents(made)
    with pytest.raises(PkiError, match=reason) as caught:
        generate(made, force=False, now=NOW)
    assert "\n" not in str(caught.value)
    assert contents(made) == before


def test_expired_certificates_are_not_passed_over_in_silence(made: Path) -> None:
    with pytest.raises(PkiError, match=r"server/cert\.pem: expired on .*; remove .* run again"):
        generate(made, force=False, now=NOW + LEAF_VALIDITY)
    with pytest.raises(PkiError, match=r"ca/cert\.pem: expired on .*; .*--force"):
        generate(made, force=False, now=NOW + CA_VALIDITY)


def test_a_server_name_that_the_kept_certificate_lacks_is_an_error(made: Path) -> None:
    with pytest.raises(PkiError, match=r"server/cert\.pem: does not cover relay\.example\.org; remove"):
        generate(made, ["localhost", "relay.example.org"], force=False, now=NOW)
    remove(made, "server/cert.pem", "server/key.pem")
    assert len(generate(made, ["localhost", "relay.example.org"], force=False, now=NOW)) == 2


def test_a_wrong_server_name_touches_nothing(tmp_path: Path) -> None:
    with pytest.raises(PkiError, match="expected a DNS name"):
        generate(tmp_path / "certs", ["relay:8081"], force=False, now=NOW)
    assert not (tmp_path / "certs").exists()


def test_two_runs_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real_replace = os.replace
    refused = []

    def another_run_meanwhile(source: Path, target: Path) -> None:
        with pytest.raises(PkiError, match="another tunneler-gencerts is at work there"):
            generate(tmp_path, force=True, now=NOW)
        refused.append(target)
        real_replace(source, target)

    monkeypatch.setattr(os, "replace", another_run_meanwhile)
    assert refused == generate(tmp_path, force=False, now=NOW) != []


def test_directory_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(PkiError, match="cannot be written: File exists"):
        generate(tmp_path / "file", force=False, now=NOW)


@pytest.mark.parametrize("failing", range(1, 9))
def test_full_disk_leaves_the_old_set_alone(
    made: Path, monkeypatch: pytest.MonkeyPatch, failing: int
) -> None:
    before = contents(made)
    calls = 0
    real_fsync = os.fsync

    def full_disk(descriptor: int) -> None:
        nonlocal calls
        calls += 1
        if calls == failing:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real_fsync(descriptor)

    monkeypatch.setattr(os, "fsync", full_disk)
    with pytest.raises(PkiError, match="No space left on device"):
        generate(made, force=True, now=NOW)
    assert contents(made) == before


KILLED_RUNS = """
import itertools, os, signal, sys
from datetime import UTC, datetime
from pathlib import Path
from tunneler.pki.store import generate

root, force, now = Path(sys.argv[1]), sys.argv[2] == "force", datetime(2026, 1, 1, tzinfo=UTC)

def run_and_die(directory, countdown):
    def dying(call):
        def step(*arguments, **keywords):
            nonlocal countdown
            countdown -= 1
            if countdown == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return call(*arguments, **keywords)
        return step
    os.replace, os.unlink, os.fsync = dying(os.replace), dying(os.unlink), dying(os.fsync)
    generate(directory, force=force, now=now)
    os._exit(0)

for step in itertools.count(1):
    directory = root / str(step)
    if force:
        generate(directory, force=False, now=now)
    child = os.fork()
    if child == 0:
        run_and_die(directory, step)
    if os.waitpid(child, 0)[1] != signal.SIGKILL:
        break
"""


def killed_runs(directory: Path, *, force: bool) -> list[Path]:
    """One directory for each run; the n-th was killed before its n-th change on disk, the last not at all."""
    arguments = [sys.executable, "-c", KILLED_RUNS, str(directory), "force" if force else ""]
    subprocess.run(arguments, check=True, capture_output=True, timeout=50)
    return sorted(directory.iterdir(), key=lambda path: int(path.name))


def is_half_a_set(directory: Path) -> bool:
    """Whether a key lies there without its certificate; the reverse must never be."""
    pairs = [(directory / holder / "cert.pem", directory / holder / "key.pem") for holder in HOLDERS]
    assert all(key.exists() for cert, key in pairs if cert.exists())
    return any(key.exists() and not cert.exists() for cert, key in pairs)


@pytest.mark.parametrize("force", [False, True])
def test_killed_at_any_instant_a_set_is_whole_or_says_that_it_is_not(tmp_path: Path, force: bool) -> None:
    directories = killed_runs(tmp_path, force=force)
    assert len(directories) > 20
    assert any(is_half_a_set(directory) for directory in directories)
    for directory in directories:
        if is_half_a_set(directory):
            with pytest.raises(PkiError, match="missing beside"):
                generate(directory, force=False, now=NOW)
            generate(directory, force=True, now=NOW)
        else:
            generate(directory, force=False, now=NOW)
        assert set(contents(directory)) == FILES  # the litter of the killed run is gone too
        for role in Role:
            load(directory, role)
