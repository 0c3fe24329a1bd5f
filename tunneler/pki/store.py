"""Keep a public key infrastructure in a directory: ``{ca,server,client,proxy}/{cert,key}.pem``.

Running again is harmless: what exists and is sound is kept, what is missing is issued by the
CA that is there, and whatever does not add up is an error that says what to do. To renew a
certificate, remove its two files and run again. ``force`` replaces everything: a new CA makes
what the old one signed worthless.

An interruption at any instant never leaves a set that looks whole and is not. Everything is
written and synced under temporary names first, so that a full disk leaves the old state as it
was; then, pair by pair, the key is renamed into place before its certificate: a certificate
never stands without its key, and the lone key that an interruption may leave is an error next time.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

from cryptography import x509

from tunneler.addresses import Identity, Role
from tunneler.errors import PkiError
from tunneler.pki.files import CERTIFICATE_MODE, KEY_MODE, Staged, make_directory, stage, sync
from tunneler.pki.identity import MALFORMED
from tunneler.pki.issue import DEFAULT_SERVER_NAMES, Issued, alternative_names_of, issue_authority, issue_leaf
from tunneler.pki.pem import is_signed_by, read_certificates, read_private_key, require_fit, require_valid_at

DEFAULT_NAMES: Mapping[Role, str] = {role: role.value for role in (Role.SERVER, Role.CLIENT, Role.PROXY)}


class Pair(NamedTuple):
    """Where a certificate and its key are kept."""

    cert: Path
    key: Path

    @classmethod
    def under(cls, directory: Path, holder: str) -> Pair:
        return cls(directory / holder / "cert.pem", directory / holder / "key.pem")


def generate(
    directory: Path,
    server_names: Sequence[str] = (),
    *,
    force: bool,
    now: datetime,
    names: Mapping[Role, str] = DEFAULT_NAMES,
) -> list[Path]:
    """Issue a CA and a certificate for each role, or what is missing of them.

    Args:
        directory: made if it does not exist.
        server_names: DNS names and addresses for the server certificate; the loopback ones if
            empty. When some are given, a server certificate that is kept must cover them.
        force: replace the CA, and with it everything it signed.
        now: the current time, with its time zone.
        names: the roles to issue for, and the name in each identity.

    Returns:
        The files written, in the order of writing; empty when everything was there.

    Raises:
        PkiError: what exists cannot be used and ``force`` is not set, a name is not valid, the
            directory cannot be written, or another run is at work in it.
    """
    alternative_names_of(server_names)
    identities = [_identity(role, name) for role, name in names.items()]
    try:
        for holder in ("ca", *names):
            make_directory(directory / holder)
        with _sole_user(directory):
            _remove_leftovers(directory, names)
            if force:
                authority, missing = None, identities
            else:
                authority, missing = _survey(directory, identities, server_names, now)
            issued: list[tuple[Pair, Issued]] = []
            if authority is None:
                authority = issue_authority(now)
                issued.append((Pair.under(directory, "ca"), authority))
            for identity in missing:
                dialled = (server_names or DEFAULT_SERVER_NAMES) if identity.role is Role.SERVER else ()
                leaf = issue_leaf(authority, identity, now, dialled)
                issued.append((Pair.under(directory, identity.role), leaf))
            return _write(issued)
    except OSError as error:
        at_fault = error.filename or directory
        raise PkiError(
            f"{at_fault}: cannot be written: {error.strerror}; correct that and run again"
        ) from error


def _identity(role: Role, name: str) -> Identity:
    try:
        return Identity.parse(Identity(role, name).uri)
    except ValueError as error:
        raise PkiError(f"name {name!r} of the {role}: {error}") from error


def _survey(
    directory: Path, identities: Sequence[Identity], server_names: Sequence[str], now: datetime
) -> tuple[Issued | None, list[Identity]]:
    """The CA that is there, if any, and the leaves that are not."""
    ca = Pair.under(directory, "ca")
    authority = _existing(ca, now, "restore it, or replace the CA and all it signed with --force")
    missing = []
    for identity in identities:
        pair = Pair.under(directory, identity.role)
        reissue = f"remove {pair.cert} and {pair.key} and run again to have them issued anew"
        leaf = _existing(pair, now, reissue)
        if leaf is None:
            missing.append(identity)
        elif authority is None:
            advice = f"restore {ca.cert} and {ca.key}, or replace everything with --force"
            raise PkiError(f"{pair.cert}: its CA is missing; {advice}")
        elif not is_signed_by(leaf.certificate, authority.certificate):
            raise PkiError(f"{pair.cert}: not signed by {ca.cert}; {reissue}")
        elif identity.role is Role.SERVER:
            _require_names(leaf.certificate, server_names, f"{pair.cert}: does not cover", reissue)
    if authority is not None:
        _require_authority(authority.certificate, ca.cert)
    return authority, missing


def _existing(pair: Pair, now: datetime, advice: str) -> Issued | None:
    """What the pair holds, None if neither file exists."""
    present = [path for path in pair if path.exists() or path.is_symlink()]
    if not present:
        return None
    if len(present) == 1:
        absent = pair.key if present[0] == pair.cert else pair.cert
        raise PkiError(f"{absent}: missing beside {present[0].name}; {advice}")
    _, certificates = read_certificates(pair.cert)
    _, key = read_private_key(pair.key)
    require_fit(certificates[0], pair.cert, key, pair.key, advice=advice)
    require_valid_at(now, certificates[0], pair.cert, advice=advice)
    return Issued(certificates[0], key)


def _require_authority(certificate: x509.Certificate, path: Path) -> None:
    try:
        constraints = certificate.extensions.get_extension_for_class(x509.BasicConstraints).value
    except (x509.ExtensionNotFound, *MALFORMED):
        constraints = None
    if constraints is None or not constraints.ca:
        raise PkiError(
            f"{path}: is not the certificate of a CA; restore it, or replace everything with --force"
        )


def _require_names(
    certificate: x509.Certificate, server_names: Sequence[str], fault: str, advice: str
) -> None:
    try:
        covered = list(certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value)
    except (x509.ExtensionNotFound, *MALFORMED):
        covered = []
    for name in alternative_names_of(server_names):
        if name not in covered:
            raise PkiError(f"{fault} {name.value}; {advice}")


@contextmanager
def _sole_user(directory: Path) -> Iterator[None]:
    """Hold the lock of the directory; it goes with the process, whatever ends it."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(descriptor)
        raise PkiError(
            f"{directory}: another tunneler-gencerts is at work there; wait for it to end"
        ) from error
    try:
        yield
    finally:
        os.close(descriptor)


def _remove_leftovers(directory: Path, names: Mapping[Role, str]) -> None:
    """Remove the temporary files of a run that was killed: we hold the lock, so nobody uses them."""
    for holder in ("ca", *names):
        for leftover in (directory / holder).glob(".*.pem.*.tmp"):
            leftover.unlink()


def _write(issued: Sequence[tuple[Pair, Issued]]) -> list[Path]:
    staged: list[Staged] = []
    try:
        for pair, one in issued:
            staged.append(stage(pair.key, one.private_key_pem(), KEY_MODE))
            staged.append(stage(pair.cert, one.certificate_pem(), CERTIFICATE_MODE))
        # Old certificates go first: no instant shows a new one beside those of the CA it replaces.
        for pair, _ in issued:
            pair.cert.unlink(missing_ok=True)
            sync(pair.cert.parent)
        for temporary, final in staged:
            temporary.replace(final)
            sync(final.parent)
    finally:
        for temporary, _ in staged:
            temporary.unlink(missing_ok=True)
    return [final for _, final in staged]
