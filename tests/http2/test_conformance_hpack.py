"""Field compression: RFC 7541. A block that cannot be decoded ends the connection (RFC 9113, 4.3).

See conformance.py for what the tables are, and what they leave out.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.http2.conformance import Case, Way, answered, connection_error, every_way, play, response_on
from tests.http2.listening import listening
from tests.http2.rawframes import (
    Error,
    Kind,
    Setting,
    check,
    data,
    headers,
    health_call,
    integer,
    literal,
    request,
    settings,
    string,
    table_size,
)

USER_AGENT = 58
"""Appendix A: the static table has 61 entries, and the dynamic one goes on from there."""
FIRST_DYNAMIC = 62

PLAIN = string("custom-value")
HUFFMAN_KEY = bytes.fromhex("88 25a849e95ba97d7f")
"""Appendix C.4.3: custom-key."""
HUFFMAN_VALUE = bytes.fromhex("89 25a849e95bb8e8b4bf")

INDEXING, NOT_INDEXED, NEVER_INDEXED = (6, 0x40), (4, 0x00), (4, 0x10)
"""Bits of the index, and what is before them: sections 6.2.1, 6.2.2, 6.2.3."""

REST = data(1, check(), end=True)


def named(how: tuple[int, int], value: bytes, index: int = USER_AGENT) -> bytes:
    bits, first = how
    return integer(index, bits, first) + value


def unnamed(how: tuple[int, int], name: bytes, value: bytes) -> bytes:
    return bytes([how[1]]) + name + value


def fine(section: str, name: str, block: bytes) -> Case:
    return Case(section, name, (headers(1, block), REST), answered())


def broken(section: str, name: str, block: bytes) -> Case:
    return Case(section, name, (headers(1, block),), connection_error(Error.COMPRESSION))


STATIC = b"\x83\x86" + literal(":path", "/grpc.health.v1.Health/Check") + b"\x41" + string("localhost")
"""POST, http, a path, and :authority into the table."""
GRPC = literal("te", "trailers") + literal("content-type", "application/grpc")

CASES = [
    fine("7541 6.1", "indexed", STATIC + GRPC),
    *(
        fine(f"7541 {section}", f"{kind}, {what}", request() + representation)
        for section, kind, how in (
            ("6.2.1", "with indexing", INDEXING),
            ("6.2.2", "without indexing", NOT_INDEXED),
            ("6.2.3", "never indexed", NEVER_INDEXED),
        )
        for what, representation in (
            ("indexed name", named(how, PLAIN)),
            ("indexed name, Huffman", named(how, HUFFMAN_VALUE)),
            ("new name", unnamed(how, string("custom-key"), PLAIN)),
            ("new name, Huffman", unnamed(how, HUFFMAN_KEY, HUFFMAN_VALUE)),
        )
    ),
    fine("7541 6.3", "a table size", table_size(128) + request()),
    fine("7541 6.3", "several table sizes", table_size(0) + table_size(4096) + request()),
    fine("7541 6.3", "no table, and indexing all the same", table_size(0) + STATIC + GRPC),
    fine("7541 4.4", "an entry larger than the table", request() + literal("x", "y" * 5000, 0x40)),
    Case(
        "7541 2.3.2",
        "the table lasts",
        (
            headers(1, STATIC + GRPC),
            REST,
            headers(
                3,
                b"\x83\x86"
                + literal(":path", "/grpc.health.v1.Health/Check")
                + integer(FIRST_DYNAMIC, 7, 0x80)
                + GRPC,
            ),
            data(3, check(), end=True),
        ),
        answered(3),
    ),
    # What cannot be decoded.
    broken("7541 2.3.3", "an index beyond the tables", request() + integer(FIRST_DYNAMIC, 7, 0x80)),
    broken(
        "7541 2.3.3",
        "the name of an entry beyond the tables",
        request() + named(INDEXING, PLAIN, FIRST_DYNAMIC + 8),
    ),
    broken("7541 4.2", "a table size at the end of a block", request() + table_size(1)),
    broken("7541 5.1", "an integer without end", request() + b"\xff" + b"\xff" * 20 + b"\x7f"),
    broken("7541 5.1", "an integer that is cut off", request() + b"\xff\xff"),
    broken("7541 5.2", "a string longer than its block", request() + b"\x00\x01x\x7f\x80\x80\x01y"),
    broken(
        "7541 5.2",
        "padding longer than 7 bits",
        request() + unnamed(NOT_INDEXED, string("x"), b"\x82\xf3\xff"),
    ),
    broken("7541 5.2", "padding with zeros", request() + unnamed(NOT_INDEXED, string("x"), b"\x81\xf2")),
    broken("7541 5.2", "EOS", request() + unnamed(NOT_INDEXED, string("x"), b"\x85\xf3\xff\xff\xff\xff")),
    broken("7541 6.1", "index 0", request() + b"\x80"),
    broken("7541 6.3", "a table size above SETTINGS_HEADER_TABLE_SIZE", table_size(4097) + request()),
    broken("7541 6.3", "a huge table size", table_size(2**31) + request()),
    broken("7541 6.2", "a field without value", request() + b"\x00\x01x"),
]


@every_way
@pytest.mark.parametrize("case", CASES, ids=str)
async def test_case(pki: Path, way: Way, case: Case) -> None:
    await play(case, way, pki)


@pytest.mark.parametrize("size", [0, 64, 4096, 2**32 - 1])
async def test_table_that_we_allow(certificates: Path | None, size: int) -> None:
    """4.2: the listener's encoder uses no larger a table than SETTINGS_HEADER_TABLE_SIZE, at any time."""
    async with listening(certificates) as place, place.started() as peer:
        for stream, allowed in ((1, 4096), (3, size), (5, size), (7, 4096)):
            await peer.send(settings((Setting.HEADER_TABLE_SIZE, allowed)))
            await peer.until(lambda frame: frame.is_ack(Kind.SETTINGS))
            # A decoder of 4 GiB would be as large as the listener asks; it never asks for more than 4096.
            peer.decoder.max_allowed_table_size = min(allowed, 4096)
            await peer.send(health_call(stream))
            assert (await response_on(peer, stream)).grpc_status == "0"
