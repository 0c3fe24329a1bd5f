"""Messages out of DATA, wherever it is cut."""

from __future__ import annotations

from itertools import chain

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.http2.reading import cuts
from tunneler.http2.codes import CallError, Status
from tunneler.http2.frames import MESSAGE_PREFIX
from tunneler.http2.messages import MessageReader

LIMIT = 300

messages = st.lists(st.binary(max_size=LIMIT), max_size=6)


def prefixed(message: bytes) -> bytes:
    return MESSAGE_PREFIX.pack(0, len(message)) + message


def read(reader: MessageReader, chunks: list[bytes]) -> list[bytes]:
    found: list[bytes] = []
    for chunk in chunks:
        buffer = bytearray(chunk)
        for message in reader.read(memoryview(buffer)):
            assert type(message) is bytes
            found.append(message)
        buffer[:] = b"\xee" * len(buffer)
        assert len(reader.held) < LIMIT + MESSAGE_PREFIX.size
    return found


@pytest.mark.parametrize(
    "sent", [[b""], [b"a"], [b"", b""], [b"first", b"", b"third"], [bytes(LIMIT)], [b"\0" * 5, b"\1" * 5]]
)
def test_cut_at_every_byte(sent: list[bytes]) -> None:
    for chunks in cuts(b"".join(map(prefixed, sent))):
        reader = MessageReader(LIMIT)
        assert read(reader, chunks) == sent
        assert not reader.held


@given(messages, st.binary(max_size=4), st.lists(st.integers(0, 20), max_size=40))
def test_cut_anywhere(sent: list[bytes], rest: bytes, sizes: list[int]) -> None:
    stream = b"".join(map(prefixed, sent)) + bytes(len(rest))
    chunks: list[bytes] = []
    for size in sizes:
        chunks.append(stream[:size])
        stream = stream[size:]
    reader = MessageReader(LIMIT)
    assert read(reader, [*chunks, stream]) == sent
    assert len(reader.held) == len(rest)


def test_held() -> None:
    reader = MessageReader(LIMIT)
    stream = prefixed(b"message")
    for place, byte in enumerate(stream[:-1], start=1):
        assert read(reader, [bytes((byte,))]) == []
        assert len(reader.held) == place
    assert read(reader, [stream[-1:]]) == [b"message"]
    assert not reader.held


FAULTS = [
    (b"\x01\0\0\0\0", "a compressed message", Status.INTERNAL),
    (b"\xff\0\0\0\0", "a compressed message", Status.INTERNAL),
    (MESSAGE_PREFIX.pack(0, LIMIT + 1), "a message of 301 bytes exceeds 300", Status.RESOURCE_EXHAUSTED),
    (b"\0\xff\xff\xff\xff", "a message of 4294967295 bytes exceeds 300", Status.RESOURCE_EXHAUSTED),
]


@pytest.mark.parametrize(("prefix", "text", "status"), FAULTS)
def test_faults_are_seen_in_the_prefix(prefix: bytes, text: str, status: Status) -> None:
    for chunks in cuts(prefix):
        with pytest.raises(CallError, match=text) as caught:
            read(MessageReader(LIMIT), chunks)
        assert caught.value.status is status


@pytest.mark.parametrize(("prefix", "text", "status"), FAULTS)
def test_what_came_before_a_fault_is_good(prefix: bytes, text: str, status: Status) -> None:
    """However it was cut: what is read must not depend on that."""
    for chunks in cuts(prefixed(b"one") + prefixed(b"two") + prefix):
        reader = MessageReader(LIMIT)
        coming = chain.from_iterable(reader.read(memoryview(chunk)) for chunk in chunks)
        assert [next(coming), next(coming)] == [b"one", b"two"]
        with pytest.raises(CallError, match=text):
            next(coming)


def test_a_lower_limit_holds_for_the_next_message() -> None:
    reader = MessageReader(LIMIT)
    assert read(reader, [prefixed(bytes(LIMIT))]) == [bytes(LIMIT)]
    reader.limit = 10
    assert read(reader, [prefixed(bytes(10))]) == [bytes(10)]
    with pytest.raises(CallError):
        read(reader, [prefixed(bytes(11))])
