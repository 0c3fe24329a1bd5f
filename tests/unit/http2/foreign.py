"""A peer by other hands: the h2 library, speaking gRPC."""

from __future__ import annotations

from collections.abc import Iterator

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import (
    ConnectionTerminated,
    DataReceived,
    Event,
    PingAckReceived,
    RequestReceived,
    ResponseReceived,
    StreamEnded,
    StreamReset,
    TrailersReceived,
)
from h2.settings import SettingCodes

from tunneler.http2.frames import HEAD, MESSAGE_PREFIX, PREFACE

Fields = list[tuple[str, str]]


class Foreign:
    """See the module.

    Args:
        window: what it lets us send on a stream.
        frame_size: what it lets a frame of ours be.
        sizes: of the DATA frames that it makes, in turn; each as far as our windows allow.
        padding: of each of these, or None.
    """

    def __init__(
        self, *, client_side: bool, window: int, frame_size: int, sizes: Iterator[int], padding: int | None
    ) -> None:
        self.h2 = H2Connection(H2Configuration(client_side=client_side, header_encoding=None))
        self.h2.initiate_connection()
        # In a second frame, since h2 counts on what is in the first before we can know of it.
        self.h2.update_settings(
            {SettingCodes.INITIAL_WINDOW_SIZE: window, SettingCodes.MAX_FRAME_SIZE: frame_size}
        )
        self.events: list[Event] = []
        self.fields: dict[int, list[dict[bytes, bytes]]] = {}
        self.content: dict[int, bytes] = {}
        self._heard = bytearray()
        self._sizes = sizes
        self._padding = padding
        self._waiting: dict[int, bytearray] = {}
        self._endings: dict[int, Fields | None] = {}

    # What it says.

    def call(self, fields: Fields) -> int:
        number = self.h2.get_next_available_stream_id()
        self.h2.send_headers(number, fields)
        self._waiting[number] = bytearray()
        return number

    def answer(self, number: int, fields: Fields) -> None:
        self.h2.send_headers(number, fields)
        self._waiting[number] = bytearray()

    def send(self, number: int, message: bytes) -> None:
        self._waiting[number] += MESSAGE_PREFIX.pack(0, len(message)) + message

    def end(self, number: int, trailers: Fields | None = None) -> None:
        """End its half when all is sent: with trailers, or without."""
        self._endings[number] = trailers

    def written(self) -> bytes:
        for number, waiting in list(self._waiting.items()):
            self._pump(number, waiting)
        return self.h2.data_to_send()

    def _pump(self, number: int, waiting: bytearray) -> None:
        overhead = 0 if self._padding is None else 1 + self._padding
        while waiting:
            room = min(self.h2.local_flow_control_window(number), self.h2.max_outbound_frame_size) - overhead
            size = min(next(self._sizes), room, len(waiting))
            if size <= 0:
                return
            self.h2.send_data(number, bytes(waiting[:size]), pad_length=self._padding)
            del waiting[:size]
        if number in self._endings:
            trailers = self._endings.pop(number)
            del self._waiting[number]
            if trailers is None:
                self.h2.end_stream(number)
            else:
                self.h2.send_headers(number, trailers, end_stream=True)

    # What it hears.

    def hear(self, data: bytes) -> None:
        """Frame by frame: h2 looks at its own limits only when a read begins."""
        self._heard += data
        if not self.h2.config.client_side and self._heard.startswith(PREFACE):
            self.h2.receive_data(PREFACE)
            del self._heard[: len(PREFACE)]
        while len(self._heard) >= HEAD.size and not PREFACE.startswith(self._heard[: len(PREFACE)]):
            high, low, *_ = HEAD.unpack_from(self._heard)
            end = HEAD.size + (high << 16 | low)
            if len(self._heard) < end:
                return
            self._hear_frame(bytes(self._heard[:end]))
            del self._heard[:end]

    def _hear_frame(self, frame: bytes) -> None:
        for event in self.h2.receive_data(frame):
            self.events.append(event)
            match event:
                case RequestReceived() | ResponseReceived() | TrailersReceived():
                    fields = {bytes(name): bytes(value) for name, value in event.headers}
                    self.fields.setdefault(event.stream_id, []).append(fields)
                case DataReceived():
                    self.content[event.stream_id] = self.content.get(event.stream_id, b"") + event.data
                    self.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
                case StreamReset():
                    self._waiting.pop(event.stream_id, None)
                case _:
                    pass

    def messages(self, number: int) -> list[bytes]:
        found: list[bytes] = []
        content = self.content.get(number, b"")
        while content:
            _, length = MESSAGE_PREFIX.unpack_from(content)
            found.append(content[MESSAGE_PREFIX.size : MESSAGE_PREFIX.size + length])
            assert len(found[-1]) == length
            content = content[MESSAGE_PREFIX.size + length :]
        return found

    def has_heard(self, kind: type[Event], number: int | None = None) -> bool:
        return any(
            isinstance(event, kind) and (number is None or getattr(event, "stream_id", None) == number)
            for event in self.events
        )


__all__ = ["ConnectionTerminated", "Foreign", "PingAckReceived", "StreamEnded", "StreamReset"]
