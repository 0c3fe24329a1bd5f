"""Every bound on what a peer can make us hold or do.

Control frames that a peer sends without need cost it nothing and us a little each time. They
are counted as rates, not as totals, so that a link may live for years: CVE-2019-9511 to 9518
(floods of PING, SETTINGS, RST_STREAM, empty frames), CVE-2023-44487 (rapid reset),
CVE-2024-27316 (CONTINUATION).
"""

from __future__ import annotations

from typing import Final, NamedTuple

from tunneler.http2.codes import ErrorCode, Http2Error

MAX_STREAMS: Final = 8
"""Calls at once on one connection: one link, and some for health checks."""

MAX_HEADER_LIST: Final = 16 * 1024
"""Bytes of one field list, counted as in RFC 9113 section 6.5.2; a block may be no larger either."""

MAX_CONTINUATIONS: Final = 8
"""CONTINUATION frames of one block: two of the smallest frame size already hold the largest block."""

MAX_TABLE_CHANGES: Final = 50
"""Changes of the header table's size that a block may begin with. Two are all it takes (RFC 7541
section 4.2); some encoders repeat each that SETTINGS made. A block of nothing else is 16384."""

MAX_CONTROL_FRAME: Final = MAX_HEADER_LIST + 256
"""Payload of any frame but DATA: the largest block, with its padding."""

MAX_UNSENT_CONTROL: Final = 64 * 1024
"""Bytes of answers (acknowledgements, RST_STREAM, trailers) that may wait for a peer to read."""

WINDOW: Final = 8 * 1024 * 1024
"""Receive window of a connection and of each stream. The links' own windows are what bounds
memory (their reader never waits), so this one only has to be out of the way."""

GRANTED_FROM: Final = WINDOW // 4
"""What a peer has used of a window is given back when it has come to so much."""

REMEMBERED_RESETS: Final = 512
"""Streams that we reset and whose late frames are ignored (RFC 9113 section 5.1, "closed")."""


class Frequency(NamedTuple):
    """So many in a second for ever, and so many at once."""

    per_second: float
    burst: float


SETTINGS: Final = Frequency(10, 50)
PINGS: Final = Frequency(50, 200)
"""grpc's bandwidth estimation sends at most 10 a second (its kMinInterPingDelay)."""
RESETS: Final = Frequency(50, 200)
REFUSALS: Final = Frequency(50, 500)
"""Streams beyond ``MAX_STREAMS``. A client may begin a hundred and more before it has read our SETTINGS."""
FAULTS: Final = Frequency(20, 100)
"""Streams that we had to reset, or calls that we had to refuse."""
IDLE_FRAMES: Final = Frequency(100, 500)
"""PRIORITY, unknown types, empty DATA, GOAWAY, interim responses, field lists of calls that we reset:
frames without any effect."""
WINDOW_UPDATES: Final = Frequency(500, 5000)
UPDATES_EARNED: Final = 8
"""WINDOW_UPDATE frames that each of our DATA frames entitles the peer to."""


class Rate:
    """A token bucket: full at first, refilled as time passes."""

    __slots__ = ("_allowed", "_frequency", "_last", "_name")

    def __init__(self, name: str, frequency: Frequency, now: float) -> None:
        self._name = name
        self._frequency = frequency
        self._allowed = frequency.burst
        self._last = now

    def count(self, now: float) -> None:
        """Note one.

        Raises:
            Http2Error: there were too many of late.
        """
        frequency = self._frequency
        allowed = self._allowed + (now - self._last) * frequency.per_second
        self._last = now
        self._allowed = min(allowed, frequency.burst) - 1
        if self._allowed < 0:
            raise Http2Error(
                f"more than {frequency.per_second:g} {self._name} a second", ErrorCode.ENHANCE_YOUR_CALM
            )

    def earn(self, number: int) -> None:
        """Allow so many more; :meth:`count` sees to it that they are no more than the burst."""
        self._allowed += number
