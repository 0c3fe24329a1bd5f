"""Fuzz the way of a batch: DATA in pieces, messages out of it, batches out of these.

Invariant: whatever bytes arrive, cut however, the messages are those that a reader of all the
bytes at once would find, up to the first fault; no more than one message is held; and of each
message the codec's two paths, sealed or not, read what protobuf alone would.
"""

from __future__ import annotations

import sys
from typing import NamedTuple

import atheris  # type: ignore[import-not-found,import-untyped,unused-ignore]  # fuzz/README.md

with atheris.instrument_imports(include=["tunneler"]):
    from fuzz import fuzz_codec
    from fuzz.steps import LONGEST, Step, crossed, mutator, parse
    from tunneler.http2.codes import CallError, Status
    from tunneler.http2.frames import MESSAGE_PREFIX
    from tunneler.http2.messages import MessageReader

KINDS = 4
LIMIT = 600
"""Bytes of a message: more than two steps have, so that some are in parts and some too large."""


class Assembly(NamedTuple):
    messages: list[bytes]
    fault: Status | None
    held: int


def written(steps: list[Step]) -> bytes:
    """The content of a stream: messages, messages of several steps, and anything at all."""
    stream = b""
    gathered = b""
    for kind, content in steps:
        match kind % KINDS:
            case 0 | 1:
                message = gathered + content
                stream += MESSAGE_PREFIX.pack(0, len(message)) + message
                gathered = b""
            case 2:
                gathered += content
            case _:
                stream += content
    return stream


def expected(stream: bytes) -> Assembly:
    """What a reader of all the bytes at once finds."""
    messages: list[bytes] = []
    while len(stream) >= MESSAGE_PREFIX.size:
        compressed, length = MESSAGE_PREFIX.unpack_from(stream)
        if compressed:
            return Assembly(messages, Status.INTERNAL, 0)
        if length > LIMIT:
            return Assembly(messages, Status.RESOURCE_EXHAUSTED, 0)
        end = MESSAGE_PREFIX.size + length
        if end > len(stream):
            break
        messages.append(stream[MESSAGE_PREFIX.size : end])
        stream = stream[end:]
    return Assembly(messages, None, len(stream))


def assembled(stream: bytes, sizes: bytes) -> Assembly:
    """What the reader finds in pieces of these sizes, again and again."""
    reader = MessageReader(LIMIT)
    messages: list[bytes] = []
    position = turn = 0
    try:
        while position < len(stream):
            size = sizes[turn % len(sizes)] if sizes else len(stream)
            turn += 1
            piece = bytearray(stream[position : position + size])
            position += size
            messages.extend(reader.read(memoryview(piece)))
            piece[:] = b"\xff" * len(piece)  # nothing may refer to it any more
            assert len(reader.held) < LIMIT + MESSAGE_PREFIX.size
    except CallError as error:
        return Assembly(messages, error.status, 0)
    return Assembly(messages, None, len(reader.held))


def one_input(data: bytes) -> None:
    sizes, script = data[1 : 1 + data[0] % 8] if data else b"", data[8:]
    stream = written(parse(script))
    wanted = expected(stream)
    for cuts in (b"", b"\x01", bytes(size for size in sizes if size)):
        found = assembled(stream, cuts)
        assert found == wanted, f"{found} instead of {wanted}"
    for message in wanted.messages:
        fuzz_codec.one_input(message)


def by_atheris(content: bytes, most: int) -> bytes:
    """Look atheris.Mutate up when it is needed: it is another function once the fuzzer runs."""
    return bytes(atheris.Mutate(content, most))


def mutated(data: bytes, max_size: int, seed: int) -> bytes:
    head = data[:8].ljust(8, b"\0")
    if seed % 8 == 0:
        head = by_atheris(head, 8).ljust(8, b"\0")
    return head + _mutate(data[8:], max_size - 8, seed)


def crossed_over(one: bytes, other: bytes, max_size: int, seed: int) -> bytes:
    return one[:8].ljust(8, b"\0") + crossed(one[8:], other[8:], max_size - 8, seed)


_mutate = mutator(KINDS, by_atheris)
assert 2 * LONGEST < LIMIT < 3 * LONGEST


def main() -> None:
    atheris.Setup(sys.argv, one_input, custom_mutator=mutated, custom_crossover=crossed_over)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
