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

    from fuzz.http2_play import check
    from fuzz.http2_stage import KINDS
    from fuzz.steps import crossed, mutator


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
    atheris.Setup(sys.argv, check, custom_mutator=mutated, custom_crossover=crossed_over)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
