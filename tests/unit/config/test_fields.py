"""Values as operators write them."""

from __future__ import annotations

import contextlib
import re
import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunneler.config.fields import (
    IDENTIFIER,
    is_loopback,
    name_of_this_host,
    new_instance_name,
    read_bytes,
    read_seconds,
)


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


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.9.10", "::1", "localhost", "LOCALHOST"])
def test_loopback(host: str) -> None:
    assert is_loopback(host)


@pytest.mark.parametrize(
    "host",
    [
        "",
        "0.0.0.0",
        "::",
        "128.0.0.1",
        "192.168.1.1",
        "localhost.example.org",
        "localhost.",
        "127.1",
        "2130706433",
    ],
)
def test_not_loopback(host: str) -> None:
    assert not is_loopback(host)


@pytest.mark.parametrize(
    ("host", "name"), [("web-1", "web-1"), ("büro pc", "b-ro-pc"), ("", "unnamed"), ("x" * 64, "x" * 48)]
)
def test_names_made_of_the_host_name_are_identifiers(
    host: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(socket, "gethostname", lambda: host)
    assert name_of_this_host() == name
    made = new_instance_name()
    assert made.startswith(f"{name}-")
    assert re.fullmatch(IDENTIFIER, made)
    assert new_instance_name() != made
