"""Inputs that are scripts: what happens, step by step, and how such inputs are mutated.

A step is a byte that says what happens, one that says how many bytes follow, and these. Any
bytes are a script (the last step may be cut short), and mutation keeps the lengths right, so
that a change in one step does not turn all that follow into others.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Final, NamedTuple

Mutate = Callable[[bytes, int], bytes]
"""Changes bytes, of which there may be so many afterwards."""

LONGEST: Final = 255
"""Bytes of one step."""


class Step(NamedTuple):
    kind: int
    content: bytes


def parse(script: bytes) -> list[Step]:
    steps: list[Step] = []
    position = 0
    while position + 2 <= len(script):
        kind, length = script[position], script[position + 1]
        position += 2
        steps.append(Step(kind, script[position : position + length]))
        position += length
    return steps


def pack(steps: list[Step]) -> bytes:
    return b"".join(bytes((step.kind, len(step.content))) + step.content for step in steps)


def mutator(kinds: int, mutate: Mutate) -> Callable[[bytes, int, int], bytes]:
    """Make a custom mutator.

    Args:
        kinds: how many there are.
        mutate: the fuzzer's own.
    """

    def mutated(script: bytes, max_size: int, seed: int) -> bytes:
        chance = random.Random(seed)
        steps = parse(script)
        if not steps or chance.random() < 0.1:
            return mutate(script, max_size)
        index = chance.randrange(len(steps))
        match chance.randrange(8):
            case 0:
                del steps[index]
            case 1:
                steps.insert(chance.randrange(len(steps) + 1), steps[index])
            case 2:
                other = chance.randrange(len(steps))
                steps[index], steps[other] = steps[other], steps[index]
            case 3:
                steps.insert(index, Step(chance.randrange(kinds), chance.randbytes(chance.randrange(8))))
            case 4:
                steps[index] = steps[index]._replace(kind=chance.randrange(kinds))
            case _:
                content = mutate(steps[index].content or b"\0", LONGEST)
                steps[index] = Step(steps[index].kind, content)
        return pack(steps)[:max_size]

    return mutated


def crossed(one: bytes, other: bytes, max_size: int, seed: int) -> bytes:
    """The beginning of one script, then the end of another."""
    chance = random.Random(seed)
    first, second = parse(one), parse(other)
    head, tail = chance.randrange(len(first) + 1), chance.randrange(len(second) + 1)
    return pack(first[:head] + second[tail:])[:max_size]
