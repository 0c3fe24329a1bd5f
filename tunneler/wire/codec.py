"""Frames to bytes and back.

A batch is a protobuf message ``repeated Frame frames = 1`` (``tunnel.proto``). Two paths
read and write it, and every difference between them is a bug that the tests look for:

* DATA, ACK and FIN are packed and read here by hand, in protobuf's canonical encoding. Their
  first 29 bytes have a fixed layout; that is two to three times as fast for small frames,
  and fifty times for large ones, which protobuf's Python runtime grows an arena for
  (docs/adr/0002).
* Everything else, and any encoding that is legal but not canonical, goes through protobuf.

A relay leaves canonical DATA sealed: the bytes of the frame, cut out of one batch and put into
another. A batch of one frame is not copied at all.
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
    SealedData,
    make,
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

# What every hot frame starts with: the connection's tag and length, the connection, the kind's tag,
# the kind and the offset's tag, the offset.
_HEAD: Final = struct.Struct("<H16s3sQ")
_CONNECTION_START: Final = _CONNECTION | CONNECTION_ID_BYTES << 8
_DATA_KIND: Final = bytes((_KIND, int(pb.DATA), _OFFSET))
_FIN_KIND: Final = bytes((_KIND, int(pb.FIN), _OFFSET))
_ACK_KIND: Final = bytes((_KIND, int(pb.ACK), _OFFSET))

_HEAD_BYTES: Final = _HEAD.size
_SHORT_DATA: Final = struct.Struct("<BBH16s3sQBB")  # with one byte for each of the two lengths
_LIMIT_END: Final = struct.Struct("<BQ")
_ACK_BYTES: Final = _HEAD_BYTES + _LIMIT_END.size
_ACK_START: Final = bytes((_FRAMES, _ACK_BYTES))
_FIN_START: Final = bytes((_FRAMES, _HEAD_BYTES))


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
    """Serialise frames as one batch, in canonical protobuf; sealed ones as they came."""
    parts: list[bytes] = []
    for frame in frames:
        if type(frame) is SealedData:
            parts.append(frame[3])
        elif type(frame) is Data:
            connection, offset, payload = frame
            parts += (_head_of_data(connection, offset, len(payload)), payload)
        elif type(frame) is Ack:
            connection, offset, limit = frame
            head = _HEAD.pack(_CONNECTION_START, connection, _ACK_KIND, offset)
            parts += (_ACK_START, head, _LIMIT_END.pack(_LIMIT, limit))
        elif type(frame) is Fin:
            parts += (_FIN_START, _HEAD.pack(_CONNECTION_START, frame[0], _FIN_KIND, frame[1]))
        else:
            message = message_of_frame(frame).SerializeToString()
            parts += (b"\x0a", _varint(len(message)), message)
    return b"".join(parts)


def _head_of_data(connection: ConnectionId, offset: int, length: int) -> bytes:
    """All of a DATA frame before its payload, the frame's own length included."""
    total = _HEAD_BYTES + 2 + length
    if total <= 0x7F:
        return _SHORT_DATA.pack(
            _FRAMES, total, _CONNECTION_START, connection, _DATA_KIND, offset, _PAYLOAD, length
        )
    payload_length = _SHORT_VARINTS[length] if length < 1 << 14 else _varint(length)
    total += len(payload_length) - 1
    total_length = _SHORT_VARINTS[total] if total < 1 << 14 else _varint(total)
    head = _HEAD.pack(_CONNECTION_START, connection, _DATA_KIND, offset)
    return b"\x0a%b%b\x22%b" % (total_length, head, payload_length)


def decode(batch: bytes, *, sealed: bool = False) -> list[Frame]:
    """Read one batch.

    Args:
        sealed: leave DATA as it came (:class:`SealedData`) where its encoding is canonical.

    Raises:
        LinkFault: it is not a batch, or holds a frame that no kind allows.
    """
    if len(batch) > MAX_BATCH_ACCEPTED:
        raise LinkFault(f"a batch of {len(batch)} bytes exceeds {MAX_BATCH_ACCEPTED}")
    try:
        return _decode_by_layout(batch, sealed=sealed)
    except (IndexError, _NotCanonicalError):
        # Cut short, or a legal encoding that is not canonical at the level of the batch.
        return _decode_by_protobuf(batch)


def _decode_by_layout(batch: bytes, *, sealed: bool) -> list[Frame]:
    frames: list[Frame] = []
    position, end_of_batch = 0, len(batch)
    while position < end_of_batch:
        start = position
        if batch[position] != _FRAMES:
            return _decode_by_protobuf(batch)
        length = batch[position + 1]
        position += 2
        if length > 0x7F:
            length, position = _continue_varint(batch, length, position)
        end = position + length
        if end > end_of_batch:
            raise LinkFault("a frame runs past the end of its batch")
        frame = _decode_hot(batch, position, end, start if sealed else None)
        frames.append(frame or _decode_cold(batch[position:end]))
        position = end
    return frames


def _decode_hot(
    batch: bytes, start: int, end: int, sealed_from: int | None = None
) -> Data | SealedData | Ack | Fin | None:
    """Read a canonical DATA, ACK or FIN; None when this is anything else.

    Args:
        sealed_from: where the frame begins in the batch, if DATA is to be left as it came.
    """
    rest = start + _HEAD_BYTES
    if end < rest:
        return None
    connection_start, connection, kind, offset = _HEAD.unpack_from(batch, start)
    if connection_start != _CONNECTION_START or offset > MAX_OFFSET:
        return None
    if kind == _DATA_KIND and end > rest + 2 and batch[rest] == _PAYLOAD:
        length, payload = batch[rest + 1], rest + 2
        if length > 0x7F:
            length, payload = _continue_varint(batch, length, payload)
        if 0 < length <= MAX_PAYLOAD and payload + length == end:
            if sealed_from is None:
                return make(Data, (connection, offset, batch[payload:end]))
            return make(SealedData, (connection, offset, length, batch[sealed_from:end]))
    elif kind == _ACK_KIND and end - start == _ACK_BYTES:
        limit_tag, limit = _LIMIT_END.unpack_from(batch, rest)
        if limit_tag == _LIMIT and limit <= MAX_OFFSET:
            return Ack(connection, offset, limit)
    elif kind == _FIN_KIND and end == rest:
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
