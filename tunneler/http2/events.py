"""What a connection tells its owner. Streams are named by their numbers."""

from __future__ import annotations

from typing import NamedTuple

from tunneler.http2.codes import ErrorCode, name_of
from tunneler.http2.grpc import Outcome, Request


class RequestReceived(NamedTuple):
    """A peer wants to make a call (listening side)."""

    stream: int
    request: Request


class ResponseReceived(NamedTuple):
    """The peer took our call on (dialling side)."""

    stream: int


class MessageReceived(NamedTuple):
    stream: int
    message: bytes


class HalfClosed(NamedTuple):
    """The peer will send no more messages; the call goes on (listening side)."""

    stream: int


class CallEnded(NamedTuple):
    """The peer ended our call, or broke it (dialling side); the stream is gone."""

    stream: int
    outcome: Outcome


class StreamReset(NamedTuple):
    """The stream is gone in the middle.

    Attributes:
        code: why; one that we do not know is given as the number it is.
        fault: what the peer did wrong, or "" where it was the peer who reset the stream.
    """

    stream: int
    code: ErrorCode | int
    fault: str

    def __str__(self) -> str:
        return f"the stream was reset ({name_of(self.code)})" + (f": {self.fault}" if self.fault else "")


class RoomMade(NamedTuple):
    """All that waited to be sent on a stream has been."""

    stream: int


class GoawayReceived(NamedTuple):
    """The peer takes no new streams, and has not looked at any after ``last_stream``."""

    last_stream: int
    code: ErrorCode | int


Event = (
    RequestReceived
    | ResponseReceived
    | MessageReceived
    | HalfClosed
    | CallEnded
    | StreamReset
    | RoomMade
    | GoawayReceived
)
