"""One script, played whole and in pieces: the invariant of ``fuzz_http2_frames``."""

from __future__ import annotations

from typing import Final

from fuzz.http2_blocks import BLOCKS
from fuzz.http2_stage import Stage
from fuzz.steps import parse
from tunneler.http2 import frames
from tunneler.http2.events import Event

CLIENT_SIDE: Final = 1
GREETED: Final = 2
CALLED: Final = 4
LARGE: Final = 8

_CUT_DEPENDS: Final = ("answers are not read",)
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


def check(data: bytes) -> None:
    if not data:
        return
    whole, cut = played(data, cut=False), played(data, cut=True)
    if whole.fault in _CUT_DEPENDS or cut.fault in _CUT_DEPENDS:
        return
    assert whole.fault == cut.fault, f"whole: {whole.fault!r}, in pieces: {cut.fault!r}"
    assert told_apart(whole) == told_apart(cut), f"whole: {whole.events}, in pieces: {cut.events}"
    assert whole.output == cut.output
