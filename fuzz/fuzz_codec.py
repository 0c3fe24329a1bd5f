"""Fuzz the codec.

Invariant: whatever bytes arrive, ``decode`` returns the very frames that protobuf alone would
read there, sealed or not, and writing them again gives a batch that reads the same; or it
raises LinkFault, and then protobuf alone finds a fault too.
"""

from __future__ import annotations

import sys

import atheris  # type: ignore[import-not-found,import-untyped,unused-ignore]  # fuzz/README.md

with atheris.instrument_imports(include=["tunneler"]):
    from tunneler.errors import LinkFault
    from tunneler.protocol.frames import MAX_BATCH_ACCEPTED, Data, Frame, SealedData
    from tunneler.wire import codec


def told_apart(frames: list[Frame]) -> list[tuple[type, Frame]]:
    """Named tuples of different kinds may be equal."""
    return [(type(frame), frame) for frame in frames]


def read_by_protobuf(batch: bytes) -> list[Frame] | None:
    if len(batch) > MAX_BATCH_ACCEPTED:
        return None
    try:
        return codec._decode_by_protobuf(batch)  # noqa: SLF001 - the other of the two paths
    except LinkFault:
        return None


def read_by_codec(batch: bytes, *, sealed: bool = False) -> list[Frame] | None:
    try:
        return codec.decode(batch, sealed=sealed)
    except LinkFault:
        return None


def opened(frame: Frame) -> Frame:
    if isinstance(frame, SealedData):
        return Data(frame.connection, frame.offset, frame.payload)
    return frame


def one_input(batch: bytes) -> None:
    expected = read_by_protobuf(batch)
    frames = read_by_codec(batch)
    sealed = read_by_codec(batch, sealed=True)
    if frames is None or sealed is None or expected is None:
        assert frames is sealed is expected, f"the codec reads {frames} and {sealed}, protobuf {expected}"
        return
    assert told_apart(frames) == told_apart(expected)
    assert told_apart([opened(frame) for frame in sealed]) == told_apart(expected)
    assert told_apart(codec.decode(codec.encode(sealed))) == told_apart(expected)
    written = codec.encode(frames)
    assert told_apart(codec.decode(written)) == told_apart(frames)
    assert codec.encode(codec.decode(written)) == written


def main() -> None:
    atheris.Setup(sys.argv, one_input)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
