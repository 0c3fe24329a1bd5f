"""The two vocabularies of failure on the wire, and the errors that carry them."""

from __future__ import annotations

from enum import IntEnum, unique

from tunneler.errors import TransportError


@unique
class ErrorCode(IntEnum):
    """Why a stream was reset or a connection closed: RFC 9113 section 7."""

    NO_ERROR = 0x0
    PROTOCOL_ERROR = 0x1
    INTERNAL_ERROR = 0x2
    FLOW_CONTROL_ERROR = 0x3
    SETTINGS_TIMEOUT = 0x4
    STREAM_CLOSED = 0x5
    FRAME_SIZE_ERROR = 0x6
    REFUSED_STREAM = 0x7
    CANCEL = 0x8
    COMPRESSION_ERROR = 0x9
    CONNECT_ERROR = 0xA
    ENHANCE_YOUR_CALM = 0xB
    INADEQUATE_SECURITY = 0xC
    HTTP_1_1_REQUIRED = 0xD


@unique
class Status(IntEnum):
    """How a call ended: doc/statuscodes.md of grpc."""

    OK = 0
    CANCELLED = 1
    UNKNOWN = 2
    INVALID_ARGUMENT = 3
    DEADLINE_EXCEEDED = 4
    NOT_FOUND = 5
    ALREADY_EXISTS = 6
    PERMISSION_DENIED = 7
    RESOURCE_EXHAUSTED = 8
    FAILED_PRECONDITION = 9
    ABORTED = 10
    OUT_OF_RANGE = 11
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14
    DATA_LOSS = 15
    UNAUTHENTICATED = 16


class Http2Error(TransportError):
    """The peer broke HTTP/2 in a way that ends the connection (RFC 9113 section 5.4.1)."""

    def __init__(self, text: str, code: ErrorCode = ErrorCode.PROTOCOL_ERROR) -> None:
        super().__init__(text)
        self.code = code


class StreamError(TransportError):
    """The peer broke HTTP/2 on one stream, which is reset (RFC 9113 section 5.4.2)."""

    def __init__(self, text: str, code: ErrorCode = ErrorCode.PROTOCOL_ERROR) -> None:
        super().__init__(text)
        self.code = code


class CallError(TransportError):
    """The peer broke gRPC on one call, which ends with a status."""

    def __init__(self, text: str, status: Status) -> None:
        super().__init__(text)
        self.status = status


class NotGrpcError(TransportError):
    """A request that is HTTP, but not gRPC; it is answered with an HTTP status."""

    def __init__(self, text: str, status: int) -> None:
        super().__init__(text)
        self.status = status


def name_of(code: int) -> str:
    """An error code as a person reads it; a peer may send one that nobody has defined."""
    try:
        return ErrorCode(code).name
    except ValueError:
        return f"error {code:#x}"
