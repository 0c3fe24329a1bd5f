"""The messages of gRPC's health service, read and written by hand: a field each.

    message HealthCheckRequest { string service = 1; }
    message HealthCheckResponse { ServingStatus status = 1; }

Source: grpc-proto, ``grpc/health/v1/health.proto``; how fields are encoded:
protobuf.dev/programming-guides/encoding.
"""

from __future__ import annotations

from enum import IntEnum, unique
from typing import Final

CHECK: Final = "/grpc.health.v1.Health/Check"

_SERVICE: Final = 0x0A  # a tag is (field number << 3 | wire type)
_STATUS: Final = 0x08
_VARINT: Final = 0
_LENGTH: Final = 2
_BYTES_OF_FIXED: Final = {1: 8, 5: 4}
_LONGEST_VARINT: Final = 10
_LARGEST_FIELD: Final = 2**29 - 1


@unique
class ServingStatus(IntEnum):
    """Whether a service takes calls."""

    UNKNOWN = 0
    SERVING = 1
    NOT_SERVING = 2


def read_request(message: bytes) -> str:
    """The name of the service that is asked about; empty: the server as a whole.

    Raises:
        ValueError: not a HealthCheckRequest.
    """
    service = b""
    position = 0
    while position < len(message):
        tag, position = _read_varint(message, position)
        if not 1 <= tag >> 3 <= _LARGEST_FIELD:
            raise ValueError(f"field {tag >> 3}")
        wire_type = tag & 7
        if wire_type == _VARINT:
            _, end = _read_varint(message, position)
        elif wire_type == _LENGTH:
            length, position = _read_varint(message, position)
            end = position + length
        elif wire_type in _BYTES_OF_FIXED:
            end = position + _BYTES_OF_FIXED[wire_type]
        else:
            raise ValueError(f"wire type {wire_type}")
        if end > len(message):
            raise ValueError("a field runs past the end of its message")
        if tag == _SERVICE:
            service = message[position:end]  # the last one counts; unknown fields do not
        position = end
    return service.decode()


def response(status: ServingStatus) -> bytes:
    """A HealthCheckResponse."""
    return bytes((_STATUS, status))


def _read_varint(message: bytes, position: int) -> tuple[int, int]:
    """A number, and the position behind it."""
    value = 0
    for index in range(_LONGEST_VARINT):
        if position + index >= len(message):
            break
        byte = message[position + index]
        value |= (byte & 0x7F) << 7 * index
        if byte < 0x80:
            return value, position + index + 1
    raise ValueError("a number without an end")
