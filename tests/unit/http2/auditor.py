"""What RFC 9113 allows one end to send, worked out from the bytes that it got and wrote."""

from __future__ import annotations

from hpack import Decoder

from tunneler.http2 import frames
from tunneler.http2.frames import HEAD, MAX_STREAM, PREFACE

INITIAL_WINDOW_SIZE = 4
MAX_FRAME_SIZE = 5
DEFAULT_WINDOW = 65_535


class Auditor:
    """Follows one end of a connection.

    Args:
        client_side: which end it is.
    """

    def __init__(self, *, client_side: bool) -> None:
        self._got = bytearray()
        self._preface_to_come = b"" if client_side else PREFACE
        self._preface_to_write = PREFACE if client_side else b""
        self._decoder = Decoder()
        self._frame_size = 1 << 14
        self._initial_window = DEFAULT_WINDOW
        self._window = DEFAULT_WINDOW
        self._windows: dict[int, int] = {}
        self._ended: set[int] = set()
        self._unacknowledged: list[bytes] = []

    def got(self, data: bytes) -> None:
        """Take note of what arrived; frames count once they are whole."""
        self._got += data
        if self._preface_to_come and self._got.startswith(self._preface_to_come):
            del self._got[: len(self._preface_to_come)]
            self._preface_to_come = b""
        while not self._preface_to_come and len(self._got) >= HEAD.size:
            high, low, kind, flags, stream = HEAD.unpack_from(self._got)
            end = HEAD.size + (high << 16 | low)
            if len(self._got) < end:
                return
            self._learn(kind, flags, stream, bytes(self._got[HEAD.size : end]))
            del self._got[:end]

    def wrote(self, data: bytes) -> None:
        """Check what was written, which is whole frames."""
        data = data.removeprefix(self._preface_to_write) if data else data
        self._preface_to_write = b"" if data else self._preface_to_write
        position = 0
        while position < len(data):
            high, low, kind, flags, stream = HEAD.unpack_from(data, position)
            start = position + HEAD.size
            position = start + (high << 16 | low)
            assert position <= len(data)
            self._check(kind, flags, stream, data[start:position])

    def _learn(self, kind: int, flags: int, stream: int, payload: bytes) -> None:
        if kind == frames.SETTINGS and not flags & frames.ACK:
            self._unacknowledged.append(payload)
        elif kind == frames.WINDOW_UPDATE:
            (increment,) = frames.U32.unpack(payload)
            if not stream:
                self._window += increment
            elif stream in self._windows:
                self._windows[stream] += increment
        elif kind == frames.HEADERS:
            self._windows.setdefault(stream, self._initial_window)

    def _apply(self, settings: bytes) -> None:
        for identifier, value in frames.SETTING.iter_unpack(settings):
            if identifier == MAX_FRAME_SIZE:
                self._frame_size = value
            elif identifier == INITIAL_WINDOW_SIZE:
                for number in self._windows:
                    self._windows[number] += value - self._initial_window
                self._initial_window = value

    def _check(self, kind: int, flags: int, stream: int, payload: bytes) -> None:
        assert len(payload) <= self._frame_size
        assert 0 <= stream <= MAX_STREAM
        if kind in (frames.DATA, frames.HEADERS):
            assert stream not in self._ended, "more after the end"
        if kind == frames.SETTINGS and flags & frames.ACK:
            self._apply(self._unacknowledged.pop(0))  # from here on: RFC 9113 section 6.5.3
        elif kind == frames.HEADERS:
            assert self._decoder.decode(payload)
            self._windows.setdefault(stream, self._initial_window)
        elif kind == frames.DATA:
            assert not flags & frames.PADDED
            if payload:
                self._window -= len(payload)
                self._windows[stream] -= len(payload)
                assert self._window >= 0
                assert self._windows[stream] >= 0
        if kind == frames.RST_STREAM or (kind in (frames.DATA, frames.HEADERS) and flags & frames.END_STREAM):
            self._ended.add(stream)
