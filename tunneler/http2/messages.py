"""Messages out of DATA: a compressed flag, a length, and so many bytes.

Where one message is cut is independent of where DATA frames are, and of where reads are.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from tunneler.http2.codes import CallError, Status
from tunneler.http2.frames import MESSAGE_PREFIX

_PREFIX_BYTES: Final = MESSAGE_PREFIX.size


class MessageReader:
    """Puts the messages of one stream together.

    Args:
        limit: bytes of the largest message that is accepted.
    """

    __slots__ = ("_wanted", "held", "limit")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.held = bytearray()
        """A message that is not complete."""
        self._wanted = _PREFIX_BYTES

    def read(self, data: memoryview) -> Iterator[bytes]:
        """Take the next bytes, all of them; yield the messages that they complete.

        Raises:
            CallError: a message is compressed, or larger than the limit; those before it are good.
        """
        position, end = 0, len(data)
        if self.held:
            position = self._fill(data)
            if len(self.held) == self._wanted:
                message = bytes(memoryview(self.held)[_PREFIX_BYTES:])
                self.held = bytearray()
                yield message
        while end - position >= _PREFIX_BYTES:
            start = position + _PREFIX_BYTES
            stop = start + self._length(data, position)
            if stop > end:
                self._wanted = stop - position
                break
            yield bytes(data[start:stop])
            position = stop
        self.held += data[position:]

    def _fill(self, data: memoryview) -> int:
        """Continue the message that is held; return how many bytes were its."""
        held = self.held
        position = 0
        if len(held) < _PREFIX_BYTES:
            position = min(_PREFIX_BYTES - len(held), len(data))
            held += data[:position]
            if len(held) < _PREFIX_BYTES:
                return position
            self._wanted = _PREFIX_BYTES + self._length(held, 0)
        take = min(self._wanted - len(held), len(data) - position)
        held += data[position : position + take]
        return position + take

    def _length(self, data: memoryview | bytearray, position: int) -> int:
        compressed, length = MESSAGE_PREFIX.unpack_from(data, position)
        if compressed:
            # Flag without grpc-encoding: grpc/doc/compression.md, "Compression Method Asymmetry".
            raise CallError("a compressed message", Status.INTERNAL)
        if length > self.limit:
            raise CallError(f"a message of {length} bytes exceeds {self.limit}", Status.RESOURCE_EXHAUSTED)
        return int(length)
