"""Requests as HTTP: RFC 9113 section 8. A request that is malformed costs the peer its stream.

See conformance.py for what the tables are, and what they leave out.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.http2.conformance import Case, Way, answered, either_error, every_way, play, stream_error
from tests.http2.rawframes import (
    CLIENT_STREAM,
    Error,
    block,
    check,
    data,
    headers,
    message,
    request,
)

OPEN = headers(1, request(CLIENT_STREAM))
REST = data(1, check(), end=True)
MALFORMED = stream_error(Error.PROTOCOL)


def malformed(section: str, name: str, header_block: bytes) -> Case:
    return Case(section, name, (headers(1, header_block),), MALFORMED)


def field(name: str | bytes, value: str | bytes) -> bytes:
    return request() + block([(name, value)])


def spelt(*fields: tuple[str, str]) -> bytes:
    """A request out of exactly these fields, and those of gRPC."""
    return block([*fields, ("te", "trailers"), ("content-type", "application/grpc")])


METHOD, SCHEME, PATH = (":method", "POST"), (":scheme", "http"), (":path", "/grpc.health.v1.Health/Check")

CASES = [
    # 8.1 Message framing.
    Case(
        "8.1",
        "with trailers",
        (headers(1, request()), data(1, check()), headers(1, block([("x-test", "ok")]), end=True)),
        answered(),
    ),
    Case(
        "8.1",
        "a second HEADERS without END_STREAM",
        (OPEN, data(1, message(b"test")), headers(1, block([("x-test", "ok")]))),
        MALFORMED,
    ),
    Case(
        "8.1",
        "a pseudo-field in trailers",
        (OPEN, data(1, message(b"test")), headers(1, block([PATH]), end=True)),
        MALFORMED,
    ),
    Case(
        "8.1",
        "a field of the connection in trailers",
        (OPEN, headers(1, block([("connection", "close")]), end=True)),
        MALFORMED,
    ),
    # 8.1.1 Malformed messages.
    Case(
        "8.1.1",
        "content-length of 4, and 5 bytes",
        (headers(1, request(content_length="4")), REST),
        MALFORMED,
    ),
    Case(
        "8.1.1",
        "content-length of 6, and 5 bytes",
        (headers(1, request(content_length="6")), REST),
        MALFORMED,
    ),
    Case(
        "8.1.1",
        "content-length of 6, and 2 and 3 bytes",
        (headers(1, request(content_length="6")), data(1, check()[:2]), data(1, check()[2:], end=True)),
        MALFORMED,
    ),
    Case(
        "8.1.1",
        "content-length of 1, and none",
        (headers(1, request(content_length="1"), end=True),),
        MALFORMED,
    ),
    Case(
        "8.1.1",
        "content-length of 6, and 5 bytes and trailers",
        (
            headers(1, request(content_length="6")),
            data(1, check()),
            headers(1, block([("x-test", "ok")]), end=True),
        ),
        MALFORMED,
    ),
    Case(
        "8.1.1",
        "content-length of 6, and a message of 5 bytes",
        (headers(1, request(content_length="6")), data(1, check()), data(1, end=True)),
        MALFORMED,
    ),
    Case(
        "8.1.1",
        "content-length of 5, and a message of 5 bytes",
        (headers(1, request(content_length="5")), data(1, check()), data(1, end=True)),
        answered(),
    ),
    Case(
        "8.1.1",
        "content-length that is right",
        (headers(1, request(content_length="5")), data(1, check(), padding=9, end=True)),
        answered(),
    ),
    malformed("8.1.1", "content-length that is no number", request(content_length="5x")),
    malformed("8.1.1", "content-length with a sign", request(content_length="+5")),
    malformed(
        "8.1.1", "two content-lengths", request() + block([("content-length", "5"), ("content-length", "6")])
    ),
    # 8.2.1 Field validity.
    *(
        malformed("8.2.1", f"name {name!r}", field(name, "value"))
        for name in (
            b"X-Test",
            b"x test",
            b"x\x00test",
            b"x\x7ftest",
            b"x\xe4test",
            b"",
            b"x:test",
            b"x\n",
            b"\tx",
        )
    ),
    *(
        malformed("8.2.1", f"value {value!r}", field("x-test", value))
        for value in (b"a\x00b", b"a\nb", b"a\rb", b" a", b"a ", b"\ta", b"a\t", b"\r\n")
    ),
    *(
        Case("8.2.1", f"value {value!r}", (headers(1, field("x-test", value)), REST), answered())
        for value in (b"", b"a b\tc", b"\xe4\xf6", b'"quoted"')
    ),
    # 8.2.2 Connection-specific fields.
    *(
        malformed("8.2.2", name, field(name, value))
        for name, value in (
            ("connection", "keep-alive"),
            ("keep-alive", "5"),
            ("proxy-connection", "keep-alive"),
            ("transfer-encoding", "chunked"),
            ("upgrade", "h2c"),
        )
    ),
    malformed("8.2.2", "te: trailers, deflate", request(te="trailers, deflate")),
    malformed("8.2.2", "te: gzip", request(te="gzip")),
    # 8.3 Pseudo-fields.
    malformed("8.3", "unknown", spelt(METHOD, SCHEME, PATH, (":test", "ok"))),
    malformed("8.3", "of responses", spelt(METHOD, SCHEME, PATH, (":status", "200"))),
    malformed("8.3", "after a field", spelt(METHOD, SCHEME, ("x-test", "ok"), PATH)),
    malformed("8.3", "in upper case", spelt(METHOD, SCHEME, PATH, (":Authority", "localhost"))),
    # 8.3.1 Request pseudo-fields.
    malformed("8.3.1", "empty :path", spelt(METHOD, SCHEME, (":path", ""))),
    malformed("8.3.1", "no :method", spelt(SCHEME, PATH)),
    malformed("8.3.1", "no :scheme", spelt(METHOD, PATH)),
    malformed("8.3.1", "no :path", spelt(METHOD, SCHEME)),
    malformed("8.3.1", "two :method", spelt(METHOD, METHOD, SCHEME, PATH)),
    malformed("8.3.1", "two :scheme", spelt(METHOD, SCHEME, SCHEME, PATH)),
    malformed("8.3.1", "two :path", spelt(METHOD, SCHEME, PATH, PATH)),
    malformed(
        "8.3.1", "two :authority", spelt(METHOD, SCHEME, PATH, (":authority", "a"), (":authority", "a"))
    ),
    malformed("8.3.1", "no field at all", b""),
    Case("8.3.1", "no :authority", (headers(1, spelt(METHOD, SCHEME, PATH)), REST), answered()),
    # 8.5 CONNECT is not for us.
    malformed("8.5", "CONNECT", spelt((":method", "CONNECT"), (":authority", "localhost:22"))),
    # 8.1, and 5.1: what comes after the end.
    Case(
        "8.1",
        "DATA after trailers",
        (OPEN, headers(1, block([("x-test", "ok")]), end=True), data(1, b"test")),
        either_error(Error.STREAM_CLOSED),
    ),
]


@every_way
@pytest.mark.parametrize("case", CASES, ids=str)
async def test_case(pki: Path, way: Way, case: Case) -> None:
    await play(case, way, pki)
