"""What leaves on one connection: frames, in order, as far as the peer's windows and limits allow.

A message usually goes out whole, as one DATA frame: two buffers, and no copy of the payload.
Where the peer allows less, what is left waits on its stream.
"""

from __future__ import annotations

from collections.abc import Iterable

from tunneler.http2 import frames
from tunneler.http2.codes import ErrorCode, Http2Error, StreamError
from tunneler.http2.headers import HeaderCodec
from tunneler.http2.limits import MAX_UNSENT_CONTROL
from tunneler.http2.settings import DEFAULT_WINDOW, PeerSettings
from tunneler.http2.streams import Stream

Buffers = list[bytes | memoryview]


class Output:
    """See the module.

    Args:
        codec: makes header blocks; shared with the receiving side.
        peer: what the peer declared; may change under way.
    """

    def __init__(self, codec: HeaderCodec, peer: PeerSettings) -> None:
        self._codec = codec
        self._peer = peer
        self.buffers: Buffers = []
        """What is to be written, in order; see :meth:`take`."""
        self._control_bytes = 0
        self._window = DEFAULT_WINDOW
        self.data_frames = 0
        """DATA frames made so far."""

    def take(self) -> Buffers:
        """Remove and return all that is to be written, in order."""
        buffers, self.buffers = self.buffers, []
        self._control_bytes = 0
        return buffers

    def control(self, frame: bytes) -> None:
        """Queue a frame that no window holds back."""
        self.buffers.append(frame)
        self._control_bytes += len(frame)

    def check_unsent(self) -> None:
        """Raises Http2Error: the peer makes us answer, and does not read the answers."""
        if self._control_bytes > MAX_UNSENT_CONTROL:
            raise Http2Error("answers are not read", ErrorCode.ENHANCE_YOUR_CALM)

    def headers(self, stream: int, fields: Iterable[tuple[str, str]], *, ends: bool = False) -> None:
        """Queue a field list; ours are far smaller than the smallest frame limit."""
        flags = frames.END_HEADERS | (frames.END_STREAM if ends else 0)
        self.control(frames.frame(frames.HEADERS, flags, stream, self._codec.encode(fields)))

    def message(self, stream: Stream, message: bytes) -> None:
        """Queue a message, or as much of it as there is window for; what is left waits on the stream."""
        length = len(message)
        total = length + frames.MESSAGE_PREFIX.size
        if (
            not stream.waiting
            and total <= self._window
            and total <= stream.send_window
            and total <= self._peer.frame_size
        ):
            self._window -= total
            stream.send_window -= total
            self.data_frames += 1
            head = frames.MESSAGE_HEAD.pack(total >> 16, total & 0xFFFF, frames.DATA, 0, stream.id, 0, length)
            self.buffers += (head, message)
            return
        stream.keep(message)
        self.pump(stream)

    def pump(self, stream: Stream) -> bool:
        """Queue what waits on a stream, as far as there is window; return whether that was all."""
        for parts in stream.payloads(self._window, self._peer.frame_size):
            length = sum(map(len, parts))
            self._window -= length
            self.data_frames += 1
            self.buffers += (frames.head(frames.DATA, 0, stream.id, length), *parts)
        return not stream.waiting

    def widen(self, increment: int) -> None:
        """Take a window update for the connection.

        Raises:
            Http2Error: the window is too large.
        """
        self._window += increment
        if self._window > frames.MAX_STREAM:
            raise Http2Error("a window of more than 2^31 - 1", ErrorCode.FLOW_CONTROL_ERROR)

    def settings_changed(self, streams: Iterable[Stream], old_window: int) -> None:
        """Apply new settings of the peer to what is open, and acknowledge them (RFC 9113 section 6.9.2).

        Raises:
            Http2Error: a stream's window becomes too large.
        """
        self._codec.set_table_size(self._peer.table_size)
        for stream in streams:
            try:
                stream.widen(self._peer.initial_window - old_window)
            except StreamError as error:
                raise Http2Error(str(error), error.code) from error
        self.control(frames.SETTINGS_ACK)
