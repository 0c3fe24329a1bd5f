"""``python -m bench.framing``: HTTP/2 framing by the h2 library, and by :mod:`tunneler.http2`.

Two connections, client and server, back to back in memory, with one call open. A message goes
one way, whole, then one of the same size comes back; the figure is microseconds of processor
time for one message from the sender's hands to the receiver's. gRPC's prefix is written and
read by both, and so are the window updates that the messages make necessary. What one side
wrote reaches the other in pieces of at most 16 KiB, as TLS records hand it over. No socket and
no TLS take part.

h2 gets the same settings as ours (frame size, windows), and says how much has been read in
bulk, a quarter of a window at a time, as ours does.
"""

from __future__ import annotations

import argparse
import gc
import platform
import sys
import time
from collections.abc import Callable, Sequence
from importlib.metadata import version
from statistics import median
from typing import Protocol

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import DataReceived, RequestReceived
from h2.settings import SettingCodes

from bench.report import markdown
from tunneler.http2 import events
from tunneler.http2.connection import Connection
from tunneler.http2.frames import MESSAGE_PREFIX
from tunneler.http2.grpc import RESPONSE_FIELDS, request_fields
from tunneler.http2.limits import MAX_HEADER_LIST, MAX_STREAMS, WINDOW
from tunneler.http2.messages import MessageReader
from tunneler.http2.settings import DEFAULT_WINDOW
from tunneler.protocol.frames import MAX_BATCH_ACCEPTED

KIB = 1024
SIZES = (100, KIB, 16 * KIB, 256 * KIB, KIB * KIB)
TLS_RECORD = 16 * KIB
PATH, AUTHORITY = "/tunneler.Tunnel/ClientStream", "relay.example.org:8081"
MICROSECONDS = 1e6

BYTES_PER_ROUND = 64 * KIB * KIB
MESSAGES_PER_ROUND = 2000
"""A round ends with whichever is reached first; an even number of messages, ten at least."""


class End(Protocol):
    """One end of a connection with one call."""

    def send(self, message: bytes) -> None: ...

    def take(self) -> bytes:
        """What the other end shall receive."""
        ...

    def receive(self, data: memoryview) -> list[bytes]:
        """Take a piece of what the other end wrote; the messages that it completes."""
        ...


class OurEnd:
    def __init__(self, *, client_side: bool) -> None:
        self._connection = Connection(
            client_side=client_side, message_limit=MAX_BATCH_ACCEPTED, now=time.monotonic()
        )
        self._stream = self._connection.request(PATH, AUTHORITY, secure=True) if client_side else 0

    def send(self, message: bytes) -> None:
        self._connection.send_message(self._stream, message)

    def take(self) -> bytes:
        return b"".join(self._connection.output.take())

    def receive(self, data: memoryview) -> list[bytes]:
        messages: list[bytes] = []
        for event in self._connection.receive(data, time.monotonic()):
            if type(event) is events.MessageReceived:
                messages.append(event.message)
            elif type(event) is events.RequestReceived:
                self._stream = event.stream
                self._connection.respond(event.stream)
        return messages


class H2End:
    """The least that a gRPC transport on h2 has to do."""

    def __init__(self, *, client_side: bool) -> None:
        self._connection = H2Connection(H2Configuration(client_side=client_side, header_encoding=None))
        self._messages = MessageReader(MAX_BATCH_ACCEPTED)
        self._unread = 0
        self._stream = 1
        self._waiting = b""
        settings: dict[SettingCodes | int, int] = {
            SettingCodes.INITIAL_WINDOW_SIZE: WINDOW,
            SettingCodes.MAX_FRAME_SIZE: MAX_BATCH_ACCEPTED + MESSAGE_PREFIX.size,
            SettingCodes.MAX_HEADER_LIST_SIZE: MAX_HEADER_LIST,
        }
        if client_side:
            settings[SettingCodes.ENABLE_PUSH] = 0
        else:
            settings[SettingCodes.MAX_CONCURRENT_STREAMS] = MAX_STREAMS
        self._connection.initiate_connection()
        self._connection.update_settings(settings)
        self._connection.increment_flow_control_window(WINDOW - DEFAULT_WINDOW)
        if client_side:
            self._connection.send_headers(self._stream, request_fields(PATH, AUTHORITY, secure=True))

    def send(self, message: bytes) -> None:
        # One frame of prefix and message: two frames would cost the receiver more than the copy costs here.
        self._waiting += MESSAGE_PREFIX.pack(0, len(message)) + message
        self._pump()

    def take(self) -> bytes:
        return self._connection.data_to_send()

    def receive(self, data: memoryview) -> list[bytes]:
        messages: list[bytes] = []
        connection = self._connection
        for event in connection.receive_data(data):
            if isinstance(event, DataReceived):
                assert event.data is not None
                messages += self._messages.read(memoryview(event.data))
                self._unread += event.flow_controlled_length or 0
            elif isinstance(event, RequestReceived):
                connection.send_headers(self._stream, RESPONSE_FIELDS)
        if self._unread >= WINDOW // 4:
            connection.acknowledge_received_data(self._unread, self._stream)
            self._unread = 0
        if self._waiting:
            self._pump()
        return messages

    def _pump(self) -> None:
        """Send what waits, as far as the windows and the frame size allow."""
        connection, stream = self._connection, self._stream
        while self._waiting:
            window = connection.local_flow_control_window(stream)
            room = min(window, connection.max_outbound_frame_size)
            if room <= 0:
                return
            now, self._waiting = self._waiting[:room], self._waiting[room:]
            connection.send_data(stream, now)


class Pair:
    """Two ends that have exchanged settings and opened a call."""

    def __init__(self, client: End, server: End) -> None:
        self._client = client
        self._server = server
        while self._carry(client, server) or self._carry(server, client):
            """Until both have nothing more to say."""

    def round_trip(self, message: bytes) -> bytes:
        """Send a message and send back what arrived; what came back."""
        (there,) = self._exchange(self._client, self._server, message)
        (back,) = self._exchange(self._server, self._client, there)
        return back

    def _exchange(self, sender: End, receiver: End, message: bytes) -> list[bytes]:
        sender.send(message)
        messages: list[bytes] = []
        while data := sender.take():
            messages += _deliver(data, receiver)
            _deliver(receiver.take(), sender)
        return messages

    def _carry(self, sender: End, receiver: End) -> bool:
        data = sender.take()
        _deliver(data, receiver)
        return bool(data)


def _deliver(data: bytes, receiver: End) -> list[bytes]:
    messages: list[bytes] = []
    view = memoryview(data)
    for start in range(0, len(view), TLS_RECORD):
        messages += receiver.receive(view[start : start + TLS_RECORD])
    return messages


STACKS: dict[str, Callable[[], Pair]] = {
    "h2": lambda: Pair(H2End(client_side=True), H2End(client_side=False)),
    "tunneler.http2": lambda: Pair(OurEnd(client_side=True), OurEnd(client_side=False)),
}


def measure(pair: Pair, size: int) -> float:
    """Processor seconds for one message of ``size`` bytes, over one round."""
    message = bytes(size)
    trips = max(5, min(MESSAGES_PER_ROUND, BYTES_PER_ROUND // size) // 2)
    if pair.round_trip(message) != message:
        raise AssertionError("a message came back changed")
    gc.collect()
    start = time.thread_time()
    for _ in range(trips):
        pair.round_trip(message)
    return (time.thread_time() - start) / (2 * trips)


def table(rounds: int) -> list[list[str]]:
    """Medians over the rounds; the stacks take turns within each."""
    rows = [["bytes", *(f"{name}, µs" for name in STACKS), "ratio"]]
    for size in SIZES:
        pairs = {name: make() for name, make in STACKS.items()}
        seconds: dict[str, list[float]] = {name: [] for name in STACKS}
        for _ in range(rounds):
            for name, pair in pairs.items():
                seconds[name].append(measure(pair, size))
        h2, ours = (median(seconds[name]) * MICROSECONDS for name in STACKS)
        rows.append([str(size), f"{h2:.1f}", f"{ours:.1f}", f"{h2 / ours:.2f} x"])
    return rows


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m bench.framing",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--rounds", type=int, default=7, help="(default 7)")
    options = parser.parse_args(arguments)
    print(
        f"Python {platform.python_version()}, h2 {version('h2')}; one message, median of {options.rounds}\n"
    )
    print(markdown(table(options.rounds)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
