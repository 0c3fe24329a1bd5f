"""Fuzz the HTTP/2 core: a peer that sends whatever it likes, whole or in pieces.

Invariant: the peer gets answers in well-formed frames, events of streams that have begun and
are not over, and at worst a GOAWAY, which is the last we say; no other exception, no memory
beyond the named limits; and how its bytes were cut makes no difference.
"""

from __future__ import annotations

import sys

import atheris  # type: ignore[import-not-found,import-untyped,unused-ignore]  # fuzz/README.md

with atheris.instrument_imports(include=["tunneler"]):
    from tunneler.http2 import limits

    # Small, so that an input can fill it. Others read the name when they are imported: hence here.
    limits.WINDOW = 1 << 16  # type: ignore[misc]
    limits.GRANTED_FROM = limits.WINDOW // 4  # type: ignore[misc]

    from fuzz.http2_blocks import BLOCKS
    from fuzz.http2_stage import KINDS, Stage
    from fuzz.steps import crossed, mutator, parse
    from tunneler.http2 import frames
    from tunneler.http2.events import Event

CLIENT_SIDE = 1
GREETED = 2
CALLED = 4
LARGE = 8

_CUT_DEPENDS = ("answers are not read", "too many messages begun")
"""These say what is held at one moment, which differs with the cuts."""


def greet(stage: Stage) -> None:
    """Say what every honest peer says first."""
    preface = b"" if stage.client_side else frames.PREFACE
    stage.receive(preface + frames.settings([]) + frames.SETTINGS_ACK)


def call(stage: Stage) -> None:
    """Have one call open, and answered."""
    response = BLOCKS[11]
    if stage.client_side:
        stage.own(0, 0, 0)
        stage.frame(frames.HEADERS, frames.END_HEADERS, 1, response)
    else:
        stage.frame(frames.HEADERS, frames.END_HEADERS, 1, BLOCKS[0])
        stage.own(1, 1, 0)


def played(data: bytes, *, cut: bool) -> Stage:
    flags = data[0]
    stage = Stage(
        client_side=bool(flags & CLIENT_SIDE), message_limit=40_000 if flags & LARGE else 1_000, cut=cut
    )
    if flags & GREETED:
        greet(stage)
    if flags & CALLED:
        call(stage)
    for step in parse(data[1:]):
        if stage.fault:
            break
        stage.play(step)
    if not stage.fault:
        stage.take()
    return stage


def told_apart(stage: Stage) -> list[tuple[type, Event]]:
    """Events are tuples, and those of different kinds may be equal."""
    return [(type(event), event) for event in stage.events]


def one_input(data: bytes) -> None:
    if not data:
        return
    whole, cut = played(data, cut=False), played(data, cut=True)
    if whole.fault in _CUT_DEPENDS or cut.fault in _CUT_DEPENDS:
        return
    assert whole.fault == cut.fault, f"whole: {whole.fault!r}, in pieces: {cut.fault!r}"
    assert told_apart(whole) == told_apart(cut), f"whole: {whole.events}, in pieces: {cut.events}"
    assert whole.output == cut.output


def by_atheris(content: bytes, most: int) -> bytes:
    """Look atheris.Mutate up when it is needed: it is another function once the fuzzer runs."""
    return bytes(atheris.Mutate(content, most))


def mutated(data: bytes, max_size: int, seed: int) -> bytes:
    """Change the script, and now and then the flags before it."""
    flags = data[:1] or b"\0"
    if seed % 16 == 0:
        flags = bytes((flags[0] ^ 1 << (seed >> 4) % 4,))
    return flags + _mutate(data[1:], max_size - 1, seed)


def crossed_over(one: bytes, other: bytes, max_size: int, seed: int) -> bytes:
    return one[:1] + crossed(one[1:], other[1:], max_size - 1, seed)


_mutate = mutator(KINDS, by_atheris)


def main() -> None:
    atheris.Setup(sys.argv, one_input, custom_mutator=mutated, custom_crossover=crossed_over)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
