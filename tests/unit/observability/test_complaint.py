"""Complaints, where they are for people and where they are for the journal."""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping

import pytest

from tests.unit.observability.journald import CONNECT, LISTEN, in_namespace, parse
from tunneler.errors import ExitStatus
from tunneler.observability.complaint import CREDENTIALS_REFUSED, EVENT_OF_STATUS, complain
from tunneler.observability.journal import MESSAGE_ID_NAMESPACE

COMPLAIN = """
import json, threading, time
from tunneler.observability.complaint import CREDENTIALS_REFUSED, complain
complain("tunneler-client", "warning: plaintext")
read = []
def journald_reads():
    time.sleep(0.2)  # it is busy
    while len(read) < 3 or read[-1]:
        read.append(journald.recv(1 << 16).hex())
reader = threading.Thread(target=journald_reads)
reader.start()
complain("tunneler-client", "a.pem: expired\\nb.pem: no such file", CREDENTIALS_REFUSED)
at_return = len(read)
reader.join()
print(json.dumps(read))
print(at_return)
_other.settimeout(0)
try:
    print(_other.recv(1000))
except BlockingIOError:
    pass
"""


@pytest.fixture(scope="module")
def said() -> list[str]:
    done = in_namespace(LISTEN + CONNECT + COMPLAIN)
    assert done.returncode == 0
    return done.stdout.splitlines()  # nothing of standard error among them: it would be there twice


@pytest.fixture(scope="module")
def entries(said: list[str]) -> list[Mapping[str, bytes]]:
    datagrams, _ = said
    return [parse(bytes.fromhex(datagram)) for datagram in json.loads(datagrams)[:3]]


def test_who_ends_waits_until_the_journal_has_read(said: list[str]) -> None:
    """Which unit an entry is of can only be seen while its sender lives."""
    datagrams, at_return = said
    assert int(at_return) >= 3
    assert json.loads(datagrams)[3] == ""  # behind the entries, and nothing that would be one


def test_in_the_journal_each_line_is_an_entry(entries: list[Mapping[str, bytes]]) -> None:
    assert [entry["MESSAGE"] for entry in entries[1:]] == [b"a.pem: expired", b"b.pem: no such file"]
    assert entries[1] == {
        "MESSAGE": b"a.pem: expired",
        "MESSAGE_ID": uuid.uuid5(MESSAGE_ID_NAMESPACE, "credentials_refused").hex.encode(),
        "PRIORITY": b"3",
        "SYSLOG_IDENTIFIER": b"tunneler-client",
        "TUNNELER_EVENT": b"credentials_refused",
        "TUNNELER_REASON": b"a.pem: expired",
    }


def test_a_warning_is_no_error(entries: list[Mapping[str, bytes]]) -> None:
    assert (entries[0]["PRIORITY"], entries[0]["TUNNELER_EVENT"]) == (b"4", b"configuration_doubtful")


def test_people_get_lines(capsys: pytest.CaptureFixture[str]) -> None:
    complain("tunneler-client", "a.pem: expired\nb.pem: no such file", CREDENTIALS_REFUSED)
    assert capsys.readouterr() == (
        "",
        "tunneler-client: a.pem: expired\ntunneler-client: b.pem: no such file\n",
    )


def test_nobody_listens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stderr", None)
    complain("tunneler-client", "a.pem: expired", CREDENTIALS_REFUSED)


def test_every_failure_has_a_name() -> None:
    assert set(EVENT_OF_STATUS) == set(ExitStatus) - {ExitStatus.OK}
