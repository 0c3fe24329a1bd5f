"""DATA that a relay leaves as it came: the same frames, and the same bytes when they are written again."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tests.unit.wire.strategies import batches, told_apart
from tunneler.addresses import ConnectionId
from tunneler.errors import LinkFault
from tunneler.protocol.frames import MAX_OFFSET, MAX_PAYLOAD, Ack, Data, Fin, Frame, SealedData
from tunneler.wire import tunnel_pb2 as pb
from tunneler.wire.codec import decode, encode

NAME = ConnectionId(bytes(range(16)))


def opened(frames: list[Frame]) -> list[tuple[type, Frame]]:
    return told_apart(
        [
            Data(frame.connection, frame.offset, frame.payload) if isinstance(frame, SealedData) else frame
            for frame in frames
        ]
    )


@given(batches)
@example([Data(NAME, 0, bytes(MAX_PAYLOAD)), Ack(NAME, MAX_OFFSET, MAX_OFFSET), Data(NAME, 5, b"x")])
def test_left_as_it_came(batch: list[Frame]) -> None:
    written = encode(batch)
    read = decode(written, sealed=True)
    assert opened(read) == told_apart(batch)
    assert not any(isinstance(frame, Data) for frame in read), "canonical, and taken apart all the same"
    assert all(frame.length == len(frame.payload) for frame in read if isinstance(frame, SealedData))
    assert encode(read) == written


@given(batches, batches)
def test_frames_of_several_batches_make_a_batch(first: list[Frame], second: list[Frame]) -> None:
    sealed = decode(encode(first), sealed=True)
    assert told_apart(decode(encode([*sealed, *second]))) == told_apart(first + second)


def test_one_frame_is_not_even_copied() -> None:
    batch = encode([Data(NAME, 0, bytes(1000))])
    assert encode(decode(batch, sealed=True)) is batch


@pytest.mark.parametrize("length", [*range(1, 300), *range(16_200, 16_400), MAX_PAYLOAD])
def test_every_width_of_a_length(length: int) -> None:
    batch: list[Frame] = [Data(NAME, 1, bytes(length)), Fin(NAME, 1 + length)]
    sealed = decode(encode(batch), sealed=True)
    assert type(sealed[0]) is SealedData
    assert opened(sealed) == told_apart(batch)


def test_what_is_not_canonical_is_opened() -> None:
    message = pb.Frame(connection=NAME, kind=pb.DATA, offset=7, payload=b"payload").SerializeToString()
    reordered = message[-9:] + message[:-9]
    batch = bytes((0x0A, len(reordered))) + reordered
    assert told_apart(decode(batch, sealed=True)) == told_apart([Data(NAME, 7, b"payload")])


@given(batches, st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 255)), max_size=4))
def test_damaged_bytes_are_read_alike(batch: list[Frame], damage: list[tuple[int, int]]) -> None:
    """Sealed or not: the same frames or the same fault; and what is passed on, the receiver reads alike."""
    written = bytearray(encode(batch))
    for position, value in damage:
        if written:
            written[position % len(written)] = value
    try:
        expected = decode(bytes(written))
    except LinkFault:
        with pytest.raises(LinkFault):
            decode(bytes(written), sealed=True)
        return
    sealed = decode(bytes(written), sealed=True)
    assert opened(sealed) == told_apart(expected)
    assert told_apart(decode(encode(sealed))) == told_apart(expected)
