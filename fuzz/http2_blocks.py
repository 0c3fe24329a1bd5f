"""Header blocks that need no table, so that any of them may come at any time (RFC 7541 section 6.2.2)."""

from __future__ import annotations

from typing import Final


def literal(fields: list[tuple[bytes, bytes]], *, indexed: bool = False) -> bytes:
    """A block of literal fields; names and values of less than 127 bytes.

    Args:
        indexed: have the receiver add them to its table.
    """
    kind = b"\x40" if indexed else b"\x00"
    return b"".join(
        kind + bytes((len(name),)) + name + bytes((len(value),)) + value for name, value in fields
    )


_HEAD: Final = [(b":method", b"POST"), (b":scheme", b"http"), (b":path", b"/tunnel.Tunnel/ClientStream")]
_TYPE: Final = (b"content-type", b"application/grpc")
_OK: Final = [(b":status", b"200"), _TYPE]
_ENDED: Final = (b"grpc-status", b"0")

FIELDS: Final[dict[str, list[tuple[bytes, bytes]]]] = {
    "request": [*_HEAD, (b"te", b"trailers"), _TYPE],
    "request-timeout": [*_HEAD, _TYPE, (b"grpc-timeout", b"15S")],
    "request-timeout-bad": [*_HEAD, _TYPE, (b"grpc-timeout", b"soon")],
    "request-length": [*_HEAD, _TYPE, (b"content-length", b"10")],
    "request-length-bad": [*_HEAD, _TYPE, (b"content-length", b"10"), (b"content-length", b"ten")],
    "request-compressed": [*_HEAD, _TYPE, (b"grpc-encoding", b"gzip")],
    "request-plain": [*_HEAD, (b"content-type", b"text/html")],
    "request-get": [(b":method", b"GET"), *_HEAD[1:]],
    "request-malformed": [_TYPE, *_HEAD],
    "request-upper": [*_HEAD, (b"Content-Type", b"application/grpc")],
    "request-upgrade": [*_HEAD, _TYPE, (b"connection", b"upgrade")],
    "response": _OK,
    "response-interim": [(b":status", b"103")],
    "response-missing": [(b":status", b"404")],
    "response-bad": [(b":status", b"ok")],
    "response-length": [*_OK, (b"content-length", b"0")],
    "response-only": [*_OK, _ENDED],
    "trailers": [_ENDED],
    "trailers-detail": [(b"grpc-status", b"7"), (b"grpc-message", b"no%20way%C3%A9%0A")],
    "trailers-bad": [(b"grpc-status", b"\xff")],
    "trailers-late": [(b":status", b"200")],
    "nothing": [],
}

BLOCKS: Final = [
    *(literal(fields) for fields in FIELDS.values()),
    literal([(b"x-kept", b"v" * 100)], indexed=True),
    b"\xbe",  # the newest entry of the table, if there is one
    b"\x20",  # a table of no bytes
    b"\x3f\xe1\x1f",  # and of 4096 again
    b"\xff\xff\xff\xff\xff\xff\xff",  # an index beyond all bounds
    literal([(b"x", b"v" * 126)] * 120),  # a list that is too large
    literal([(b"x", b"v" * 126)] * 130),  # and a block
    literal([(b":status", b"404")]) + b"\xbe" * 200,  # a small block of a large list
    b"\x20" * 100,  # changes of the table alone
]
