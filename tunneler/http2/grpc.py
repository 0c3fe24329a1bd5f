"""gRPC's requests, responses and trailers as field lists: grpc/doc/PROTOCOL-HTTP2.md."""

from __future__ import annotations

import re
from typing import Final, NamedTuple
from urllib.parse import unquote_to_bytes

from tunneler.http2.codes import CallError, NotGrpcError, Status, StreamError
from tunneler.http2.headers import Fields

_CONTENT_TYPE: Final = re.compile(rb"application/grpc(?:[+;].*)?", re.DOTALL)
_TIMEOUT: Final = re.compile(rb"([0-9]{1,8})([HMSmun])")
_SECONDS_OF_UNIT: Final = {b"H": 3600.0, b"M": 60.0, b"S": 1.0, b"m": 1e-3, b"u": 1e-6, b"n": 1e-9}

_STATUS_OF_HTTP: Final = {
    400: Status.INTERNAL,
    401: Status.UNAUTHENTICATED,
    403: Status.PERMISSION_DENIED,
    404: Status.UNIMPLEMENTED,
    429: Status.UNAVAILABLE,
    502: Status.UNAVAILABLE,
    503: Status.UNAVAILABLE,
    504: Status.UNAVAILABLE,
}
"""grpc/doc/http-grpc-status-mapping.md."""

_STATUSES: Final = {str(int(status)).encode("ascii"): status for status in Status}

_LONGEST_DETAIL: Final = 200


class Request(NamedTuple):
    """A call that a peer wants to make.

    Attributes:
        path: ``/package.Service/Method``.
        timeout: seconds after which the peer gives up, or None.
        content_length: bytes of DATA that are to come, or None where the peer did not say.
    """

    path: str
    timeout: float | None
    content_length: int | None


class Outcome(NamedTuple):
    """How a call ended; ``detail`` is the peer's own text, for the log and nothing else."""

    status: Status
    detail: str

    def __str__(self) -> str:
        return f"{self.status.name}: {self.detail}" if self.detail else self.status.name


def request_fields(path: str, authority: str, *, secure: bool) -> list[tuple[str, str]]:
    return [
        (":method", "POST"),
        (":scheme", "https" if secure else "http"),
        (":path", path),
        (":authority", authority),
        ("te", "trailers"),
        ("content-type", "application/grpc"),
        ("user-agent", "tunneler"),
    ]


RESPONSE_FIELDS: Final = [(":status", "200"), ("content-type", "application/grpc")]


def trailer_fields(status: Status) -> list[tuple[str, str]]:
    """The end of a response. There is no ``grpc-message``: codes are all that we say."""
    return [("grpc-status", str(int(status)))]


def refusal_fields(http_status: int) -> list[tuple[str, str]]:
    return [(":status", str(http_status))]


def request_of(fields: Fields) -> Request:
    """Read a well-formed request.

    Raises:
        NotGrpcError: it is not one of gRPC.
        CallError: it is, but not as gRPC wants it.
        StreamError: its content-length is not a number.
    """
    values = dict(fields)
    if values[b":method"] != b"POST":
        raise NotGrpcError("a method other than POST", 405)
    if not _CONTENT_TYPE.fullmatch(values.get(b"content-type", b"")):
        raise NotGrpcError("a content-type other than application/grpc", 415)
    if values.get(b"grpc-encoding", b"identity") != b"identity":
        raise CallError("compressed messages", Status.UNIMPLEMENTED)
    return Request(
        values[b":path"].decode("ascii", "replace"),
        _timeout_of(values.get(b"grpc-timeout")),
        content_length_of(fields),
    )


def content_length_of(fields: Fields) -> int | None:
    """Raises StreamError: it is not one number (RFC 9110 section 8.6)."""
    lengths = {value for name, value in fields if name == b"content-length"}
    if not lengths:
        return None
    length = lengths.pop()
    if lengths or not re.fullmatch(rb"[0-9]{1,18}", length):
        raise StreamError("a content-length that is not a number")
    return int(length)


def http_status_of(fields: Fields) -> int:
    """Raises StreamError: it is not a status."""
    status = dict(fields)[b":status"]
    if not re.fullmatch(rb"[1-9][0-9]{2}", status):
        raise StreamError("a :status that is not a number")
    return int(status)


def outcome_of(fields: Fields) -> Outcome:
    """How a response ended; ``fields`` are its trailers, or all there was of it."""
    values = dict(fields)
    detail = _readable(values.get(b"grpc-message", b""))
    number = values.get(b"grpc-status")
    if number is None:
        http = int(values.get(b":status", b"200"))
        if http == 200:
            return Outcome(Status.UNKNOWN, "the response ended without a status")
        return Outcome(_STATUS_OF_HTTP.get(http, Status.UNKNOWN), f"HTTP status {http}")
    status = _STATUSES.get(number)
    if status is None:
        return Outcome(Status.UNKNOWN, f"grpc-status {_readable(number)!r}")
    return Outcome(status, detail)


def _timeout_of(value: bytes | None) -> float | None:
    if value is None:
        return None
    match = _TIMEOUT.fullmatch(value)
    if match is None:
        raise CallError("a grpc-timeout that is not one", Status.INTERNAL)
    return int(match[1]) * _SECONDS_OF_UNIT[match[2]]


def _readable(value: bytes) -> str:
    """A peer's text, percent-encoded UTF-8, made fit for one line of a log."""
    text = unquote_to_bytes(value[: 3 * _LONGEST_DETAIL]).decode("utf-8", "replace")
    return "".join(character if character.isprintable() else " " for character in text[:_LONGEST_DETAIL])
