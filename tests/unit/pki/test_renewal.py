from __future__ import annotations

import os
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

import pytest

from tunneler.addresses import Identity, Role
from tunneler.errors import PkiError
from tunneler.pki.credentials import Credentials
from tunneler.pki.issue import LEAF_VALIDITY, Issued, issue_authority, issue_leaf
from tunneler.pki.renewal import LOOK_SECONDS, RenewedCredentials

NOW = datetime(2026, 1, 1, tzinfo=UTC)
CLIENT = Identity(Role.CLIENT, "client")


class Renewal:
    """The files of a client, and what follows them."""

    def __init__(self, directory: Path) -> None:
        self.cert, self.key, self.ca = (directory / f"{name}.pem" for name in ("cert", "key", "ca"))
        self.authority = issue_authority(NOW)
        self.ca.write_bytes(self.authority.certificate_pem())
        self.key.touch(0o600)
        self.now = NOW
        self.time = 1000.0
        self.looks = 0
        self.renewed: list[Credentials] = []
        self.complaints: list[str] = []
        self.write(self.issue())
        self.first = self.follow()

    def issue(self) -> Issued:
        return issue_leaf(self.authority, CLIENT, NOW)

    def write(self, issued: Issued) -> None:
        self.cert.write_bytes(issued.certificate_pem())
        self.key.write_bytes(issued.private_key_pem())

    def follow(self) -> Credentials:
        self.source = RenewedCredentials(
            self.cert,
            self.key,
            self.ca,
            Role.CLIENT,
            renewed=self.renewed.append,
            not_renewed=lambda error: self.complaints.append(str(error)),
            clock=lambda: self.time,
            now=lambda: self.now,
        )
        return self.source()

    def later(self) -> Credentials:
        """What is in use at the next look."""
        self.time += LOOK_SECONDS
        return self.source()


@pytest.fixture
def renewal(tmp_path: Path) -> Renewal:
    return Renewal(tmp_path)


def test_the_first_must_be_good(renewal: Renewal) -> None:
    renewal.cert.write_text("nonsense")
    with pytest.raises(PkiError, match=r"cert\.pem: expected a certificate"):
        renewal.follow()


def test_the_same_object_while_nothing_is_renewed(renewal: Renewal) -> None:
    assert renewal.later() is renewal.first
    renewal.write(renewal.issue())
    second = renewal.later()
    assert second is not renewal.first
    assert renewal.later() is second


def test_touched_but_not_changed(renewal: Renewal) -> None:
    os.utime(renewal.cert, ns=(0, 0))
    assert renewal.later() is renewal.first
    assert (renewal.renewed, renewal.complaints) == ([], [])


def test_a_renewed_certificate_takes_its_place(renewal: Renewal) -> None:
    issued = renewal.issue()
    renewal.write(issued)
    second = renewal.later()
    assert second.certificate_chain == issued.certificate_pem()
    assert second.private_key == issued.private_key_pem()
    assert (renewal.renewed, renewal.complaints) == ([second], [])


def test_by_rename_as_certbot_does(renewal: Renewal, tmp_path: Path) -> None:
    """The links keep their names, and point elsewhere."""
    live, archive = tmp_path / "live.pem", tmp_path / "archive.pem"
    live.symlink_to(renewal.cert)
    renewal.cert = live
    first = renewal.follow()
    issued = renewal.issue()
    archive.write_bytes(issued.certificate_pem())
    other_link = tmp_path / "other"
    other_link.symlink_to(archive)
    other_link.replace(live)
    renewal.key.write_bytes(issued.private_key_pem())
    assert renewal.later() != first
    assert len(renewal.renewed) == 1


def test_a_new_authority(renewal: Renewal) -> None:
    """Both are believed during the change; its file alone changes."""
    renewal.ca.write_bytes(renewal.ca.read_bytes() + issue_authority(NOW).certificate_pem())
    assert renewal.later().certificate_authority == renewal.ca.read_bytes()
    assert len(renewal.renewed) == 1


def test_not_looked_at_more_than_once_a_second(renewal: Renewal) -> None:
    renewal.write(renewal.issue())
    renewal.time += LOOK_SECONDS * 0.99
    assert renewal.source() is renewal.first
    renewal.time += LOOK_SECONDS * 0.01
    assert renewal.source() is not renewal.first


@pytest.mark.parametrize("certificate_first", [True, False])
def test_half_of_a_pair_is_not_used(renewal: Renewal, certificate_first: bool) -> None:
    issued = renewal.issue()
    halves: list[Callable[[], object]] = [
        lambda: renewal.cert.write_bytes(issued.certificate_pem()),
        lambda: renewal.key.write_bytes(issued.private_key_pem()),
    ]
    if not certificate_first:
        halves.reverse()
    halves[0]()
    assert renewal.later() is renewal.first
    assert "does not fit" in renewal.complaints[0]
    halves[1]()
    assert renewal.later().certificate_chain == issued.certificate_pem()
    assert len(renewal.complaints) == len(renewal.renewed) == 1


def show_the_key(renewal: Renewal) -> None:
    renewal.write(renewal.issue())
    renewal.key.chmod(0o644)


def damage(renewal: Renewal) -> dict[str, Callable[[], object]]:
    return {
        "no such file": renewal.cert.unlink,
        "expected a private key": lambda: renewal.key.write_bytes(b""),
        "others can get at": lambda: show_the_key(renewal),
        "not signed by": lambda: renewal.ca.write_bytes(issue_authority(NOW).certificate_pem()),
        "is the certificate of": lambda: renewal.write(
            issue_leaf(renewal.authority, Identity(Role.PROXY, "proxy"), NOW)
        ),
        "valid only from": lambda: renewal.write(
            issue_leaf(renewal.authority, CLIENT, NOW + timedelta(days=1))
        ),
    }


@pytest.mark.parametrize(
    "complaint",
    [
        "no such file",
        "expected a private key",
        "others can get at",
        "not signed by",
        "is the certificate of",
        "valid only from",
    ],
)
def test_what_cannot_be_used_is_said_once_and_the_old_stays(renewal: Renewal, complaint: str) -> None:
    damage(renewal)[complaint]()
    for _ in range(3):
        assert renewal.later() is renewal.first
    (said,) = renewal.complaints
    assert complaint in said
    assert "\n" not in said
    assert renewal.renewed == []


def test_repaired(renewal: Renewal) -> None:
    renewal.cert.rename(renewal.cert.with_suffix(".away"))
    assert renewal.later() is renewal.first
    renewal.cert.with_suffix(".away").rename(renewal.cert)
    assert renewal.later() is renewal.first
    assert (len(renewal.complaints), renewal.renewed) == (1, [])


def test_the_old_one_stays_even_when_it_has_expired(renewal: Renewal) -> None:
    """Peers refuse it; that is theirs to say, and the next renewal heals it."""
    renewal.now = NOW + LEAF_VALIDITY + timedelta(days=1)
    os.utime(renewal.cert, ns=(0, 0))
    assert renewal.later() is renewal.first
    assert "expired on" in renewal.complaints[0]


def test_a_look_is_possible_at_any_time(renewal: Renewal) -> None:
    renewal.write(renewal.issue())
    renewal.source.look()
    assert renewal.source() is not renewal.first
    assert len(renewal.renewed) == 1


class Elsewhere(NamedTuple):
    """Other files, with a certificate of the same authority."""

    cert: Path
    key: Path
    ca: Path


@pytest.fixture
def elsewhere(renewal: Renewal, tmp_path: Path) -> Elsewhere:
    (tmp_path / "other").mkdir()
    there = Elsewhere(*(tmp_path / "other" / f"{name}.pem" for name in ("cert", "key", "ca")))
    issued = renewal.issue()
    there.cert.write_bytes(issued.certificate_pem())
    there.key.touch(0o600)
    there.key.write_bytes(issued.private_key_pem())
    there.ca.write_bytes(renewal.ca.read_bytes())
    return there


def test_moved_to_other_files(renewal: Renewal, elsewhere: Elsewhere) -> None:
    move = renewal.source.moved_to(*elsewhere)
    assert renewal.later() is renewal.first
    move()
    moved = renewal.source()
    assert moved.certificate_chain == elsewhere.cert.read_bytes()
    assert renewal.renewed == [moved]
    assert renewal.source.files == elsewhere
    renewal.cert.unlink()  # it follows the others from now on
    assert renewal.later() is moved
    elsewhere.cert.unlink()
    assert renewal.later() is moved
    assert [str(elsewhere.cert) in complaint for complaint in renewal.complaints] == [True]


def test_not_moved_to_files_of_no_use(renewal: Renewal, elsewhere: Elsewhere) -> None:
    elsewhere.key.write_bytes(b"")
    with pytest.raises(PkiError, match="expected a private key"):
        renewal.source.moved_to(*elsewhere)
    assert renewal.source.files == (renewal.cert, renewal.key, renewal.ca)
    assert renewal.later() is renewal.first
    assert (renewal.renewed, renewal.complaints) == ([], [])
