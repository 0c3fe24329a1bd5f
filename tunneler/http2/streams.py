"""One stream: its two halves, its two windows, and what waits to be sent on it.

States are those of RFC 9113 section 5.1; a stream that is in the table is open or half-closed,
and one that is not is idle or closed, which its number tells.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

from tunneler.http2.codes import ErrorCode, Status, StreamError
from tunneler.http2.frames import MAX_STREAM, MESSAGE_PREFIX
from tunneler.http2.limits import WINDOW
from tunneler.http2.messages import MessageReader


class Stream:
    """See the module.

    Args:
        send_window: the peer's SETTINGS_INITIAL_WINDOW_SIZE.
        message_limit: bytes of the largest message that is accepted.
    """

    __slots__ = (
        "content_left", "ending", "head_received", "head_sent", "id", "local_ended", "messages",
        "owed", "receive_window", "remote_ended", "send_window", "waiting",
    )  # fmt: skip

    def __init__(self, number: int, send_window: int, message_limit: int) -> None:
        self.id = number
        self.send_window = send_window
        self.receive_window = WINDOW
        self.owed = 0
        """Bytes received that the peer has not been given back as window."""
        self.messages = MessageReader(message_limit)
        self.content_left: int | None = None
        """Bytes of DATA that are to come, where the peer declared them."""
        self.head_sent = False
        self.head_received = False
        self.local_ended = False
        self.remote_ended = False
        self.ending: Status | None = None
        """How our half is to end when nothing waits any more; a dialling side's ends with OK."""
        self.waiting: deque[memoryview] = deque()
        """Messages, and parts of them, that wait for window."""

    # What the peer sends.

    def count_received(self, length: int) -> None:
        """Note a DATA frame's payload.

        Raises:
            StreamError: it is larger than the window, or the stream has ended.
        """
        if self.remote_ended:
            raise StreamError("DATA after END_STREAM", ErrorCode.STREAM_CLOSED)
        if not self.head_received:
            raise StreamError("DATA before HEADERS")
        self.receive_window -= length
        self.owed += length
        if self.receive_window < 0:
            raise StreamError("DATA beyond the stream's window", ErrorCode.FLOW_CONTROL_ERROR)

    def count_content(self, length: int, *, last: bool) -> None:
        """Raises StreamError: it is not what content-length said (RFC 9113 section 8.1.1)."""
        if self.content_left is None:
            return
        self.content_left -= length
        if self.content_left < 0 or (last and self.content_left):
            raise StreamError("DATA of another length than content-length says")

    def grant(self) -> int:
        """Return the window update that is due, and take it as sent."""
        increment, self.owed = self.owed, 0
        self.receive_window += increment
        return increment

    # What we send.

    def widen(self, increment: int) -> None:
        """Take a window update; may be negative after SETTINGS (section 6.9.2).

        Raises:
            StreamError: the window is too large.
        """
        self.send_window += increment
        if self.send_window > MAX_STREAM:
            raise StreamError("a window of more than 2^31 - 1", ErrorCode.FLOW_CONTROL_ERROR)

    def keep(self, message: bytes) -> None:
        """Have a message wait."""
        self.waiting.append(memoryview(MESSAGE_PREFIX.pack(0, len(message))))
        if message:
            self.waiting.append(memoryview(message))

    def payloads(self, room: int, frame_size: int) -> Iterator[list[memoryview]]:
        """Take what may be sent, as the payloads of DATA frames.

        Args:
            room: bytes that the connection's window has.
        """
        while self.waiting and room > 0 and self.send_window > 0:
            left = frame = min(room, self.send_window, frame_size)
            parts: list[memoryview] = []
            while self.waiting and left:
                part = self.waiting.popleft()
                if len(part) > left:
                    self.waiting.appendleft(part[left:])
                    part = part[:left]
                parts.append(part)
                left -= len(part)
            room -= frame - left
            self.send_window -= frame - left
            yield parts
