from __future__ import annotations

import json
import re
from enum import IntFlag
from ipaddress import ip_address
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunneler.addresses import Endpoint, Identity, Role
from tunneler.errors import Code
from tunneler.observability.rendering import (
    CUT,
    MAX_VALUE_CHARACTERS,
    RESERVED_NAMES,
    json_line,
    plain,
    sentence,
    text_line,
    timestamp,
)

NEW_YEAR = 1767225600.0
# A word of a text line, as a reader would split it; the quoted form is a JSON string.
WORD = re.compile(r'("(?:[^"\\]|\\.)*"|[^ "=]+)(?:=("(?:[^"\\]|\\.)*"|[^ "=]+))?(?: |$)')


class Mute:
    def __str__(self) -> str:
        raise RuntimeError


class Flags(IntFlag):
    ONE = 1


def released(view: memoryview) -> memoryview:
    view.release()
    return view


def unquoted(word: str) -> str:
    return str(json.loads(word)) if word.startswith('"') else word


@pytest.mark.parametrize(
    ("created", "text"),
    [
        (0.0, "1970-01-01T00:00:00.000000Z"),
        (NEW_YEAR, "2026-01-01T00:00:00.000000Z"),
        (NEW_YEAR + 0.0625, "2026-01-01T00:00:00.062500Z"),
        (NEW_YEAR + 0.9999, "2026-01-01T00:00:00.999900Z"),
        (NEW_YEAR - 0.001, "2025-12-31T23:59:59.999000Z"),
        (NEW_YEAR + 86400 * 59 + 3661.5, "2026-03-01T01:01:01.500000Z"),
    ],
)
def test_timestamp(created: float, text: str) -> None:
    assert timestamp(created) == text


def test_json_line_keeps_the_order_of_its_members() -> None:
    fields = {"connection": b"\x00\xff", "bytes_up": 5, "duration": 0.25, "captured": True, "error": None}
    assert json_line(NEW_YEAR, "info", "client", "connection_closed", fields) == (
        '{"time":"2026-01-01T00:00:00.000000Z","level":"info","role":"client","event":"connection_closed",'
        '"connection":"00ff","bytes_up":5,"duration":0.25,"captured":true,"error":null}\n'
    )


def test_text_line_quotes_where_needed() -> None:
    fields = {
        "connection": b"\x00\xff",
        "peer": "client/a",
        "error": 'a "b" c=d',
        "empty": "",
        "n": -1.5,
        "x": None,
    }
    assert text_line(NEW_YEAR, "info", "client", "connection_closed", fields) == (
        "2026-01-01T00:00:00.000000Z info client connection_closed "
        r'connection=00ff peer=client/a error="a \"b\" c=d" empty="" n=-1.5 x=null' + "\n"
    )


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("text", "text"),
        (0, 0),
        (True, True),
        (None, None),
        (1.5, 1.5),
        (float("nan"), "nan"),
        (float("-inf"), "-inf"),
        (b"\x01\xab", "01ab"),
        (bytearray(b"\x02"), "02"),
        (memoryview(b"\x03\x04")[1:], "04"),
        (released(memoryview(b"12")), "<memoryview without text>"),
        (Identity(Role.PROXY, "b"), "proxy/b"),
        (Endpoint(ip_address("::1"), 80), "[::1]:80"),
        (Code.NO_ROUTE, "no_route"),
        (Role.SERVER, "server"),
        (Flags.ONE, 1),
        (ValueError("why"), "why"),
        (TimeoutError(), "TimeoutError"),
        ([1, "a"], "[1, 'a']"),
        (Mute(), "<Mute without text>"),
        (1 << 40, 1 << 40),
        (1 << 128, hex(1 << 128)),
        pytest.param("x" * MAX_VALUE_CHARACTERS, "x" * MAX_VALUE_CHARACTERS, id="just short enough"),
        pytest.param("x" * (MAX_VALUE_CHARACTERS + 1), "x" * MAX_VALUE_CHARACTERS + CUT, id="too long"),
        pytest.param(b"\xaa" * MAX_VALUE_CHARACTERS, "a" * MAX_VALUE_CHARACTERS + CUT, id="long bytes"),
        pytest.param(10**5000, hex(10**5000), id="integer too long for Python to write"),
    ],
)
def test_values(value: object, shown: object) -> None:
    assert plain(value) == shown
    assert json.loads(json_line(0, "info", "client", "e", {"v": value}))["v"] == shown


@pytest.mark.parametrize("name", ["time", "level", "role", "event"])
def test_a_field_cannot_pass_for_what_every_line_has(name: str) -> None:
    line = json_line(NEW_YEAR, "info", "client", "started", {name: "forged"})
    pairs = json.loads(line, object_pairs_hook=list)
    assert pairs[4:] == [(f"{name}_", "forged")]
    assert [value for _, value in pairs[:4]] == ["2026-01-01T00:00:00.000000Z", "info", "client", "started"]


hostile_text = st.text(
    st.one_of(
        st.characters(),
        st.characters(codec="ascii"),
        st.sampled_from('\n\r\x1b\x85\u2028\ud800" =\\\x00\x7f'),
    ),
    max_size=30,
)


@given(
    st.dictionaries(hostile_text, st.one_of(hostile_text, st.binary(max_size=9), st.integers(), st.floats()))
)
def test_no_field_escapes_from_its_line(fields: dict[str, Any]) -> None:
    for line in (json_line(0, "info", "client", "e", fields), text_line(0, "info", "client", "e", fields)):
        assert line.endswith("\n")
        assert all(" " <= character <= "\x7f" for character in line[:-1])


@given(
    st.dictionaries(hostile_text.filter(lambda name: name not in RESERVED_NAMES), hostile_text, max_size=5)
)
def test_json_line_says_what_was_given(fields: dict[str, str]) -> None:
    read = json.loads(json_line(0, "info", "client", "e", fields))
    assert {name: read[name] for name in fields} == fields
    assert len(read) == len(fields) + 4


@given(hostile_text, st.dictionaries(hostile_text, hostile_text, max_size=5))
def test_text_line_says_what_was_given_and_no_field_imitates_another(
    event: str, fields: dict[str, str]
) -> None:
    text = sentence(event, fields)
    words = list(WORD.finditer(text))
    assert "".join(word[0] for word in words) == text
    assert unquoted(words[0][1]) == event
    assert {unquoted(word[1]): unquoted(word[2]) for word in words[1:]} == fields
