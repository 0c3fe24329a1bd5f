"""Seeds for the HTTP/2 targets: scripts of a few steps that each reach one corner."""

from __future__ import annotations

from typing import Final

from fuzz.http2_blocks import BLOCKS, FIELDS, literal
from fuzz.steps import LONGEST, Step, pack
from tunneler.http2 import frames
from tunneler.http2.frames import MESSAGE_PREFIX
from tunneler.http2.grpc import RESPONSE_FIELDS, request_fields
from tunneler.http2.headers import HeaderCodec

_NAMES: Final = list(FIELDS)
_ENDS: Final = frames.END_HEADERS | frames.END_STREAM

# The byte before a script: see fuzz_http2_frames.
_OPEN_SERVER: Final = 2 | 4
_OPEN_CLIENT: Final = 1 | 2 | 4
_GREETED: Final = 2


def _step(kind: int, *content: int) -> Step:
    return Step(kind, bytes(content))


def _fields(name: str, flags: int, stream: int, parts: int = 1) -> Step:
    return _step(2, _NAMES.index(name), flags, stream, parts - 1)


def _raw(*written: bytes) -> list[Step]:
    whole = b"".join(written)
    return [Step(0, whole[start : start + LONGEST]) for start in range(0, len(whole), LONGEST)]


TAKE: Final = _step(6, 0)

_SCRIPTS: Final[dict[str, tuple[int, list[Step]]]] = {
    "nothing": (0, []),
    "no-preface": (0, _raw(b"GET / HTTP/1.1\r\n\r\n")),
    "raw-greeting": (0, _raw(frames.PREFACE, frames.settings([(4, 70_000)]), frames.SETTINGS_ACK)),
    "whole-call": (
        _OPEN_SERVER,
        [_step(3, 0, 1, 100, 3), _step(5, 3, 1, 9, 9), _step(3, 1, 1, 4, 0), _step(5, 4, 1, 0, 0), TAKE],
    ),
    "whole-call-of-ours": (
        _OPEN_CLIENT,
        [_step(5, 3, 1, 2, 0), _step(3, 0, 1, 50, 1), _step(5, 4, 1), _fields("trailers", _ENDS, 1), TAKE],
    ),
    "call-without-answer": (_OPEN_CLIENT, [_step(1, frames.DATA, frames.END_STREAM, 1, 0)]),
    "no-room": (
        _OPEN_SERVER | 8,
        [
            _step(4, 1, 4, 2),
            _step(5, 3, 1, 40, 0),
            _step(4, 0, 1, 3),
            _step(5, 4, 1),
            _step(4, 0, 1, 6),
            TAKE,
        ],
    ),
    "window-too-large": (_OPEN_SERVER, [_step(4, 0, 1, 10)]),
    "windows-too-large": (_OPEN_SERVER, [_step(4, 0, 1, 7), _step(4, 1, 4, 10)]),
    "much-data": (_OPEN_SERVER | 8, [_step(3, 0, 1, 200, 100), _step(3, 0, 1, 200, 100), _step(7, 3), TAKE]),
    "beyond-the-window": (_OPEN_SERVER | 8, [_step(1, frames.DATA, 0, 1, 63, *bytes(250)), _step(7, 255)]),
    "padding": (_OPEN_SERVER, [_step(1, frames.DATA, frames.PADDED, 1, 0, 3, 0, 0, 0, 0, 0, 1, 2, 3)]),
    "padding-alone": (_OPEN_SERVER, [_step(1, frames.DATA, frames.PADDED, 1, 0, 2, 0, 0), _step(7, 3)]),
    "split-message": (_OPEN_SERVER, [_step(1, 0, 0, 1, 0, 0, 0, 0), _step(1, 0, 1, 1, 0, 0, 2, 7, 7)]),
    "half-a-message": (_OPEN_CLIENT, [_step(1, 0, 1, 1, 0, 0, 0, 0, 0, 9, 7)]),
    "large-message": (_OPEN_SERVER, [_step(1, 0, 0, 1, 0, 0, 1, 0, 0, 0)]),
    "compressed-message": (_OPEN_SERVER, [_step(1, 0, 0, 1, 0, 1, 0, 0, 0, 1, 7)]),
    "resets": (_OPEN_SERVER, [_step(1, frames.RST_STREAM, 0, 1, 0, 0, 0, 0, 8), _step(7, 60)]),
    "our-reset": (_OPEN_SERVER, [_step(5, 5, 1, 0, 8), _step(3, 0, 1, 9, 0), _fields("trailers", _ENDS, 1)]),
    "pings": (_OPEN_SERVER, [_step(1, frames.PING, 0, 0, 0, *range(8)), _step(7, 60), TAKE]),
    "settings": (_OPEN_SERVER, [_step(4, 1, 5, 9), _step(4, 1, 1, 0), _step(5, 3, 1, 9, 9), _step(7, 30)]),
    "goaway": (_OPEN_CLIENT, [_step(1, frames.GOAWAY, 0, 0, 0, *bytes(8))]),
    "our-goaway": (_OPEN_SERVER, [_step(5, 8, 0, 0, 0), _fields("request", 4, 3)]),
    "continuations": (_GREETED, [_fields("request", 4, 1, 9), _fields("request", 4, 3, 11)]),
    "interrupted-block": (_GREETED, [_fields("request", 0, 1), _step(1, frames.PING, 0, 0, 0, *bytes(8))]),
    "many-calls": (_GREETED, [_fields("request", 4, stream) for stream in range(1, 19, 2)]),
    "unknown": (_OPEN_SERVER, [_step(1, 11, 255, 3, 5, 1, 2, 3), _step(1, frames.PUSH_PROMISE, 4, 1, 0)]),
    "priority": (_OPEN_SERVER, [_step(1, frames.PRIORITY, 0, 3, 0, 0, 0, 0, 1, 9), _step(7, 99)]),
    "time": (
        _OPEN_SERVER,
        [_step(1, frames.PING, 1, 0, 0, *bytes(8)), _step(7, 40), _step(6, 99), _step(7, 40)],
    ),
    "many-faults": (
        _OPEN_SERVER,
        [_step(5, 5, 1), *[_fields("request-malformed", 4, 2 * place + 129) for place in range(64)]],
    ),
    "not-read": (_OPEN_SERVER, [_step(1, 6, 0, 0, 0, *range(8)), *[_step(7, 48), _step(6, 255, 1)] * 24]),
    "no-grpc": (_OPEN_CLIENT, [_step(5, 0), _fields("response-missing", 4, 3)]),
    "ended-first": (_OPEN_CLIENT, [_step(5, 4, 1), _fields("trailers", _ENDS, 1), TAKE]),
    "half-closed-first": (_OPEN_SERVER, [_step(3, 1, 1), _step(5, 4, 1), TAKE]),
    "large-control": (_OPEN_SERVER, [_step(1, frames.SETTINGS, 0, 0, 127, *bytes(150))]),
    "large-lists": (_OPEN_SERVER, [_fields("request", 4, 3), _step(2, len(BLOCKS) - 4, 4, 1, 2)]),
    "large-blocks": (_OPEN_SERVER, [_step(2, len(BLOCKS) - 3, 4, 1, 2)]),
    "list-of-kept": (_OPEN_SERVER, [_step(2, len(FIELDS), 4, 1), _step(2, len(BLOCKS) - 2, 4, 1)]),
    "table-changes": (_OPEN_SERVER, [_step(2, len(BLOCKS) - 1, 4, 1)]),
    "lists": (_GREETED, [_step(2, which, 5, 2 * place + 1, 0) for place, which in enumerate(range(8))]),
}


def frame_seeds() -> dict[str, bytes]:
    seeds = {name: bytes((flags,)) + pack(steps) for name, (flags, steps) in _SCRIPTS.items()}
    for number, name in enumerate(_NAMES):
        request = name.startswith("request")
        script = [_step(2, number, _ENDS if number % 2 else frames.END_HEADERS, 1, 0), TAKE]
        flags = _GREETED if request else _OPEN_CLIENT
        own = [] if request else [_step(5, 0)]
        seeds[f"list-{name}"] = bytes((flags,)) + pack([*own, *script])
        if not request:
            seeds[f"first-{name}"] = bytes((1 | 2,)) + pack([_step(5, 0), *script])
    return seeds


def header_seeds() -> dict[str, bytes]:
    codec = HeaderCodec()
    ours = [codec.encode(request_fields("/a.B/C", "server:443", secure=True)) for _ in range(2)]
    seeds = {
        "ours": pack([Step(0, block) for block in ours]),
        "ours-smaller": pack([Step(3, b"\0\x40"), Step(2, b"\x00abc"), Step(3, b"\x10\0"), Step(2, b"\x01")]),
        "round-trips": pack([Step(2, bytes((kind,)) + b"tunnel.Tunnel/ProxyStream") for kind in range(12)]),
        "answer": pack([Step(0, codec.encode(RESPONSE_FIELDS))]),
    }
    for name, fields in FIELDS.items():
        lines = b"\n".join(name + b"=" + value for name, value in fields)
        seeds[f"list-{name}"] = pack([Step(1, lines)])
        seeds[f"kept-{name}"] = pack([Step(0, literal(fields, indexed=True))])
    for number, block in enumerate(BLOCKS[len(FIELDS) :]):
        if len(block) <= LONGEST:
            seeds[f"table-{number}"] = pack([Step(0, block)])
    kept = literal([(b"x", b"v" * 126)], indexed=True)
    seeds["too-large"] = pack([Step(0, kept), Step(0, b"\xbe" * 120)])
    return seeds


def batch_seeds(batches: dict[str, bytes]) -> dict[str, bytes]:
    """Messages with these batches, whole, in halves, and several at once."""
    cuts = bytes((3, 1, 7, 200, 0, 0, 0, 0))
    seeds: dict[str, bytes] = {}
    for name, batch in batches.items():
        if len(batch) <= LONGEST:
            seeds[name] = cuts + pack([Step(0, batch)])
            seeds[f"{name}-halves"] = cuts + pack([Step(2, batch[:9]), Step(0, batch[9:])])
    seeds["several"] = cuts + pack([Step(0, batch) for batch in batches.values() if len(batch) <= LONGEST])
    seeds["compressed"] = cuts + pack([Step(0, b""), Step(3, b"\x01" + bytes(9))])
    seeds["too-large"] = cuts + pack([Step(0, b"x"), Step(3, MESSAGE_PREFIX.pack(0, 601))])
    return seeds
