"""The streams of one connection: how they begin, and the ways in which they end.

Numbers only grow (RFC 9113 section 5.1.1), so a stream that is not in the table is idle if its
number is beyond the last one, and closed otherwise.
"""

from __future__ import annotations

from collections import OrderedDict

from tunneler.http2 import frames
from tunneler.http2.codes import ErrorCode, Http2Error, Status
from tunneler.http2.grpc import RESPONSE_FIELDS, trailer_fields
from tunneler.http2.headers import HeaderCodec
from tunneler.http2.limits import REMEMBERED_RESETS
from tunneler.http2.output import Output
from tunneler.http2.settings import PeerSettings
from tunneler.http2.streams import Stream


class StreamTable:
    """See the module; also holds what both directions share.

    Args:
        frame_limit: bytes of the largest frame that is sent.
    """

    def __init__(self, *, client_side: bool, message_limit: int, frame_limit: int) -> None:
        self.client_side = client_side
        self.peer = PeerSettings(from_server=client_side, frame_limit=frame_limit)
        self.codec = HeaderCodec()
        self.output = Output(self.codec, self.peer)
        self.streams: dict[int, Stream] = {}
        self.last_of_peer = 0
        """Highest stream that the peer began."""
        self.going_away = False
        self._message_limit = message_limit
        self._next = 1
        self._reset: OrderedDict[int, None] = OrderedDict()

    # Beginning.

    def begin(self) -> Stream:
        """Begin a stream of our own."""
        stream = self._add(self._next)
        self._next += 2
        return stream

    def accept(self, number: int) -> Stream:
        """Take a stream of the peer on."""
        return self._add(number)

    def check_known(self, number: int) -> None:
        """Check a frame for a stream that is not in the table; return if it is to be ignored.

        Raises:
            Http2Error: no such stream has been begun, or it ended in good order.
        """
        if self.is_idle(number):
            raise Http2Error(f"a frame for the idle stream {number}")
        if not self.was_reset(number):
            raise Http2Error(f"a frame for the closed stream {number}", ErrorCode.STREAM_CLOSED)

    def is_idle(self, number: int) -> bool:
        if self.client_side:
            return number % 2 == 0 or number >= self._next
        return number % 2 == 0 or number > self.last_of_peer

    def was_reset(self, number: int) -> bool:
        """Whether frames of the stream may still be under way, since it was we who broke it off."""
        return number in self._reset

    # Ending.

    def reset(self, number: int, code: ErrorCode) -> None:
        """Break a stream off, whatever waits on it."""
        self.streams.pop(number, None)
        self.output.control(frames.rst_stream(number, code))
        self._reset[number] = None
        if len(self._reset) > REMEMBERED_RESETS:
            self._reset.popitem(last=False)

    def finish(self, stream: Stream) -> None:
        """End our half, if that is wanted and nothing waits before it."""
        if stream.ending is None or stream.waiting or stream.local_ended:
            return
        stream.local_ended = True
        if self.client_side:
            self.output.control(frames.frame(frames.DATA, frames.END_STREAM, stream.id))
        else:
            self.answer(stream.id, stream.ending, head_sent=stream.head_sent)
        if stream.remote_ended:
            del self.streams[stream.id]
        elif not self.client_side:
            self.reset(stream.id, ErrorCode.NO_ERROR)  # RFC 9113 section 8.1: the rest is not wanted

    def answer(self, number: int, status: Status, *, head_sent: bool = False) -> None:
        """End a response: with trailers, or with nothing but them ("Trailers-Only")."""
        fields = trailer_fields(status)
        self.output.headers(number, fields if head_sent else [*RESPONSE_FIELDS, *fields], ends=True)

    def _add(self, number: int) -> Stream:
        stream = self.streams[number] = Stream(number, self.peer.initial_window, self._message_limit)
        return stream
