"""What field lists and the ends of streams mean for calls.

Listening side: HEADERS begin a call, END_STREAM says that no more messages come. Dialling side:
HEADERS take our call on, or end it; a second list ends it too (trailers).
"""

from __future__ import annotations

from tunneler.http2.codes import (
    CallError,
    ErrorCode,
    Http2Error,
    NotGrpcError,
    Status,
    StreamError,
)
from tunneler.http2.events import CallEnded, Event, HalfClosed, RequestReceived, ResponseReceived
from tunneler.http2.floods import Floods
from tunneler.http2.grpc import (
    Outcome,
    content_length_of,
    http_status_of,
    outcome_of,
    refusal_fields,
    request_of,
)
from tunneler.http2.headers import Fields, check_request, check_response, check_trailers
from tunneler.http2.limits import MAX_STREAMS
from tunneler.http2.streams import Stream
from tunneler.http2.table import StreamTable


class Calls:
    """See the module; ``events`` is what has happened since it was last emptied.

    Args:
        floods: counts the requests that are refused, and the field lists that do nothing.
    """

    def __init__(self, table: StreamTable, floods: Floods) -> None:
        self._table = table
        self._floods = floods
        self.events: list[Event] = []

    def fields_received(self, number: int, fields: Fields, now: float, *, ends: bool) -> None:
        """Act on one field list.

        Raises:
            StreamError, CallError: the peer has lost this call by it.
            Http2Error: the stream may not be begun, or has ended.
        """
        stream = self._table.streams.get(number)
        if stream is None:
            self._begin(number, fields, now, ends=ends)
        elif stream.remote_ended:
            raise StreamError("HEADERS after END_STREAM", ErrorCode.STREAM_CLOSED)
        elif not stream.head_received:
            self._receive_response(stream, fields, now, ends=ends)
        else:
            check_trailers(fields)
            if not ends:
                raise StreamError("trailers without END_STREAM")
            stream.count_content(0, last=True)
            self._end(stream, outcome_of(fields))

    def data_ended(self, stream: Stream) -> None:
        """A stream ended without trailers.

        Raises:
            CallError: in the middle of a message.
        """
        self._end(stream, Outcome(Status.UNKNOWN, "the response ended without a status"))

    def _begin(self, number: int, fields: Fields, now: float, *, ends: bool) -> None:
        table = self._table
        if table.was_reset(number):
            self._floods.idle_frames.count(now)
            return
        if table.client_side or number % 2 == 0:
            raise Http2Error(f"HEADERS for the stream {number}, which is not the peer's to begin")
        if number <= table.last_of_peer:
            raise Http2Error(f"HEADERS for the closed stream {number}", ErrorCode.STREAM_CLOSED)
        table.last_of_peer = number
        if table.going_away or len(table.streams) >= MAX_STREAMS:
            raise StreamError("too many streams", ErrorCode.REFUSED_STREAM)
        check_request(fields)
        try:
            request = request_of(fields)
        except NotGrpcError as error:
            self._floods.faults.count(now)
            table.output.headers(number, refusal_fields(error.status), ends=True)
            if not ends:
                table.reset(number, ErrorCode.NO_ERROR)  # what may still be coming is not wanted
            return
        stream = table.accept(number)
        stream.head_received = True
        stream.content_left = request.content_length
        self.events.append(RequestReceived(number, request))
        if ends:
            stream.count_content(0, last=True)
            self._end(stream, None)

    def _receive_response(self, stream: Stream, fields: Fields, now: float, *, ends: bool) -> None:
        check_response(fields)
        status = http_status_of(fields)
        if 100 <= status < 200:
            if ends:
                raise StreamError("an interim response that ends the stream")
            self._floods.idle_frames.count(now)
            return
        stream.head_received = True
        stream.content_left = content_length_of(fields)
        if ends:
            self._end(stream, outcome_of(fields))
        elif status != 200:
            self._give_up(stream, outcome_of(fields))
        else:
            self.events.append(ResponseReceived(stream.id))

    def _end(self, stream: Stream, outcome: Outcome | None) -> None:
        """The peer's half has ended; on the dialling side that ends the call."""
        if stream.messages.held:
            raise CallError("the stream ended in the middle of a message", Status.INTERNAL)
        if not self._table.client_side:
            self.events.append(HalfClosed(stream.id))
            stream.remote_ended = True
        elif outcome is not None:
            self._give_up(stream, outcome)

    def _give_up(self, stream: Stream, outcome: Outcome) -> None:
        """Our call is over, whatever we still wanted to say."""
        stream.remote_ended = True
        if stream.local_ended:
            del self._table.streams[stream.id]
        else:
            self._table.reset(stream.id, ErrorCode.CANCEL)
        self.events.append(CallEnded(stream.id, outcome))
