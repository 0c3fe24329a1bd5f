"""One HTTP/2 connection, either side: bytes of the peer in, events out, and bytes for the peer.

    receive(data, now)  →  events, in the order in which things happened
    request, respond, send_message, end, half_close, reset, ping, go_away  →  output
    output.take()       →  for whoever writes to the socket

What the peer does wrong on one stream costs it that stream, and its owner hears of a
:class:`StreamReset`; what it does wrong with the connection raises :class:`Http2Error` out of
``receive``, with GOAWAY in the output. What arrives is handled in :mod:`tunneler.http2.incoming`.
"""

from __future__ import annotations

from tunneler.http2 import frames
from tunneler.http2.codes import ErrorCode, Http2Error, Status
from tunneler.http2.events import Event
from tunneler.http2.grpc import RESPONSE_FIELDS, request_fields
from tunneler.http2.incoming import Incoming
from tunneler.http2.limits import WINDOW
from tunneler.http2.settings import DEFAULT_WINDOW, our_settings
from tunneler.http2.table import StreamTable

_OPAQUE = b"tunneler"
"""What our PINGs carry; who answers is not looked at, for any byte proves life."""


class Connection:
    """See the module.

    Args:
        client_side: whether this is the side that dialled, and makes calls.
        message_limit: bytes of the largest message that is accepted.
        now: seconds of any monotonic clock.
    """

    def __init__(self, *, client_side: bool, message_limit: int, now: float) -> None:
        frame_limit = max(frames.SMALLEST_FRAME_LIMIT, message_limit + frames.MESSAGE_PREFIX.size)
        self._table = StreamTable(
            client_side=client_side, message_limit=message_limit, frame_limit=frame_limit
        )
        self.output = self._table.output
        self._incoming = Incoming(self._table, frame_limit=frame_limit, now=now)
        self._failed = False
        if client_side:
            self.output.control(frames.PREFACE)
        self.output.control(frames.settings(our_settings(client_side=client_side, frame_limit=frame_limit)))
        self.output.control(frames.window_update(0, WINDOW - DEFAULT_WINDOW))

    @property
    def settled(self) -> bool:
        """Whether the peer has said its SETTINGS: it speaks HTTP/2."""
        return self._incoming.settled

    @property
    def streams(self) -> int:
        """Calls that are open."""
        return len(self._table.streams)

    def receive(self, data: memoryview, now: float) -> list[Event]:
        """Take bytes of the peer; they are not referred to afterwards.

        Raises:
            Http2Error: the connection is to be closed once the output is written.
        """
        if self._failed:
            return []
        try:
            return self._incoming.receive(data, now)
        except Http2Error as error:
            self._failed = True
            self.go_away(error.code)
            raise

    # The dialling side.

    def request(self, path: str, authority: str, *, secure: bool) -> int:
        """Begin a call; return its stream."""
        stream = self._table.begin()
        stream.head_sent = True
        self.output.headers(stream.id, request_fields(path, authority, secure=secure))
        return stream.id

    def half_close(self, number: int) -> None:
        """Send no more messages once those that wait are sent."""
        self._end(number, Status.OK)

    # The listening side.

    def respond(self, number: int) -> None:
        """Take a call on."""
        stream = self._table.streams.get(number)
        if stream is not None and not stream.head_sent:
            stream.head_sent = True
            self.output.headers(number, RESPONSE_FIELDS)

    def end(self, number: int, status: Status) -> None:
        """End a call once the messages that wait are sent."""
        self._end(number, status)

    # Both.

    def is_open(self, number: int) -> bool:
        """Whether a call is still to be ended, by one side or the other."""
        return number in self._table.streams

    def waits(self, number: int) -> bool:
        """Whether a message waits for the peer's window."""
        stream = self._table.streams.get(number)
        return stream is not None and bool(stream.waiting)

    def limit_messages(self, number: int, limit: int) -> None:
        """Accept no larger messages on this stream from now on; bytes."""
        stream = self._table.streams.get(number)
        if stream is not None:
            stream.messages.limit = limit

    def send_message(self, number: int, message: bytes) -> bool:
        """Send a message; return whether all of it is in the output (else RoomMade follows).

        A stream that is gone, or that we have ended, takes nothing and says so by True.
        """
        stream = self._table.streams.get(number)
        if stream is None or stream.ending is not None:
            return True
        self.output.message(stream, message)
        return not stream.waiting

    def reset(self, number: int, code: ErrorCode = ErrorCode.CANCEL) -> None:
        """Break a call off; there is no event."""
        if number in self._table.streams:
            self._table.reset(number, code)

    def ping(self) -> None:
        """Ask the peer to say something."""
        self.output.control(frames.frame(frames.PING, 0, 0, _OPAQUE))

    def go_away(self, code: ErrorCode = ErrorCode.NO_ERROR) -> None:
        """Take no new streams; those that are open go on."""
        self._table.going_away = True
        self.output.control(frames.goaway(self._table.last_of_peer, code))

    def _end(self, number: int, status: Status) -> None:
        stream = self._table.streams.get(number)
        if stream is not None and stream.ending is None:
            stream.ending = status
            self._table.finish(stream)
