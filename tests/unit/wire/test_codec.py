"""Frames to bytes and back: what we write is protobuf's own, what we read is all of protobuf."""

from __future__ import annotations

import random

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tests.unit.wire.encodings import FIXED64, LENGTH_DELIMITED, VARINT, Field, assemble, fields, varint
from tests.unit.wire.strategies import batches, cold_frames, frames, hot_frames, told_apart
from tunneler.addresses import ConnectionId
from tunneler.errors import LinkFault
from tunneler.protocol.frames import (
    MAX_BATCH_ACCEPTED,
    MAX_OFFSET,
    MAX_PAYLOAD,
    Ack,
    Data,
    Fin,
    Frame,
    Heartbeat,
)
from tunneler.wire import codec
from tunneler.wire import tunnel_pb2 as pb
from tunneler.wire.codec import decode, encode
from tunneler.wire.messages import message_of_frame

NAME = ConnectionId(bytes(range(16)))
MESSAGES = (pb.ClientMessage, pb.ProxyMessage, pb.ServerMessage)
ONE_OF_EACH: list[Frame] = [Data(NAME, 7, b"payload"), Ack(NAME, 7, 2**40), Fin(NAME, 14), Heartbeat()]


def by_protobuf(batch: list[Frame]) -> bytes:
    return pb.ServerMessage(frames=map(message_of_frame, batch)).SerializeToString(deterministic=True)


@given(batches)
@example([Data(NAME, 0, bytes(MAX_PAYLOAD)), Ack(NAME, MAX_OFFSET, MAX_OFFSET)])
def test_written_as_protobuf_writes_and_read_back(batch: list[Frame]) -> None:
    written = encode(batch)
    assert written == by_protobuf(batch)
    assert told_apart(decode(written)) == told_apart(batch)


@pytest.mark.parametrize("length", [*range(1, 300), *range(16_200, 16_400), MAX_PAYLOAD - 1, MAX_PAYLOAD])
def test_every_width_of_a_length(length: int) -> None:
    batch: list[Frame] = [Data(NAME, 1, bytes(length)), Fin(NAME, 1 + length)]
    written = encode(batch)
    assert written == by_protobuf(batch)
    assert told_apart(decode(written)) == told_apart(batch)


@given(batches)
def test_all_three_messages_are_the_same(batch: list[Frame]) -> None:
    written = encode(batch)
    for message in MESSAGES:
        assert list(message.FromString(written).frames) == list(map(message_of_frame, batch))


@given(batches, batches)
def test_two_batches_end_to_end_are_a_batch(first: list[Frame], second: list[Frame]) -> None:
    assert told_apart(decode(encode(first) + encode(second))) == told_apart(first + second)


@given(hot_frames)
def test_hot_frames_never_meet_protobuf(frame: Data | Fin | Ack) -> None:
    """Also says that the two paths agree, so that the other tests know which they exercise."""
    written = encode([frame])
    start = next(at for at in range(2, 6) if varint(len(written) - at) == written[1:at])
    found = codec._decode_hot(written, start, len(written))
    assert told_apart([frame]) == [(type(found), found)]
    assert told_apart([codec._decode_cold(written[start:])]) == told_apart([frame])


@given(frames, st.randoms(use_true_random=False))
def test_fields_in_any_order(frame: Frame, dice: random.Random) -> None:
    parts = list(fields(message_of_frame(frame).SerializeToString()))
    dice.shuffle(parts)
    assert_read(assemble(parts, lambda: 0), frame)


@given(frames, st.randoms(use_true_random=False))
def test_varints_longer_than_need_be(frame: Frame, dice: random.Random) -> None:
    parts = list(fields(message_of_frame(frame).SerializeToString()))
    assert_read(assemble(parts, lambda: dice.randrange(3)), frame)


@given(frames, st.integers(0, 4))
def test_length_of_a_frame_longer_than_need_be(frame: Frame, padding: int) -> None:
    message = message_of_frame(frame).SerializeToString()
    padding = min(padding, 5 - len(varint(len(message))))  # protobuf reads lengths of five bytes at most
    batch = b"\x0a" + varint(len(message), padding) + message
    assert told_apart(decode(batch + encode([frame]))) == told_apart([frame, frame])


@given(frames, st.integers(12, 500), st.binary(max_size=10), st.integers(0, 5))
def test_unknown_fields_are_passed_over(frame: Frame, number: int, value: bytes, where: int) -> None:
    parts = list(fields(message_of_frame(frame).SerializeToString()))
    parts.insert(min(where, len(parts)), Field(number, LENGTH_DELIMITED, value))
    parts.append(Field(number, VARINT, 2**63))
    assert_read(assemble(parts, lambda: 0), frame)


@given(batches, st.integers(2, 500), st.integers(0, 8))
def test_unknown_field_beside_the_frames(batch: list[Frame], number: int, where: int) -> None:
    where = min(where, len(batch))
    alien = assemble([Field(number, VARINT, 5)], lambda: 0)
    written = encode(batch[:where]) + alien + encode(batch[where:])
    assert told_apart(decode(written)) == told_apart(batch)


@given(cold_frames | hot_frames)
def test_last_of_a_repeated_field_counts(frame: Frame) -> None:
    """As protobuf says; here the kind is said wrongly first."""
    message = assemble([Field(2, VARINT, pb.BYE)], lambda: 0) + message_of_frame(frame).SerializeToString()
    assert_read(message, frame)


@pytest.mark.parametrize("frame", ONE_OF_EACH, ids=lambda frame: type(frame).__name__)
@pytest.mark.parametrize(
    "extra",
    [
        pytest.param(Field(12, LENGTH_DELIMITED, b"alien"), id="bytes"),
        pytest.param(Field(12, VARINT, 1), id="number"),
        pytest.param(Field(15, FIXED64, b"12345678"), id="fixed"),
    ],
)
def test_unknown_field_after_what_looks_canonical(frame: Frame, extra: Field) -> None:
    canonical = message_of_frame(frame).SerializeToString()
    assert_read(canonical + assemble([extra], lambda: 0), frame)


@pytest.mark.parametrize(
    ("number", "value", "expected"),
    [
        (4, b"other payload", Data(NAME, 7, b"other payload")),
        (3, (9).to_bytes(8, "little"), Data(NAME, 9, b"payload")),
        (1, bytes(16), Data(ConnectionId(bytes(16)), 7, b"payload")),
    ],
)
def test_field_said_again_after_what_looks_canonical(number: int, value: bytes, expected: Data) -> None:
    wire_type = FIXED64 if number == 3 else LENGTH_DELIMITED
    canonical = message_of_frame(Data(NAME, 7, b"payload")).SerializeToString()
    assert_read(canonical + assemble([Field(number, wire_type, value)], lambda: 0), expected)


def assert_read(message: bytes, frame: Frame) -> None:
    """A message that protobuf reads as ``frame``, alone and between others."""
    assert pb.Frame.FromString(message).kind == message_of_frame(frame).kind
    batch = b"\x0a" + varint(len(message)) + message
    neighbour = encode([Ack(NAME, 1, 2)])
    expected = told_apart([Ack(NAME, 1, 2), frame, Ack(NAME, 1, 2)])
    assert told_apart(decode(neighbour + batch + neighbour)) == expected


@given(batches)
@example(ONE_OF_EACH)
def test_cut_short_anywhere(batch: list[Frame]) -> None:
    """Between two frames a batch may end; anywhere else that is a fault, as protobuf agrees."""
    batch = [frame for frame in batch if not isinstance(frame, Data) or len(frame.payload) < 300]
    written = encode(batch)
    ends = {len(encode(batch[:count])) for count in range(len(batch) + 1)}
    for length in range(len(written)):
        if length in ends:
            decode(written[:length])
        else:
            with pytest.raises(LinkFault):
                decode(written[:length])


@given(st.binary(max_size=200))
def test_random_bytes(batch: bytes) -> None:
    try:
        decoded = decode(batch)
    except LinkFault:
        return
    assert told_apart(decode(encode(decoded))) == told_apart(decoded)


@given(batches, st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 255)), min_size=1, max_size=4))
def test_damaged_bytes_are_read_as_protobuf_reads_them(
    batch: list[Frame], damage: list[tuple[int, int]]
) -> None:
    written = bytearray(encode(batch))
    for position, value in damage:
        if written:
            written[position % len(written)] = value
    outcomes = []
    for read in (decode, codec._decode_by_protobuf):
        try:
            outcomes.append(told_apart(read(bytes(written))))
        except LinkFault:
            outcomes.append([])
    assert outcomes[0] == outcomes[1]


def test_empty_batch() -> None:
    assert encode([]) == b""
    assert decode(b"") == []


def test_batch_too_large() -> None:
    payload = bytes(MAX_PAYLOAD)
    batch = encode([Data(NAME, 0, payload)] * (MAX_BATCH_ACCEPTED // MAX_PAYLOAD - 1))
    assert len(decode(batch)) == MAX_BATCH_ACCEPTED // MAX_PAYLOAD - 1
    filler = MAX_BATCH_ACCEPTED - len(batch) - 4
    alien = b"\x7a" + varint(filler - 1)
    full = batch + alien + bytes(MAX_BATCH_ACCEPTED - len(batch) - len(alien))
    assert len(full) == MAX_BATCH_ACCEPTED
    with pytest.raises(LinkFault, match="exceeds"):
        decode(full + b"\x0a")


@pytest.mark.parametrize(
    "frame",
    [
        Data(NAME, 0, b""),
        Data(NAME, 0, bytes(MAX_PAYLOAD + 1)),
        Data(NAME, MAX_OFFSET + 1, b"x"),
        Data(ConnectionId(b"short"), 0, b"x"),
        Fin(NAME, MAX_OFFSET + 1),
        Ack(NAME, MAX_OFFSET + 1, 0),
        Ack(NAME, 0, MAX_OFFSET + 1),
        Ack(NAME, 0, 2**64 - 1),
    ],
    ids=lambda frame: repr(frame)[:40],
)
def test_hot_frames_out_of_bounds(frame: Frame) -> None:
    with pytest.raises(LinkFault):
        decode(by_protobuf([frame]))
