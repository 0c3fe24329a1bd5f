"""One call as a :class:`BatchStream`; the messages are the batches."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from tunneler.errors import TransportError
from tunneler.http2.codes import ErrorCode, Status
from tunneler.transport.native.carrier import Carrier, State, clock
from tunneler.transport.seam import BatchReceiver, Peer

FAREWELL_SECONDS: Final = 2.0
"""How long a peer may take for what we still had to say, and to end its own half."""


class NativeStream:
    """See :class:`tunneler.transport.seam.BatchStream`.

    Args:
        number: of the HTTP/2 stream.
        dialled: whether the call is ours; its callee is who ends it.
        ended: called when the call is over, before its receiver is told.
    """

    def __init__(
        self,
        carrier: Carrier,
        number: int,
        peer: Peer,
        ended: Callable[[NativeStream], None],
        *,
        dialled: bool,
    ) -> None:
        self.number = number
        self._on_end = ended
        self._carrier = carrier
        self._peer = peer
        self._dialled = dialled
        self._receiver: BatchReceiver | None = None
        self.congested = False
        self._last = b""
        self._closing_since: float | None = None
        self.ended = False
        self._error: TransportError | None = None

    @property
    def peer(self) -> Peer:
        return self._peer

    def send(self, batch: bytes) -> None:
        if self.congested or self._closing_since is not None or self.ended:
            raise RuntimeError("send on a stream that is congested or closed")
        whole = self._carrier.http2.send_message(self.number, batch)
        self._carrier.flush()
        self.congested = not whole or self._carrier.congested

    def close(self, last: bytes = b"") -> None:
        if self._closing_since is not None or self.ended:
            return
        self._closing_since = clock()
        http2 = self._carrier.http2
        if last:
            http2.send_message(self.number, last)
        if self._dialled:
            http2.half_close(self.number)
        else:
            http2.end(self.number, Status.OK)
        self._carrier.flush_later()
        self._carrier.defer(self._end_if_sent)

    # From whoever owns the carrier.

    @property
    def closing(self) -> bool:
        """Whether our side has said that it ends."""
        return self._closing_since is not None

    def attached(self, receiver: BatchReceiver) -> None:
        """Begin to tell; if the stream has ended meanwhile, say so."""
        self._receiver = receiver
        if self.ended:
            receiver.stream_closed(self._error)

    def received(self, batch: bytes) -> None:
        if self._receiver is not None and not self.ended:
            self._receiver.batch_received(batch)

    def room_made(self) -> None:
        """All that was handed over has left."""
        if self.congested and not self.ended:
            self.congested = False
            if self._closing_since is None and self._receiver is not None:
                self._receiver.room_made()
        self._end_if_sent()

    def end(self, error: TransportError | None) -> None:
        """The call is over."""
        if self.ended:
            return
        self.ended = True
        self._error = error
        self._on_end(self)
        if self._receiver is not None:
            self._receiver.stream_closed(error)

    def peer_ended(self) -> None:
        """The caller will say no more: so do we (listening side)."""
        self._carrier.http2.end(self.number, Status.OK)
        self._carrier.flush_later()
        self.end(None)

    def tick(self, now: float) -> None:
        """Let time pass: a farewell does not take for ever."""
        if self._closing_since is not None and now - self._closing_since >= FAREWELL_SECONDS:
            self.break_off()
            self.end(None)

    def break_off(self) -> None:
        """Reset the call, whatever waits."""
        self._carrier.http2.reset(self.number, ErrorCode.CANCEL)
        if self._carrier.state is State.OPEN:
            self._carrier.flush()

    def _end_if_sent(self) -> None:
        """The listening side's farewell is over when all of it has left."""
        sent = not self._carrier.http2.is_open(self.number) and not self._carrier.congested
        if self._closing_since is not None and not self._dialled and sent:
            self.end(None)
