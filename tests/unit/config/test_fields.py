"""Values as operators write them."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunneler.config.fields import read_bytes, read_seconds


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("10s", 10.0),
        ("500ms", 0.5),
        ("5m", 300.0),
        ("1h", 3600.0),
        ("1.5h", 5400.0),
        ("10", 10.0),
        (" 10 s ", 10.0),
        (10, 10.0),
        (0.25, 0.25),
    ],
)
def test_durations(text: object, seconds: float) -> None:
    assert read_seconds(text) == pytest.approx(seconds)


@pytest.mark.parametrize(
    "text", ["", "s", "-1s", "1d", "1m30s", "1e3", "١s", True, None, [], float("nan"), float("inf"), 10**400]
)
def test_not_durations(text: object) -> None:
    with pytest.raises(ValueError, match="expected a duration such as"):
        read_seconds(text)


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("64MiB", 64 * 2**20),
        ("1 GiB", 2**30),
        ("2kB", 2000),
        ("1.5KiB", 1536),
        ("4096", 4096),
        ("12B", 12),
        (7, 7),
    ],
)
def test_sizes(text: object, size: int) -> None:
    assert read_bytes(text) == size


@pytest.mark.parametrize("text", ["", "MiB", "64mib", "64 M", "64MiB/s", "-1", True, None])
def test_not_sizes(text: object) -> None:
    with pytest.raises(ValueError, match="expected a size such as"):
        read_bytes(text)


@given(st.text())
def test_any_text_is_a_duration_or_a_value_error(text: str) -> None:
    with contextlib.suppress(ValueError):
        assert 0 <= read_seconds(text) < float("inf")
