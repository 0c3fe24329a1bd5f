"""Protobuf encodings that are legal and not canonical, built by hand."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

VARINT, FIXED64, LENGTH_DELIMITED, FIXED32 = 0, 1, 2, 5
MESSAGE_FIELDS = frozenset({7, 8, 9, 10, 11})
"""Fields of Frame that are messages themselves."""


class Field(NamedTuple):
    number: int
    wire_type: int
    value: int | bytes


def varint(value: int, padding: int = 0) -> bytes:
    """A varint, made longer than need be by ``padding`` bytes."""
    groups = bytearray()
    while value > 0x7F:
        groups.append(value & 0x7F | 0x80)
        value >>= 7
    groups.append(value)
    if padding:
        groups[-1] |= 0x80
        groups += b"\x80" * (padding - 1) + b"\x00"
    return bytes(groups)


def fields(message: bytes) -> Iterator[Field]:
    """The fields of a well-formed message, in order."""
    position = 0

    def read_varint() -> int:
        nonlocal position
        value = shift = 0
        while True:
            byte = message[position]
            position += 1
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte <= 0x7F:
                return value

    while position < len(message):
        number, wire_type = divmod(read_varint(), 8)
        if wire_type == VARINT:
            yield Field(number, wire_type, read_varint())
            continue
        length = 8 if wire_type == FIXED64 else 4 if wire_type == FIXED32 else read_varint()
        yield Field(number, wire_type, message[position : position + length])
        position += length


def assemble(parts: list[Field], padding: Callable[[], int]) -> bytes:
    """Write fields; ``padding`` says for each varint how many bytes too long it is to be."""
    out = bytearray()
    for number, wire_type, value in parts:
        out += varint(number * 8 + wire_type, min(padding(), 2))
        if isinstance(value, int):
            out += varint(value, padding())
        elif wire_type == LENGTH_DELIMITED:
            out += varint(len(value), padding()) + value
        else:
            out += value
    return bytes(out)
