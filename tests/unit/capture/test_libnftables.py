"""How it fails; that it works is shown in tests/namespaces/test_capture.py."""

from __future__ import annotations

import ctypes
import socket
from collections.abc import Iterator

import pytest

from tunneler.capture import libnftables
from tunneler.errors import CaptureError

NOT_A_COMMAND: list[libnftables.Object] = [{"add": {"nonsense": {}}}]


@pytest.fixture(autouse=True)
def fresh_library() -> Iterator[None]:
    libnftables.load.cache_clear()
    yield
    libnftables.load.cache_clear()


def test_a_missing_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(libnftables, "LIBRARY", "libnosuchthing.so.1")
    with pytest.raises(CaptureError, match=r"libnosuchthing\.so\.1 cannot be loaded"):
        libnftables.run(NOT_A_COMMAND)


def test_no_netlink_is_an_error_and_not_the_end_of_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> socket.socket:
        raise OSError(97, "Address family not supported by protocol")

    monkeypatch.setattr(socket, "socket", refuse)
    with pytest.raises(CaptureError, match="no netfilter socket"):
        libnftables.run(NOT_A_COMMAND)


def test_a_refusal_is_one_line_and_nothing_is_printed(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(CaptureError, match="nftables refused: ") as caught:
        libnftables.run(NOT_A_COMMAND)
    assert "\n" not in str(caught.value)
    ctypes.CDLL(None).fflush(None)
    assert capfd.readouterr() == ("", "")
