"""Write a small seed corpus for each target: ``make_corpus.py DIRECTORY``.

The seeds are real batches of the codec and real frames, so they follow the protocol. With them go
the inputs that long searches have found (``fuzz/corpus``).
"""

from __future__ import annotations

import sys
from ipaddress import ip_address, ip_network
from itertools import chain
from pathlib import Path

from fuzz.http2_seeds import batch_seeds, frame_seeds, header_seeds
from fuzz.keep_corpus import kept
from tunneler.addresses import ConnectionId, Endpoint, Identity, Role, Route
from tunneler.errors import Code
from tunneler.protocol.frames import (
    PROTOCOL_VERSION,
    Ack,
    Bye,
    Data,
    Drain,
    Fin,
    Frame,
    Heartbeat,
    Hello,
    Open,
    OpenResult,
    Party,
    Reset,
    Routes,
    RoutesResult,
)
from tunneler.protocol.window import FLOOR
from tunneler.wire.codec import encode

ONE = ConnectionId(bytes(15) + b"\x01")
HONEST = ConnectionId(b"the honest one!!")
SOURCE = Endpoint(ip_address("192.0.2.7"), 40000)
V4 = Endpoint(ip_address("100.64.1.5"), 80)
V6 = Endpoint(ip_address("2001:db8::5"), 443)
ROUTE = Route(ip_network("100.64.1.0/24"), ip_network("192.168.1.0/24"))
PARTY = Party(Identity(Role.PROXY, "site"), "proxy-1")

OPEN = Open(ONE, SOURCE, V4, FLOOR)
BATCHES: dict[str, list[Frame]] = {
    "greeting": [Hello(PROTOCOL_VERSION, "instance")],
    "routes": [Routes("group", (ROUTE,)), RoutesResult((ROUTE,))],
    "link": [Heartbeat(), Drain(), Bye(Code.REPLACED)],
    "open": [OPEN, Data(ONE, 0, b"GET / HTTP/1.0\r\n\r\n")],
    "open-ipv6": [Open(ONE, V6, V6, 1 << 24, True, PARTY)],
    "answer": [OpenResult(ONE, Code.OK, FLOOR, PARTY), Ack(ONE, 18, 2 * FLOOR)],
    "refusal": [OpenResult(ONE, Code.REFUSED)],
    "exchange": [Data(ONE, 0, b"answer"), Ack(ONE, 6, FLOOR), Fin(ONE, 6), Ack(ONE, 7, FLOOR)],
    "reset": [Reset(ONE, Code.RESET_BY_PEER)],
    "intruder": [Data(HONEST, 0, b"mine?"), Reset(HONEST, Code.RESET_BY_PEER)],
    "bulk": [Data(ONE, offset * 8192, bytes(8192)) for offset in range(7)],
}


def steps(*each: tuple[int, int, int, int, int]) -> bytes:
    """Steps as ``fuzz_core.one_input`` reads them.

    What << 1 | who (0 the client, 1 the proxy), and for frames: kind, connection, how wrong, amount.
    """
    return bytes(chain.from_iterable(each))


SCRIPTS: dict[str, bytes] = {
    "whole-life": steps(
        (10, 0, 0, 0, 0),
        (10, 3, 0, 0, 9),
        (3, 0, 0, 0, 0),
        (11, 1, 0, 0, 0),
        (11, 3, 0, 0, 99),
        (11, 5, 0, 0, 0),
        (10, 7, 0, 0, 0),
        (10, 5, 0, 0, 0),
        (11, 7, 0, 0, 0),
        (2, 0, 0, 0, 0),
    ),
    "refused": steps((10, 0, 1, 0, 0), (11, 2, 1, 0, 0), (2, 0, 0, 0, 0)),
    "greedy": steps(
        (10, 0, 2, 24, 0), (11, 1, 2, 24, 0), (11, 3, 2, 0, 255), (11, 6, 2, 24, 255), (2, 0, 0, 0, 0)
    ),
    "honest-proxy": steps(
        (10, 0, 19, 0, 0), (8, 0, 0, 0, 0), (10, 3, 19, 0, 255), (8, 0, 0, 0, 0), (10, 8, 19, 0, 0)
    ),
    "intruder": steps((10, 3, 5, 0, 1), (11, 8, 5, 0, 0)),
    "time-out": steps((10, 0, 3, 0, 0), (4, 15, 0, 0, 0)),
    "routes": steps((11, 9, 0, 0, 2), (11, 9, 0, 0, 1), (11, 9, 0, 0, 0)),
    "hostile-server": steps((7, 0, 4, 0, 0), (7, 3, 4, 0, 9), (7, 5, 4, 0, 0), (6, 1, 4, 0, 0)),
}


def main() -> None:
    root = Path(sys.argv[1])
    batches = {name: encode(batch) for name, batch in BATCHES.items()}
    seeds = {
        "codec": batches,
        "core": SCRIPTS | {f"sends-{name}": _sent(batch[:255]) for name, batch in batches.items()},
        "batches": batch_seeds(batches),
        "http2_frames": frame_seeds(),
        "http2_headers": header_seeds(),
    }
    for target, inputs in seeds.items():
        (root / target).mkdir(parents=True, exist_ok=True)
        for name, content in inputs.items():
            (root / target / name).write_bytes(content)
        for number, content in enumerate(kept(target)):
            (root / target / f"kept-{number:04}").write_bytes(content)


def _sent(batch: bytes) -> bytes:
    """A step of :data:`SCRIPTS` that sends a batch as it is."""
    return bytes((0, len(batch), 0, 0, 0)) + batch


if __name__ == "__main__":
    main()
