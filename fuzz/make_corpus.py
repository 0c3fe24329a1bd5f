"""Write a small seed corpus for both targets: ``make_corpus.py DIRECTORY``.

It is made, not kept: the seeds are real batches of the codec, so they follow the protocol.
"""

from __future__ import annotations

import sys
from ipaddress import ip_address, ip_network
from pathlib import Path

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
SCRIPTS: dict[str, list[tuple[int, str]]] = {
    # (what << 1 | who, batch). What: 0 send, 1 flush, 2 pass time, 3 lies of the server.
    # Who: 0 the client, 1 the proxy.
    "whole-life": [(0, "open"), (3, "link"), (1, "answer"), (0, "exchange"), (1, "exchange"), (2, "link")],
    "refused": [(0, "open"), (1, "refusal"), (2, "link")],
    "own-route": [
        (1, "routes"),
        (0, "open"),
        (3, "link"),
        (2, "link"),
        (0, "bulk"),
        (3, "link"),
        (0, "reset"),
    ],
    "intruder": [(0, "intruder"), (1, "intruder")],
    "time-out": [(0, "open"), (4, "open"), (4, "open")],
    "hostile-server": [(7, "open"), (7, "bulk"), (7, "exchange"), (6, "answer")],
}


def script(steps: list[tuple[int, str]]) -> bytes:
    out = bytearray()
    for action, name in steps:
        batch = encode(BATCHES[name])
        out += bytes((action,)) + len(batch).to_bytes(2, "little") + batch
    return bytes(out)


def main() -> None:
    root = Path(sys.argv[1])
    codec, core = root / "codec", root / "core"
    for directory in (codec, core):
        directory.mkdir(parents=True, exist_ok=True)
    for name, batch in BATCHES.items():
        (codec / name).write_bytes(encode(batch))
    for name, steps in SCRIPTS.items():
        (core / name).write_bytes(script(steps))


if __name__ == "__main__":
    main()
