"""The journal format, as journald would get it: its socket is stood in for in a mount namespace."""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping

import pytest

from tests.unit.observability.journald import CONNECT, LISTEN, in_namespace, parse
from tunneler.observability.journal import MAX_FIELD_NAME, MESSAGE_ID_NAMESPACE, field_name, priority

STAND_IN = (
    LISTEN
    + """
import json, logging, sys
from tunneler.errors import Code
from tunneler.observability.log import EventLog, configure

configure("client", "debug", "journal", "ignored")
log = EventLog("x")
log.info("connection_opened", connection=bytes(16), target="192.168.1.5:80", bytes_up=5, up=True, cause=None)
log.error("link_lost", error="gone\\nPRIORITY=0\\nFORGED=1", code=Code.SILENT)
log.debug("odd", **{"peer id": "\\ud800\\x00", "m\\u00e4h": 1.5, "role": "proxy", "x" * 99: "long"})
logging.getLogger("grpc").warning("slow %s", "down")
print(json.dumps([journald.recv(1 << 16).hex() for _ in range(4)]))
journald.close()
os.unlink("/run/systemd/journal/socket")
log.info("nobody_listens")
journald = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
journald.bind("/run/systemd/journal/socket")
journald.close()
log.info("refused")
"""
)


@pytest.fixture(scope="module")
def entries() -> list[Mapping[str, bytes]]:
    done = in_namespace(STAND_IN)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return [parse(bytes.fromhex(datagram)) for datagram in json.loads(done.stdout)]


def test_every_field_arrives_as_one_of_its_own(entries: list[Mapping[str, bytes]]) -> None:
    assert entries[0] == {
        "MESSAGE": b"connection_opened connection="
        + b"0" * 32
        + b" target=192.168.1.5:80 bytes_up=5 up=true cause=null",
        "MESSAGE_ID": uuid.uuid5(MESSAGE_ID_NAMESPACE, "connection_opened").hex.encode(),
        "PRIORITY": b"6",
        "SYSLOG_IDENTIFIER": b"tunneler-client",
        "TUNNELER_ROLE": b"client",
        "TUNNELER_EVENT": b"connection_opened",
        "TUNNELER_CONNECTION": b"0" * 32,
        "TUNNELER_TARGET": b"192.168.1.5:80",
        "TUNNELER_BYTES_UP": b"5",
        "TUNNELER_UP": b"true",
        "TUNNELER_CAUSE": b"null",
    }


def test_no_value_forges_a_field(entries: list[Mapping[str, bytes]]) -> None:
    entry = entries[1]
    assert entry["PRIORITY"] == b"3"
    assert entry["TUNNELER_ERROR"] == b"gone\nPRIORITY=0\nFORGED=1"
    assert entry["TUNNELER_CODE"] == b"silent"
    assert "FORGED" not in entry
    assert b"\n" not in entry["MESSAGE"]


def test_odd_names_and_values_are_bent_into_shape(entries: list[Mapping[str, bytes]]) -> None:
    entry = entries[2]
    assert entry["PRIORITY"] == b"7"
    assert entry["TUNNELER_PEER_ID"] == b"\\ud800\x00"
    assert entry["TUNNELER_M_H"] == b"1.5"
    assert (entry["TUNNELER_ROLE"], entry["TUNNELER_ROLE_"]) == (b"client", b"proxy")
    assert entry["TUNNELER_" + "X" * 55] == b"long"


def test_library_messages_go_the_same_way(entries: list[Mapping[str, bytes]]) -> None:
    entry = entries[3]
    assert entry["MESSAGE"] == b'library_message logger=grpc message="slow down"'
    assert (entry["PRIORITY"], entry["TUNNELER_MESSAGE"]) == (b"4", b"slow down")


CONFIGURE = """
import sys
from tunneler.errors import ConfigError
from tunneler.observability.log import configure
{before}
try:
    configure("client", "info", "journal", "")
except ConfigError as error:
    print(error)
"""


@pytest.mark.parametrize(
    ("before", "message"),
    [
        ("", "log.format: journal needs journald at /run/systemd/journal/socket; choose json or text"),
        ("sys.modules['systemd'] = None", "log.format: journal is not available"),
    ],
)
def test_without_a_journal_the_operator_is_told_in_one_line(before: str, message: str) -> None:
    done = in_namespace(CONFIGURE.format(before=before))
    assert (done.returncode, done.stderr) == (0, "")
    (line,) = done.stdout.splitlines()
    assert line.startswith(message)


AUTO = """
import sys
from tunneler.observability.log import EventLog, configure
{change}
configure("client", "info", "auto", "{output}")
EventLog("x").info("connection_opened")
journald.settimeout(0)
try:
    journald.recv(1 << 16)
except BlockingIOError:
    sys.exit(3)
"""


@pytest.mark.parametrize(
    ("change", "output", "journal"),
    [
        ("", "stderr", True),
        ("os.dup2(2, 1)", "stdout", True),
        ("", "stdout", False),
        ("", "/run/log", False),
        ("del os.environ['JOURNAL_STREAM']", "stderr", False),
        ("os.environ['JOURNAL_STREAM'] = 'strange'", "stderr", False),
        ("os.dup2(1, 2)", "stderr", False),
        ("os.close(2)", "stderr", False),
        ("os.unlink('/run/systemd/journal/socket')", "stderr", False),
    ],
)
def test_auto_is_the_journal_where_the_output_is_connected_to_it(
    change: str, output: str, journal: bool
) -> None:
    done = in_namespace(LISTEN + CONNECT + AUTO.format(change=change, output=output))
    assert done.returncode == (0 if journal else 3), done


@pytest.mark.parametrize(
    ("level", "number"), [(5, 7), (10, 7), (20, 6), (25, 6), (30, 4), (40, 3), (50, 2), (60, 2)]
)
def test_priority(level: int, number: int) -> None:
    assert priority(level) == number


def test_field_names_are_those_that_journald_takes() -> None:
    assert field_name("original_target") == "TUNNELER_ORIGINAL_TARGET"
    assert field_name("_ü-9") == "TUNNELER____9"
    assert len(field_name("x" * 100)) == MAX_FIELD_NAME == 64
