"""The bytes of rules; that iptables reads them as meant is shown in tests/namespaces/test_capture.py."""

from __future__ import annotations

import struct
from ipaddress import IPv4Network, IPv6Network
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunneler.addresses import parse_network
from tunneler.capture.xtables import REDIRECT, RETURN, Entry, Rule, encode, renamed

ports = st.integers(1, 65535)
uids = st.integers(0, 2**32 - 2)


def _networks(version: Literal[4, 6]) -> st.SearchStrategy[IPv4Network | IPv6Network]:
    width = 32 if version == 4 else 128
    kind: type[IPv4Network | IPv6Network] = IPv4Network if version == 4 else IPv6Network
    pairs = st.tuples(st.integers(0, 2**width - 1), st.integers(0, width))
    return pairs.map(lambda pair: kind(pair, strict=False))


def _rules(version: Literal[4, 6]) -> st.SearchStrategy[Rule]:
    return st.one_of(
        st.builds(Rule, st.just(version), st.just(RETURN), _networks(version)),
        st.builds(Rule, st.just(version), st.just(REDIRECT), _networks(version), to_port=ports),
        st.builds(Rule, st.just(version), st.just("TUNNELER"), except_uid=st.none() | uids),
    )


rules = st.one_of(_rules(4), _rules(6))


@given(rules, rules)
def test_rules_have_the_same_essence_exactly_if_they_are_equal(one: Rule, other: Rule) -> None:
    assert (encode(one).essence() == encode(other).essence()) == (one == other)


@given(rules)
def test_the_port_is_read_back(rule: Rule) -> None:
    assert encode(rule).to_port == rule.to_port


@given(rules)
def test_offsets_frame_the_parts(rule: Rule) -> None:
    entry = encode(rule)
    next_offset = struct.unpack_from("@H", entry.raw, 90 if rule.version == 4 else 142)[0]
    assert next_offset == len(entry.raw)
    assert len(entry.raw) % 8 == 0
    target_size, name = struct.unpack_from("@H29s", entry.raw, entry.target_offset)
    assert entry.target_offset + target_size == next_offset
    assert name.rstrip(b"\0").decode() == rule.target


@given(rules, st.binary(min_size=16, max_size=16), st.binary(min_size=21, max_size=21))
def test_essence_ignores_counters_and_what_lies_behind_a_name(
    rule: Rule, counters: bytes, junk: bytes
) -> None:
    """The kernel writes a match's name up to its zero byte only."""
    entry = encode(rule)
    raw = bytearray(entry.raw)
    head = 112 if rule.version == 4 else 168
    raw[head - 16 : head] = counters
    comment_name = head + 2
    raw[comment_name + len(b"comment\0") : comment_name + 29] = junk
    assert bytes(raw) != entry.raw or not any(counters + junk)
    assert entry._replace(raw=bytes(raw)).essence() == entry.essence()


@given(rules)
def test_renamed_undoes_what_libiptc_does_to_the_name(rule: Rule) -> None:
    entry = encode(rule)
    raw = bytearray(entry.raw)
    raw[entry.target_offset + 2 : entry.target_offset + 31] = bytes(29)
    assert renamed(Entry(entry.version, bytes(raw), entry.target)) == entry.raw


@pytest.mark.parametrize(
    ("rule", "text"),
    [
        (Rule(4, RETURN, parse_network("127.0.0.0/8")), "-d 127.0.0.0/8 -p tcp -j RETURN"),
        (
            Rule(6, REDIRECT, parse_network("::/0"), to_port=9999),
            "-d ::/0 -p tcp -j REDIRECT --to-ports 9999",
        ),
        (Rule(4, "TUNNELER", except_uid=7), "-p tcp -m owner ! --uid-owner 7 -j TUNNELER"),
    ],
)
def test_a_rule_reads_like_iptables(rule: Rule, text: str) -> None:
    assert str(rule) == text
