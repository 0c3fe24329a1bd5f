"""SETTINGS: RFC 9113 section 6.5.2."""

from __future__ import annotations

import pytest

from tunneler.http2 import settings
from tunneler.http2.codes import ErrorCode, Http2Error
from tunneler.http2.frames import LARGEST_FRAME_LIMIT, MAX_STREAM, SETTING, SMALLEST_FRAME_LIMIT
from tunneler.http2.limits import MAX_HEADER_LIST, MAX_STREAMS, WINDOW
from tunneler.http2.settings import PeerSettings, our_settings

OURS = 1 << 20


def payload(*values: tuple[int, int]) -> memoryview:
    return memoryview(b"".join(SETTING.pack(*value) for value in values))


def peer(*, from_server: bool = False) -> PeerSettings:
    return PeerSettings(from_server=from_server, frame_limit=OURS)


def test_ours() -> None:
    both = {
        settings.INITIAL_WINDOW_SIZE: WINDOW,
        settings.MAX_FRAME_SIZE: OURS,
        settings.MAX_HEADER_LIST_SIZE: MAX_HEADER_LIST,
    }
    client = dict(our_settings(client_side=True, frame_limit=OURS))
    server = dict(our_settings(client_side=False, frame_limit=OURS))
    assert client == both | {settings.ENABLE_PUSH: 0}
    assert server == both | {settings.MAX_CONCURRENT_STREAMS: MAX_STREAMS}


def test_ours_are_valid() -> None:
    peer().update(payload(*our_settings(client_side=True, frame_limit=OURS)))
    peer(from_server=True).update(payload(*our_settings(client_side=False, frame_limit=OURS)))


def test_before_any() -> None:
    before = peer()
    assert (before.frame_size, before.initial_window, before.table_size) == (16_384, 65_535, 4096)


@pytest.mark.parametrize(
    ("value", "used"),
    [(SMALLEST_FRAME_LIMIT, SMALLEST_FRAME_LIMIT), (OURS - 1, OURS - 1), (LARGEST_FRAME_LIMIT, OURS)],
)
def test_frame_size(value: int, used: int) -> None:
    told = peer()
    told.update(payload((settings.MAX_FRAME_SIZE, value)))
    assert told.frame_size == used


@pytest.mark.parametrize("value", [0, SMALLEST_FRAME_LIMIT - 1, LARGEST_FRAME_LIMIT + 1, (1 << 32) - 1])
def test_frame_size_out_of_range(value: int) -> None:
    with pytest.raises(Http2Error, match="a frame size limit of") as caught:
        peer().update(payload((settings.MAX_FRAME_SIZE, value)))
    assert caught.value.code is ErrorCode.PROTOCOL_ERROR


@pytest.mark.parametrize("value", [0, 1, 65_536, MAX_STREAM])
def test_initial_window(value: int) -> None:
    told = peer()
    told.update(payload((settings.INITIAL_WINDOW_SIZE, value)))
    assert told.initial_window == value


@pytest.mark.parametrize("value", [MAX_STREAM + 1, (1 << 32) - 1])
def test_initial_window_out_of_range(value: int) -> None:
    with pytest.raises(Http2Error, match="an initial window of") as caught:
        peer().update(payload((settings.INITIAL_WINDOW_SIZE, value)))
    assert caught.value.code is ErrorCode.FLOW_CONTROL_ERROR


@pytest.mark.parametrize(("value", "used"), [(0, 0), (100, 100), (4096, 4096), (1 << 20, 4096)])
def test_table_size(value: int, used: int) -> None:
    told = peer()
    told.update(payload((settings.HEADER_TABLE_SIZE, value)))
    assert told.table_size == used


@pytest.mark.parametrize(
    ("value", "from_server", "good"),
    [
        (0, False, True),
        (1, False, True),
        (2, False, False),
        (0, True, True),
        (1, True, False),
        (2, True, False),
    ],
)
def test_push(value: int, from_server: bool, good: bool) -> None:
    """A server may not say 1: section 6.5.2."""
    told = peer(from_server=from_server)
    if good:
        told.update(payload((settings.ENABLE_PUSH, value)))
        return
    with pytest.raises(Http2Error, match="an ENABLE_PUSH of") as caught:
        told.update(payload((settings.ENABLE_PUSH, value)))
    assert caught.value.code is ErrorCode.PROTOCOL_ERROR


def test_in_order_and_unknown_ones() -> None:
    told = peer()
    told.update(
        payload((0xABCD, 7), (settings.INITIAL_WINDOW_SIZE, 1), (settings.INITIAL_WINDOW_SIZE, 2), (0, 0))
    )
    assert told.initial_window == 2
    told.update(payload())
    assert told.initial_window == 2
