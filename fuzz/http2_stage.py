"""One HTTP/2 connection between a peer of whom anything may come and an owner who follows a script."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from hpack import Decoder

from fuzz.http2_blocks import BLOCKS
from fuzz.steps import Step
from tunneler.http2 import frames, limits
from tunneler.http2.codes import ErrorCode, Http2Error, Status
from tunneler.http2.connection import Connection
from tunneler.http2.events import CallEnded, Event, GoawayReceived, HalfClosed, RequestReceived, StreamReset
from tunneler.http2.settings import DEFAULT_TABLE

KINDS: Final = 8
"""Of steps, as :meth:`Stage.play` reads them."""

_VALUES: Final = (
    0,
    1,
    9,
    100,
    16_383,
    16_384,
    65_535,
    1 << 20,
    (1 << 24) - 1,
    1 << 24,
    (1 << 31) - 1,
    1 << 31,
)
_MOST_REPETITIONS: Final = 600
_MOST_REPEATED: Final = 1 << 13
"""Bytes."""
_MOST_PIECES: Final = 64
_MOST_WAITING: Final = 4
_PATH: Final = "/tunnel.Tunnel/ClientStream"
_SENT: Final = {
    frames.DATA,
    frames.HEADERS,
    frames.RST_STREAM,
    frames.SETTINGS,
    frames.PING,
    frames.GOAWAY,
    frames.WINDOW_UPDATE,
}


class Stage:
    """See the module.

    Args:
        client_side: which side the connection is.
        message_limit: bytes.
        cut: whether a step's bytes are handed over in pieces (one by one if they are few), or at once.
    """

    def __init__(self, *, client_side: bool, message_limit: int, cut: bool) -> None:
        self.client_side = client_side
        self.message_limit = message_limit
        self.cut = cut
        self.now = 0.0
        self.connection = Connection(client_side=client_side, message_limit=message_limit, now=0.0)
        self.events: list[Event] = []
        self.output = b""
        self.fault = ""
        self._last = b""
        self._begun: set[int] = set()
        self._over: set[int] = set()
        self._half_closed: set[int] = set()
        self._decoder = Decoder()

    def play(self, step: Step) -> None:
        """Do what a step says; what it lacks is 0."""
        content = step.content
        first, second, third, fourth, *_ = content + bytes(4)
        match step.kind % KINDS:
            case 0:
                self.receive(content)
            case 1:  # a frame with the right length
                self.frame(first % 12, second, number(third), content[4:] * (1 + fourth % 128))
            case 2:  # a field list: which, flags, stream, in how many parts
                self.fields(BLOCKS[first % len(BLOCKS)], second, number(third), parts=1 + fourth % 11)
            case 3:  # DATA with a message: flags, stream, length
                length = third * (1 + fourth)
                message = frames.MESSAGE_PREFIX.pack(0, length) + bytes(length)
                self.frame(frames.DATA, first & ~frames.PADDED, second % 20, message)
            case 4:  # what changes windows and limits
                value = _VALUES[third % len(_VALUES)]
                if first % 2:
                    self.frame(frames.SETTINGS, 0, 0, frames.SETTING.pack(second % 8, value))
                else:
                    self.frame(frames.WINDOW_UPDATE, 0, second % 20, frames.U32.pack(value))
            case 5:
                self.own(first, second % 20, third << 8 | fourth)
            case 6:  # time passes; the peer reads, or does not
                if not second % 2:
                    self.take()
                self.now += first / 16
            case _:  # the same again and again
                times = min(first << 2, _MOST_REPETITIONS)
                last = self._last
                self.receive((last * times)[:_MOST_REPEATED])
                self._last = last

    # The peer.

    def frame(self, kind: int, flags: int, stream: int, payload: bytes) -> None:
        self.receive(frames.frame(kind, flags, stream, payload[: 1 << 16]))

    def fields(self, block: bytes, flags: int, stream: int, parts: int) -> None:
        size = max(1, -(-len(block) // parts))
        pieces = [block[start : start + size] for start in range(0, len(block), size)] or [b""]
        flags &= ~(frames.PADDED | frames.PRIORITISED)
        if len(pieces) > 1:
            flags &= ~frames.END_HEADERS
        written = frames.frame(frames.HEADERS, flags, stream, pieces[0])
        for number, piece in enumerate(pieces[1:], start=2):
            last = frames.END_HEADERS if number == len(pieces) else 0
            written += frames.frame(frames.CONTINUATION, last, stream, piece)
        self.receive(written)

    def receive(self, data: bytes) -> None:
        self._last = data[: 1 << 12]
        size = 1 + len(data) // _MOST_PIECES if self.cut else max(1, len(data))
        for start in range(0, len(data), size):
            if self.fault:
                return
            # A buffer of its own that is overwritten afterwards: nothing may refer to it.
            buffer = bytearray(data[start : start + size])
            try:
                events = self.connection.receive(memoryview(buffer), self.now)
            except Http2Error as error:
                self.fault = str(error)
                # What had happened before in these bytes; which events these are depends on cuts.
                events = self.connection._incoming._calls.events  # noqa: SLF001
            buffer[:] = b"\xff" * len(buffer)
            self.note(events)
            held = self.connection._incoming._reader._held  # noqa: SLF001
            assert len(held) < frames.HEAD.size + limits.MAX_CONTROL_FRAME
            if self.fault:
                self.check_failed()
        self.check_memory()

    def note(self, events: list[Event]) -> None:
        """Check that events are of streams that have begun and are not over."""
        for event in events:
            self.events.append(event)
            if isinstance(event, GoawayReceived):
                continue
            if isinstance(event, RequestReceived):
                assert event.stream not in self._begun, "begun twice"
                assert not self.client_side
                self._begun.add(event.stream)
            assert event.stream in self._begun, "an event of a stream that has not begun"
            assert event.stream not in self._over, "an event of a stream that is over"
            if isinstance(event, HalfClosed):
                assert event.stream not in self._half_closed
                self._half_closed.add(event.stream)
            elif isinstance(event, StreamReset | CallEnded):
                self._over.add(event.stream)
                assert self.fault or not self.connection.is_open(event.stream)

    # The owner.

    def own(self, action: int, stream: int, amount: int) -> None:
        """Do what an owner may do."""
        connection = self.connection
        match action % 9:
            case 5:
                if connection.is_open(stream):
                    self._over.add(stream)
                connection.reset(stream, ErrorCode(amount % len(ErrorCode)))
            case 6:
                connection.limit_messages(stream, min(amount, self.message_limit))
            case 7:
                connection.ping()
            case 8:
                connection.go_away()
            case action if self.client_side:
                self.dial(action, stream, amount)
            case action:
                self.listen(action, stream, amount)

    def dial(self, action: int, stream: int, amount: int) -> None:
        connection = self.connection
        if action < 2:
            if connection.streams < limits.MAX_STREAMS:
                self._begun.add(connection.request(_PATH, "server", secure=True))
        elif action < 4:
            self.send(stream, amount)
        else:
            connection.half_close(stream)

    def listen(self, action: int, stream: int, amount: int) -> None:
        """Answer before anything is sent."""
        if action < 2:
            self.connection.respond(stream)
        elif action < 4:
            self.connection.respond(stream)
            self.send(stream, amount)
        else:
            self.connection.end(stream, Status(amount % len(Status)))

    def send(self, stream: int, amount: int) -> None:
        """Send what an owner would: little as long as something waits."""
        if sum(map(self.connection.waits, range(20))) < _MOST_WAITING:
            self.connection.send_message(stream, bytes(amount))

    def take(self) -> None:
        """Read what is for the peer, as a peer does."""
        written = b"".join(self.connection.output.take())
        rest = written
        if self.client_side and not self.output and rest:
            assert rest.startswith(frames.PREFACE)
            rest = rest.removeprefix(frames.PREFACE)
        self.output += written
        self.goaway_last = False
        for kind, flags, stream, payload in parsed(rest):
            assert kind in _SENT, f"a frame of type {kind} was sent"
            self.goaway_last = kind == frames.GOAWAY
            if kind == frames.HEADERS:
                assert flags & frames.END_HEADERS
                assert self._decoder.decode(payload)
            if kind in (frames.DATA, frames.HEADERS, frames.RST_STREAM):
                assert stream
            if kind == frames.WINDOW_UPDATE:
                assert 0 < frames.U32.unpack(payload)[0] <= frames.MAX_STREAM
            if kind == frames.DATA:
                assert len(payload) <= self.connection._table.peer.frame_size or self.fault  # noqa: SLF001

    # What must hold.

    def check_failed(self) -> None:
        self.take()
        assert self.goaway_last, "no GOAWAY at the end"
        assert self.connection.receive(memoryview(frames.SETTINGS_ACK), self.now) == []
        assert not self.connection.output.buffers

    def check_memory(self) -> None:
        table = self.connection._table  # noqa: SLF001
        incoming = self.connection._incoming  # noqa: SLF001
        block = incoming._block  # noqa: SLF001
        assert len(table._reset) <= limits.REMEMBERED_RESETS  # noqa: SLF001
        assert len(table.streams) <= limits.MAX_STREAMS
        decoder = table.codec._decoder  # noqa: SLF001
        assert decoder.header_table._current_size <= DEFAULT_TABLE  # noqa: SLF001
        if self.fault:
            return
        assert block is None or len(block.fragments) <= limits.MAX_HEADER_LIST
        held = [len(stream.messages.held) for stream in table.streams.values()]
        assert sum(held) <= 2 * max(frames.SMALLEST_FRAME_LIMIT, self.message_limit + 5)
        assert max(held, default=0) < self.message_limit + frames.MESSAGE_PREFIX.size
        assert self.connection.output._control_bytes <= limits.MAX_UNSENT_CONTROL  # noqa: SLF001
        for stream in table.streams.values():
            assert 0 <= stream.receive_window <= limits.WINDOW
            assert stream.receive_window + stream.owed == limits.WINDOW
        assert incoming._window + incoming._owed == limits.WINDOW  # noqa: SLF001


def number(byte: int) -> int:
    """A stream: mostly one of a few, so that some are met again."""
    return byte if byte > 127 else byte % 20


def parsed(written: bytes) -> Iterator[tuple[int, int, int, bytes]]:
    position = 0
    while position < len(written):
        high, low, kind, flags, stream = frames.HEAD.unpack_from(written, position)
        end = position + frames.HEAD.size + (high << 16 | low)
        assert end <= len(written), "half a frame was sent"
        yield kind, flags, stream, written[position + frames.HEAD.size : end]
        position = end
