"""What one frame costs in Python: our own path, in memory, without sockets, TLS or HTTP/2.

    .venv/bin/python -m bench.frames

*relay*: a batch through the server's link: decoded, checked, queued for the other link, taken and
encoded. *read*: sockets become readable at an end, their bytes a batch. *written*: a batch arrives
at an end and is written to its sockets. Streams and sockets are stand-ins that answer at once. The
figures are microseconds for each frame, the best of several runs; the last lines are bytes of
Python objects for each idle connection, which the kernel's own are not part of.
"""

from __future__ import annotations

import argparse
import gc
import time
import tracemalloc
from collections.abc import Callable, Iterable
from typing import NamedTuple, cast

from tunneler import addresses
from tunneler.addresses import ConnectionId, HostPort, Identity, Role, Route, parse_network
from tunneler.config.model import ServerConfig
from tunneler.config.sections import LimitConfig, TlsConfig
from tunneler.engine.driver import LinkDriver
from tunneler.engine.link_end import EndOwner, LinkEnd
from tunneler.errors import Code
from tunneler.protocol.frames import (
    MAX_BATCH,
    MAX_OFFSET,
    PROTOCOL_VERSION,
    Ack,
    Data,
    Frame,
    Hello,
    Open,
    OpenResult,
    Routes,
)
from tunneler.protocol.link import Timing
from tunneler.protocol.window import CEILING, FLOOR, Budget
from tunneler.roles.server import Server, ServerLink
from tunneler.sockets.reactor import READ, Reactor
from tunneler.transport.seam import BatchStream, Peer
from tunneler.wire.codec import encode

BUDGET = 1 << 30
FRAMES_PER_BATCH = (1, 4, 8, 32)
PAYLOADS = (100, 1024, 16 * 1024, 256 * 1024)
RUNS = 40
FRAMES_PER_RUN = 400
BYTES_PER_RUN = 8 * 1024 * 1024
IDLE_CONNECTIONS = 10_000

SOURCE = addresses.Endpoint.of("192.0.2.7", 40000)
TARGET = addresses.Endpoint.of("100.64.1.5", 80)
ROUTE = Route(parse_network("100.64.1.0/24"), parse_network("192.168.1.0/24"))


class Case(NamedTuple):
    frames: int
    payload: int

    @property
    def batches(self) -> int:
        """As many as make a run, and no more of a connection than its window."""
        of_run = min(FRAMES_PER_RUN, BYTES_PER_RUN // self.payload) // self.frames
        return max(1, min(of_run, CEILING // self.payload))


class Stream:
    """See :class:`tunneler.transport.seam.BatchStream`: takes everything, and keeps the last batch."""

    congested = False

    def __init__(self, role: Role) -> None:
        self.peer = Peer(Identity(role, "bench"), "memory")
        self.last = b""

    def send(self, batch: bytes) -> None:
        self.last = batch

    def close(self, last: bytes = b"") -> None: ...


class Socket:
    """A socket that is always ready, and of which nothing is known to the kernel."""

    def __init__(self, number: int, payload: bytes = b"") -> None:
        self._number = number
        self._payload = payload

    def fileno(self) -> int:
        return self._number

    def send(self, data: bytes) -> int:
        return len(data)

    def recv(self, most: int) -> bytes:
        return self._payload

    def recv_into(self, buffer: bytearray, most: int) -> int:
        length = len(self._payload)
        buffer[:length] = self._payload
        return length


class StillReactor:
    """Remembers whom to call; what is asked for at the end of a turn is done by hand here."""

    def __init__(self) -> None:
        self.ready: dict[int, Callable[[int], None]] = {}

    def register(self, fd: int, mask: int, ready: Callable[[int], None]) -> None:
        self.ready[fd] = ready

    def at_turn_end(self, callback: Callable[[], None]) -> None: ...


class Ignored:
    """See :class:`tunneler.engine.link_end.EndOwner`: whatever happens, nobody listens."""

    def __getattr__(self, event: str) -> Callable[..., None]:
        return lambda *_: None


def name(number: int) -> ConnectionId:
    return ConnectionId(number.to_bytes(16, "big"))


class RelayBench:
    """A server between one client and one proxy."""

    def __init__(self) -> None:
        config = ServerConfig(
            listen_addr=HostPort("127.0.0.1", 8081),
            tls=TlsConfig(insecure=True),
            limits=LimitConfig(memory_budget=BUDGET, max_connections=10**6, max_connections_per_link=10**6),
        )
        self.server = Server(config)
        self.server.reactor = cast("Reactor", StillReactor())
        self.client = self._link(Role.CLIENT)
        self.proxy = self._link(Role.PROXY)
        say(self.proxy.driver, Routes("group", (ROUTE,)))

    def _link(self, role: Role) -> ServerLink:
        link = ServerLink(self.server, cast("BatchStream", Stream(role)))
        say(link.driver, Hello(PROTOCOL_VERSION, "bench"))
        return link

    def open(self, numbers: Iterable[int]) -> None:
        for number in numbers:
            say(self.client.driver, Open(name(number), SOURCE, TARGET, FLOOR))
            say(self.proxy.driver, OpenResult(name(number), Code.OK, FLOOR))
        self.client.driver.room_made()
        self.proxy.driver.room_made()

    def microseconds(self, case: Case) -> float:
        numbers = range(case.frames)
        self.open(numbers)
        offset = 0

        def run() -> float:
            nonlocal offset
            for number in numbers:
                say(self.proxy.driver, Ack(name(number), offset, MAX_OFFSET))
            self.client.driver.room_made()
            batches, offset = batches_of(case, offset)
            receive, flush = self.client.driver.batch_received, self.proxy.driver.room_made
            begun = time.process_time()
            for batch in batches:
                receive(batch)
                flush()
            return time.process_time() - begun

        return best(run, case)


class EndBench:
    """A client's end of a link, with a socket for each connection."""

    def __init__(self, frames: int, payload: bytes) -> None:
        self.reactor = StillReactor()
        stream = cast("BatchStream", Stream(Role.SERVER))
        timing = Timing(1000, 1000, 1000)
        self.driver = LinkDriver(stream, Role.CLIENT, "bench", timing, self.reactor.at_turn_end)
        self.end = LinkEnd(
            self.driver,
            cast("EndOwner", Ignored()),
            cast("Reactor", self.reactor),
            Budget(BUDGET),
            accepts_opens=False,
            opening_timeout=1000,
            idle_timeout=1000,
        )
        say(self.driver, Hello(PROTOCOL_VERSION, "bench"))
        for number in range(frames):
            self.end.open(
                Open(name(number), SOURCE, TARGET, FLOOR),
                Socket(number, payload),  # type: ignore[arg-type]  # as far as it goes
                watch_idle=True,
            )
            say(self.driver, OpenResult(name(number), Code.OK, MAX_OFFSET))
        self.driver.room_made()

    def microseconds_to_read(self, case: Case) -> float:
        ready, flush = tuple(self.reactor.ready.values()), self.driver.room_made

        def run() -> float:
            begun = time.process_time()
            for _ in range(case.batches):
                for readable in ready:
                    readable(READ)
                flush()
            return time.process_time() - begun

        return best(run, case)

    def microseconds_to_write(self, case: Case) -> float:
        receive, flush = self.driver.batch_received, self.driver.room_made
        growth, offset = batches_of(Case(case.frames, FLOOR // 4), 0)
        for batch in growth:
            receive(batch)

        def run() -> float:
            nonlocal offset
            batches, offset = batches_of(case, offset)
            begun = time.process_time()
            for batch in batches:
                receive(batch)
                flush()
            return time.process_time() - begun

        return best(run, case)


def say(driver: LinkDriver, *frames: Frame) -> None:
    driver.batch_received(encode(frames))


def batches_of(case: Case, offset: int) -> tuple[list[bytes], int]:
    """The batches of one run, and where the next one goes on."""
    payload = bytes(case.payload)
    offsets = range(offset, offset + case.batches * case.payload, case.payload)
    return [
        encode(Data(name(number), at, payload) for number in range(case.frames)) for at in offsets
    ], offsets.stop


def best(run: Callable[[], float], case: Case) -> float:
    gc.collect()
    return min(run() for _ in range(RUNS)) * 1e6 / (case.batches * case.frames)


def bytes_each(make: Callable[[], object]) -> float:
    """Memory that stays in use, for each of the idle connections that ``make`` opens."""
    gc.collect()
    tracemalloc.start()
    before, _ = tracemalloc.get_traced_memory()
    held = make()
    gc.collect()
    after, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    del held
    return (after - before) / IDLE_CONNECTIONS


def idle_at_relay() -> object:
    bench = RelayBench()
    bench.open(range(IDLE_CONNECTIONS))
    return bench


def measure() -> None:
    print(f"{'frames':>7} {'payload':>8} {'relay':>8} {'read':>8} {'written':>8}   µs a frame")
    for payload in PAYLOADS:
        for frames in FRAMES_PER_BATCH:
            if frames * payload > MAX_BATCH:
                continue
            case = Case(frames, payload)
            relay = RelayBench().microseconds(case)
            read = EndBench(frames, bytes(payload)).microseconds_to_read(case)
            written = EndBench(frames, b"").microseconds_to_write(case)
            print(f"{frames:>7} {payload:>8} {relay:>8.2f} {read:>8.2f} {written:>8.2f}")
    print(f"relay: {bytes_each(idle_at_relay):.0f} bytes an idle connection")
    print(f"end:   {bytes_each(lambda: EndBench(IDLE_CONNECTIONS, b'')):.0f} bytes an idle connection")


def main() -> None:
    argparse.ArgumentParser(prog="python -m bench.frames", description=__doc__).parse_args()
    measure()


if __name__ == "__main__":
    main()
