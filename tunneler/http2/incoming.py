"""What the peer sends on one connection, frame by frame: RFC 9113 section 6."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from tunneler.http2 import frames
from tunneler.http2.blocks import HeaderBlock
from tunneler.http2.calls import Calls
from tunneler.http2.codes import CallError, ErrorCode, Http2Error, StreamError
from tunneler.http2.events import Event, GoawayReceived, MessageReceived, RoomMade, StreamReset
from tunneler.http2.floods import Floods
from tunneler.http2.limits import GRANTED_FROM, WINDOW
from tunneler.http2.reader import Frame, FrameReader, Piece
from tunneler.http2.streams import Stream
from tunneler.http2.table import StreamTable

_PREFIX_BYTES: Final = frames.MESSAGE_PREFIX.size
_MESSAGE_HEAD_BYTES: Final = frames.MESSAGE_HEAD.size


class Incoming:
    """See the module."""

    def __init__(self, table: StreamTable, *, frame_limit: int, now: float) -> None:
        self._table = table
        self._streams = table.streams
        self._output = table.output
        self._reader = FrameReader(expect_preface=not table.client_side, frame_limit=frame_limit)
        self._floods = Floods(now)
        self._calls = Calls(table, self._floods)
        self._window = WINDOW
        self._owed = 0
        self._block: HeaderBlock | None = None
        self._between_frames = False
        self.settled = False
        self._receivers: dict[int, Callable[[Frame, float], None]] = {
            frames.HEADERS: self._receive_headers,
            frames.PRIORITY: self._receive_priority,
            frames.RST_STREAM: self._receive_rst_stream,
            frames.SETTINGS: self._receive_settings,
            frames.PUSH_PROMISE: self._receive_push_promise,
            frames.PING: self._receive_ping,
            frames.GOAWAY: self._receive_goaway,
            frames.WINDOW_UPDATE: self._receive_window_update,
            frames.CONTINUATION: self._receive_continuation,
        }

    def receive(self, data: memoryview, now: float) -> list[Event]:
        """Take bytes; return what happened.

        Raises:
            Http2Error: the connection is of no more use.
        """
        if not self._receive_whole_message(data):
            self._receive_frames(data, now)
            self._between_frames = self._reader.between_frames
            self._output.check_unsent()
        events, self._calls.events = self._calls.events, []
        return events

    def _receive_whole_message(self, data: memoryview) -> bool:
        """Take what is exactly one DATA frame with exactly one message; return False for anything else.

        Nearly all of what a link brings is that, and a fifth of the work this way. There is no
        check here that the long way would not pass too.
        """
        if len(data) < _MESSAGE_HEAD_BYTES or not self._between_frames or self._block is not None:
            return False
        high, low, kind, flags, number, compressed, length = frames.MESSAGE_HEAD.unpack_from(data)
        total = len(data) - frames.HEAD.size
        if kind or flags or compressed or high << 16 | low != total or length != total - _PREFIX_BYTES:
            return False
        stream = self._streams.get(number)
        if (
            stream is None
            or stream.remote_ended
            or not stream.head_received
            or stream.content_left is not None
            or stream.messages.held
            or length > stream.messages.limit
            or total > stream.receive_window
            or total > self._window
        ):
            return False
        stream.receive_window -= total
        stream.owed += total
        self._window -= total
        self._owed += total
        self._calls.events.append(MessageReceived(number, bytes(data[_MESSAGE_HEAD_BYTES:])))
        if self._owed >= GRANTED_FROM or stream.owed >= GRANTED_FROM:
            self._grant(stream)
        return True

    def _receive_frames(self, data: memoryview, now: float) -> None:
        for item in self._reader.read(data):
            try:
                if type(item) is Piece:
                    self._receive_data(item, now)
                else:
                    self._receive_frame(item, now)  # type: ignore[arg-type]  # the other of two
            except StreamError as error:
                refused = error.code is ErrorCode.REFUSED_STREAM
                (self._floods.refusals if refused else self._floods.faults).count(now)
                self._lose(item.stream, error.code, str(error))
            except CallError as error:
                self._floods.faults.count(now)
                self._refuse(item.stream, error)

    def _receive_frame(self, frame: Frame, now: float) -> None:
        self._check_order(frame.kind, frame.stream, frame.flags)
        receiver = self._receivers.get(frame.kind)
        if receiver is None:
            self._floods.idle_frames.count(now)  # to be ignored: section 5.5
        else:
            receiver(frame, now)

    def _check_order(self, kind: int, stream: int, flags: int) -> None:
        """Raises Http2Error: this frame may not come now, whatever it says."""
        if not self.settled and (kind != frames.SETTINGS or flags & frames.ACK):
            raise Http2Error("the first frame is not SETTINGS")
        block = self._block
        if block is not None and (kind != frames.CONTINUATION or stream != block.stream):
            raise Http2Error("another frame inside a header block")

    # DATA: section 6.1.

    def _receive_data(self, piece: Piece, now: float) -> None:
        number, content, left, length, ends = piece
        stream = self._streams.get(number)
        if length >= 0:
            self._begin_data(stream, piece, now)
        if stream is None:
            return
        calls = self._calls
        for message in stream.messages.read(content):
            calls.events.append(MessageReceived(number, message))
        if ends and not left:
            calls.data_ended(stream)

    def _begin_data(self, stream: Stream | None, piece: Piece, now: float) -> None:
        """Check a DATA frame before its content; flow control counts it whole, and always."""
        number, content, left, length, ends = piece
        self._check_order(frames.DATA, number, 0)
        self._window -= length
        self._owed += length
        if self._window < 0:
            raise Http2Error("DATA beyond the connection's window", ErrorCode.FLOW_CONTROL_ERROR)
        whole = len(content) + left
        if not whole and not ends:
            self._floods.idle_frames.count(now)
        if stream is None:
            self._table.check_known(number)
        self._grant(None)
        if stream is not None:
            stream.count_received(length)
            stream.count_content(whole, last=ends)
            self._grant(None if ends else stream)

    def _grant(self, stream: Stream | None) -> None:
        """Give the peer back what it has used of the windows, once that is worth a frame."""
        if self._owed >= GRANTED_FROM:
            self._output.control(frames.window_update(0, self._owed))
            self._window += self._owed
            self._owed = 0
        if stream is not None and stream.owed >= GRANTED_FROM:
            self._output.control(frames.window_update(stream.id, stream.grant()))

    # Header blocks: sections 6.2 and 6.10.

    def _receive_headers(self, frame: Frame, now: float) -> None:
        self._block = HeaderBlock.begun_by(frame)
        self._finish_block(self._block, frame, now)

    def _receive_continuation(self, frame: Frame, now: float) -> None:
        if self._block is None:
            raise Http2Error("CONTINUATION without a header block")
        self._block.take_continuation(frame)
        self._finish_block(self._block, frame, now)

    def _finish_block(self, block: HeaderBlock, frame: Frame, now: float) -> None:
        if frame.flags & frames.END_HEADERS:
            self._block = None
            fields = self._table.codec.decode(bytes(block.fragments))
            self._calls.fields_received(block.stream, fields, now, ends=block.ends)

    def _receive_push_promise(self, frame: Frame, now: float) -> None:
        raise Http2Error("PUSH_PROMISE, which nobody may send here")

    # The ends of streams.

    def _receive_rst_stream(self, frame: Frame, now: float) -> None:
        self._floods.resets.count(now)
        number = frame.stream
        if self._table.is_idle(number):
            raise Http2Error(f"RST_STREAM for the idle stream {number}")
        if self._streams.pop(number, None) is not None:
            (code,) = frames.U32.unpack(frame.payload)
            self._calls.events.append(StreamReset(number, _known(code), ""))

    def _receive_goaway(self, frame: Frame, now: float) -> None:
        self._floods.idle_frames.count(now)
        if frame.stream:
            raise Http2Error("GOAWAY on a stream")
        last, code = frames.GOAWAY_HEAD.unpack_from(frame.payload)
        last &= frames.MAX_STREAM
        self._calls.events.append(GoawayReceived(last, _known(code)))
        if self._table.client_side:
            for number in [number for number in self._streams if number > last]:
                del self._streams[number]
                self._calls.events.append(StreamReset(number, ErrorCode.REFUSED_STREAM, ""))

    def _lose(self, number: int, code: ErrorCode, fault: str) -> None:
        """Reset a stream for what the peer did on it."""
        known = number in self._streams
        self._table.reset(number, code)
        if known:
            self._calls.events.append(StreamReset(number, code, fault))

    def _refuse(self, number: int, error: CallError) -> None:
        """End a call for what the peer did in it: a listening side says why by a status."""
        stream = self._streams.get(number)
        if not self._table.client_side:
            self._table.answer(number, error.status, head_sent=stream is not None and stream.head_sent)
        self._lose(number, ErrorCode.CANCEL if self._table.client_side else ErrorCode.NO_ERROR, str(error))

    # The connection.

    def _receive_settings(self, frame: Frame, now: float) -> None:
        if frame.stream:
            raise Http2Error("SETTINGS on a stream")
        self._floods.settings.count(now)
        if frame.flags & frames.ACK:
            if frame.payload:
                raise Http2Error("SETTINGS that acknowledge with a payload", ErrorCode.FRAME_SIZE_ERROR)
            return
        self.settled = True
        before = self._table.peer.initial_window
        self._table.peer.update(frame.payload)
        self._output.settings_changed(self._streams.values(), before)
        self._pump(*self._streams.values())

    def _receive_ping(self, frame: Frame, now: float) -> None:
        if frame.stream:
            raise Http2Error("PING on a stream")
        self._floods.pings.count(now)
        if not frame.flags & frames.ACK:
            self._output.control(frames.frame(frames.PING, frames.ACK, 0, bytes(frame.payload)))

    def _receive_window_update(self, frame: Frame, now: float) -> None:
        self._floods.count_window_update(self._output.data_frames, now)
        (increment,) = frames.U32.unpack(frame.payload)
        increment &= frames.MAX_STREAM
        if not frame.stream:
            if not increment:
                raise Http2Error("a WINDOW_UPDATE of 0")
            self._output.widen(increment)
            self._pump(*self._streams.values())
            return
        stream = self._streams.get(frame.stream)
        if stream is not None:
            if not increment:
                raise StreamError("a WINDOW_UPDATE of 0")
            stream.widen(increment)
            self._pump(stream)
        elif self._table.is_idle(frame.stream):
            raise Http2Error(f"WINDOW_UPDATE for the idle stream {frame.stream}")

    def _receive_priority(self, frame: Frame, now: float) -> None:
        # Deprecated, and to be read without effect: section 5.3.2.
        self._floods.idle_frames.count(now)
        if not frame.stream:
            raise Http2Error("PRIORITY on stream 0")

    def _pump(self, *streams: Stream) -> None:
        """Send what waits, now that there may be room."""
        for stream in streams:
            if stream.waiting and self._output.pump(stream):
                self._calls.events.append(RoomMade(stream.id))
                self._table.finish(stream)


def _known(code: int) -> ErrorCode | int:
    try:
        return ErrorCode(code)
    except ValueError:
        return code
