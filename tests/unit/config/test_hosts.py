"""This host and its names."""

from __future__ import annotations

import re
import socket

import pytest

from tunneler.config.fields import IDENTIFIER
from tunneler.config.hosts import is_loopback, name_of_this_host, new_instance_name


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
