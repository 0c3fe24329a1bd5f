"""What an hour of fuzzing found worth keeping holds still: each input whole, and in pieces."""

from __future__ import annotations

import pytest

from fuzz.http2_play import check
from fuzz.http2_seeds import frame_seeds
from fuzz.keep_corpus import kept


@pytest.mark.parametrize("name", frame_seeds())
def test_seed(name: str) -> None:
    check(frame_seeds()[name])


def test_what_was_kept() -> None:
    inputs = kept("http2_frames")
    assert inputs
    for each in inputs:
        check(each)
