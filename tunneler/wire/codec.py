"""Frames to bytes and back.

A batch is a protobuf message ``repeated Frame frames = 1`` (``tunnel.proto``). Two paths
read and write it, and every difference between them is a bug that the tests look for:

* DATA, ACK and FIN are packed and read here by hand, in protobuf's canonical encoding. Their
  first 29 bytes have a fixed layout; that is two to three times as fast for small frames,
  and fifty times for large ones, which protobuf's Python runtime grows an arena for
  (docs/adr/0002).
* Everything else, and any encoding that is legal but not canonical, goes through protobuf.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from typing import Final

from google.protobuf.message import DecodeError

from tunneler.addresses import CONNECTION_ID_BYTES, ConnectionId
from tunneler.errors import LinkFault
from tunneler.protocol.frames import (
    MAX_BATCH_ACCEPTED,
    MAX_OFFSET,
    MAX_PAYLOAD,
    Ack,
    Data,
    Fin,
    Frame,
)
from tunneler.wire import tunnel_pb2 as pb
from tunneler.wire.messages import frame_of_message, message_of_frame

# A tag is (field number << 3 | wire type): protobuf.dev/programming-guides/encoding.
_FRAMES: Final = 0x0A
_CONNECTION: Final = 0x0A
_KIND: Final = 0x10
_OFFSET: Final = 0x19
_PAYLOAD: Final = 0x22
_LIMIT: Final = 0x29

_DATA: Final = int(pb.DATA)
_FIN: Final = int(pb.FIN)
_ACK: Final = int(pb.ACK)

_HEAD: Final = struct.Struct("<BB16sBBBQ")  # connection, kind, offset: what every hot frame starts with
_ACK_END: Final = struct.Struct("<BQ")  # limit
_ACK_BYTES: Final = _HEAD.size + _ACK_END.size
_FIN_BYTES: Final = _HEAD.size
_ACK_START: Final = bytes((_FRAMES, _ACK_BYTES))
_FIN_START: Final = bytes((_FRAMES, _FIN_BYTES))


class _NotCanonicalError(Exception):
    """A legal encoding, perhaps, but not one that is read by its layout."""


def _varint(value: int) -> bytes:
    groups = bytearray()
    while value > 0x7F:
        groups.append(value & 0x7F | 0x80)
        value >>= 7
    groups.append(value)
    return bytes(groups)


_SHORT_VARINTS: Final = tuple(_varint(value) for value in range(1 << 14))


def encode(frames: Iterable[Frame]) -> bytes:
    """Serialise frames as one batch, in canonical protobuf."""
    parts: list[bytes] = []
    for frame in frames:
        if type(frame) is Data:
            _append_data(parts, *frame)
        elif type(frame) is Ack:
            name, offset, limit = frame
            head = _HEAD.pack(_CONNECTION, CONNECTION_ID_BYTES, name, _KIND, _ACK, _OFFSET, offset)
            parts += (_ACK_START, head, _ACK_END.pack(_LIMIT, limit))
        elif type(frame) is Fin:
            name, offset = frame
            head = _HEAD.pack(_CONNECTION, CONNECTION_ID_BYTES, name, _KIND, _FIN, _OFFSET, offset)
            parts += (_FIN_START, head)
        else:
            message = message_of_frame(frame).SerializeToString()
            parts += (b"\x0a", _varint(len(message)), message)
    return b"".join(parts)


def _append_data(parts: list[bytes], connection: ConnectionId, offset: int, payload: bytes) -> None:
    length = len(payload)
    payload_length = _SHORT_VARINTS[length] if length < 1 << 14 else _varint(length)
    total = _HEAD.size + 1 + len(payload_length) + length
    parts += (
        b"\x0a",
        _SHORT_VARINTS[total] if total < 1 << 14 else _varint(total),
        _HEAD.pack(_CONNECTION, CONNECTION_ID_BYTES, connection, _KIND, _DATA, _OFFSET, offset),
        b"\x22",
        payload_length,
        payload,
    )


def decode(batch: bytes) -> list[Frame]:
    """Read one batch.

    Raises:
        LinkFault: it is not a batch, or holds a frame that no kind allows.
    """
    if len(batch) > MAX_BATCH_ACCEPTED:
        raise LinkFault(f"a batch of {len(batch)} bytes exceeds {MAX_BATCH_ACCEPTED}")
    try:
        return _decode_by_layout(batch)
    except (IndexError, _NotCanonicalError):
        # Cut short, or a legal encoding that is not canonical at the level of the batch.
        return _decode_by_protobuf(batch)


def _decode_by_layout(batch: bytes) -> list[Frame]:
    frames: list[Frame] = []
    position, end_of_batch = 0, len(batch)
    while position < end_of_batch:
        if batch[position] != _FRAMES:
            return _decode_by_protobuf(batch)
        length = batch[position + 1]
        position += 2
        if length > 0x7F:
            length, position = _continue_varint(batch, length, position)
        end = position + length
        if end > end_of_batch:
            raise LinkFault("a frame runs past the end of its batch")
        frames.append(_decode_hot(batch, position, end) or _decode_cold(batch[position:end]))
        position = end
    return frames


def _decode_hot(batch: bytes, start: int, end: int) -> Data | Ack | Fin | None:
    """Read a canonical DATA, ACK or FIN; None when this is anything else."""
    if end - start < _HEAD.size:
        return None
    tag, id_length, connection, kind_tag, kind, offset_tag, offset = _HEAD.unpack_from(batch, start)
    if tag != _CONNECTION or id_length != CONNECTION_ID_BYTES or kind_tag != _KIND or offset_tag != _OFFSET:
        return None
    if offset > MAX_OFFSET:
        return None
    rest = start + _HEAD.size
    if kind == _DATA and end > rest + 2 and batch[rest] == _PAYLOAD:
        length, payload = batch[rest + 1], rest + 2
        if length > 0x7F:
            length, payload = _continue_varint(batch, length, payload)
        if 0 < length <= MAX_PAYLOAD and payload + length == end:
            return Data(connection, offset, batch[payload:end])
    elif kind == _ACK and end - start == _ACK_BYTES and batch[rest] == _LIMIT:
        limit = int.from_bytes(batch[rest + 1 : end], "little")
        if limit <= MAX_OFFSET:
            return Ack(connection, offset, limit)
    elif kind == _FIN and end == rest:
        return Fin(connection, offset)
    return None


def _continue_varint(batch: bytes, value: int, position: int) -> tuple[int, int]:
    """Finish a varint whose first byte ``value`` says that more follow; returns value and next position."""
    value &= 0x7F
    for shift in (7, 14, 21):
        byte = batch[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte <= 0x7F:
            return value, position
    raise _NotCanonicalError


def _decode_cold(message: bytes) -> Frame:
    try:
        return frame_of_message(pb.Frame.FromString(message))
    except DecodeError as error:
        raise LinkFault("a frame is not a protobuf message") from error


def _decode_by_protobuf(batch: bytes) -> list[Frame]:
    try:
        messages = pb.ServerMessage.FromString(batch).frames
    except DecodeError as error:
        raise LinkFault("a batch is not a protobuf message") from error
    return [frame_of_message(message) for message in messages]
