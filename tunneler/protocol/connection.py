"""One end of one connection: its states, and the only place where they change.

Theory of operation
-------------------

The two ends of a connection (client and proxy) each run this machine; it does not know which
of them it is beyond having opened the connection or been asked to. The states are TCP's own
(RFC 9293 section 3.3.2), because an application's TCP connection on one side and the
target's on the other are what they stand for:

* SYN_SENT: OPEN went out. DATA may follow at once, up to ``FLOOR`` bytes, so that a request
  needs no round trip of its own. FIN waits for OPEN_RESULT, as a close does in SYN_SENT.
* SYN_RECEIVED: OPEN came in and the target is being dialled. DATA is kept.
* A FIN counts as received when the local socket has been told (shut down for writing), which
  is after every byte before it was handed over; the ACK that covers it says so.
* There is no TIME_WAIT: a link neither loses nor reorders frames, so when both FINs are
  covered, both ends know. A frame that arrives for a connection that is gone is a normal
  race, and :mod:`tunneler.protocol.endpoint` answers it.
* RESET, in either direction and in any state, ends the connection.

What is not in ``TRANSITIONS`` cannot happen: as the peer's frame it is a
:class:`ConnectionFault`, as our own wish a :class:`LocalProtocolError`.
"""

from __future__ import annotations

from enum import Enum, auto, unique
from typing import Final

from tunneler.addresses import ConnectionId
from tunneler.errors import ConnectionFault, LocalProtocolError
from tunneler.protocol.frames import Ack, Data, Fin, make
from tunneler.protocol.window import FLOOR, Budget, ReceiveWindow, SendWindow


@unique
class State(Enum):
    """RFC 9293's names, without LISTEN (nobody waits for one connection) and TIME_WAIT."""

    CLOSED = auto()
    SYN_SENT = auto()
    SYN_RECEIVED = auto()
    ESTABLISHED = auto()
    FIN_WAIT_1 = auto()
    FIN_WAIT_2 = auto()
    CLOSE_WAIT = auto()
    CLOSING = auto()
    LAST_ACK = auto()

    __hash__ = object.__hash__  # Enum's own is a Python function, and every frame is looked up by state


@unique
class Move(Enum):
    """What happened to a connection."""

    OPEN_SENT = auto()
    OPEN_RECEIVED = auto()
    ACCEPTED = auto()  # OPEN_RESULT says ok: received by the client, sent by the proxy
    FIN_SENT = auto()
    FIN_RECEIVED = auto()  # and handed to the local socket
    FIN_COVERED = auto()  # the peer's ACK covers our FIN

    __hash__ = object.__hash__


TRANSITIONS: Final[dict[tuple[State, Move], State]] = {
    (State.CLOSED, Move.OPEN_SENT): State.SYN_SENT,
    (State.CLOSED, Move.OPEN_RECEIVED): State.SYN_RECEIVED,
    (State.SYN_SENT, Move.ACCEPTED): State.ESTABLISHED,
    (State.SYN_RECEIVED, Move.ACCEPTED): State.ESTABLISHED,
    (State.ESTABLISHED, Move.FIN_SENT): State.FIN_WAIT_1,
    (State.ESTABLISHED, Move.FIN_RECEIVED): State.CLOSE_WAIT,
    (State.FIN_WAIT_1, Move.FIN_COVERED): State.FIN_WAIT_2,
    (State.FIN_WAIT_1, Move.FIN_RECEIVED): State.CLOSING,
    (State.FIN_WAIT_2, Move.FIN_RECEIVED): State.CLOSED,
    (State.CLOSE_WAIT, Move.FIN_SENT): State.LAST_ACK,
    (State.CLOSING, Move.FIN_COVERED): State.CLOSED,
    (State.LAST_ACK, Move.FIN_COVERED): State.CLOSED,
}

MAY_SEND_DATA: Final = frozenset({State.SYN_SENT, State.ESTABLISHED, State.CLOSE_WAIT})
MAY_RECEIVE_DATA: Final = frozenset(
    {State.SYN_RECEIVED, State.ESTABLISHED, State.FIN_WAIT_1, State.FIN_WAIT_2}
)
HAS_OPENED: Final = frozenset(State) - {State.CLOSED, State.SYN_SENT, State.SYN_RECEIVED}
OPENING: Final = frozenset({State.SYN_SENT, State.SYN_RECEIVED})


class Connection:
    """One end of one connection: state, both windows, and the frames to send about them."""

    __slots__ = ("finish_when_open", "heard", "id", "receiving", "sending", "state")

    def __init__(self, connection: ConnectionId, budget: Budget, first: Move) -> None:
        self.id = connection
        self.state = State.CLOSED
        self.receiving = ReceiveWindow(budget)
        self.sending = SendWindow(FLOOR)
        self.finish_when_open = False
        self.heard = 0.0
        """When the last frame came or went."""
        self._move(first)

    # What this end does.

    def send(self, payload: bytes) -> Data:
        """Make the DATA frame for bytes read from the local socket.

        Raises:
            LocalProtocolError: there is no room for them, or FIN was sent.
        """
        sending = self.sending
        if self.state not in MAY_SEND_DATA or self.finish_when_open:
            raise LocalProtocolError(f"DATA in {self.state.name}")
        offset = sending.sent
        end = offset + len(payload)
        if end > sending.limit:
            raise LocalProtocolError(f"{len(payload)} bytes, but the peer allows {sending.room}")
        sending.sent = end
        return make(Data, (self.id, offset, payload))

    def finish(self) -> Fin | None:
        """The local socket will send no more: make the FIN frame, or None until the open succeeds.

        Raises:
            LocalProtocolError: this end has finished before.
        """
        if self.state is State.SYN_SENT and not self.finish_when_open:
            self.finish_when_open = True
            return None
        self._move(Move.FIN_SENT)
        self.finish_when_open = False
        self.sending.fin = self.sending.sent
        return Fin(self.id, self.sending.fin)

    def accept(self) -> int:
        """The target answered (proxy): return the limit to announce in OPEN_RESULT."""
        self._move(Move.ACCEPTED)
        return self.receiving.sequence.limit

    def hand_over(self, length: int) -> Ack | None:
        """The local socket took bytes; make an ACK if it is due.

        Raises:
            LocalProtocolError: more bytes than came, or the connection is over.
        """
        if self.state is State.CLOSED:
            raise LocalProtocolError("bytes handed over after the end")
        due = self.receiving.hand_over(length)
        return self._ack(self.receiving.handed_over) if due else None

    def hand_over_fin(self) -> Ack:
        """The local socket was shut down for writing, after the last byte: make the ACK that covers FIN.

        Raises:
            LocalProtocolError: there was no FIN, or bytes before it are still here.
        """
        fin = self.receiving.sequence.fin
        if fin is None or self.receiving.handed_over != fin:
            raise LocalProtocolError("a FIN was handed over that has not come")
        self._move(Move.FIN_RECEIVED)
        return self._ack(fin + 1)

    # What the peer does.

    def receive_accept(self, limit: int) -> Fin | None:
        """OPEN_RESULT says ok (client). Returns the FIN that has waited for it, if any."""
        self._receive_move(Move.ACCEPTED)
        self.sending.raise_limit(limit)
        return self.finish() if self.finish_when_open else None

    def receive_data(self, frame: Data) -> bytes:
        """Return what of the frame is new, to be handed to the local socket."""
        _, offset, payload = frame
        sequence = self.receiving.sequence
        if self.state not in MAY_RECEIVE_DATA and sequence.fin is None:
            raise ConnectionFault(f"DATA in {self.state.name}")
        repeated = sequence.accept_data(offset, len(payload))
        return payload[repeated:] if repeated else payload

    def receive_fin(self, frame: Fin) -> bool:
        """Return whether the FIN is new; the local socket is then to be told, after the data."""
        if self.state not in MAY_RECEIVE_DATA and self.receiving.sequence.fin is None:
            raise ConnectionFault(f"FIN in {self.state.name}")
        return self.receiving.sequence.accept_fin(frame.offset)

    def receive_ack(self, frame: Ack) -> bool:
        """Take an ACK; return whether a sender that waited for room has it now."""
        if self.state not in HAS_OPENED:
            raise ConnectionFault(f"ACK in {self.state.name}")
        if self.sending.acknowledge(frame.offset):
            self._receive_move(Move.FIN_COVERED)
        return self.sending.raise_limit(frame.limit)

    # What both come to.

    @property
    def closed(self) -> bool:
        return self.state is State.CLOSED

    def release(self) -> None:
        """End in any state; give the budget back. Call exactly once."""
        self.state = State.CLOSED
        self.receiving.release()

    def _ack(self, offset: int) -> Ack:
        return Ack(self.id, offset, self.receiving.sequence.limit)

    def _move(self, move: Move) -> None:
        state = TRANSITIONS.get((self.state, move))
        if state is None:
            raise LocalProtocolError(f"{move.name} in {self.state.name}")
        self.state = state

    def _receive_move(self, move: Move) -> None:
        try:
            self._move(move)
        except LocalProtocolError as error:
            raise ConnectionFault(str(error)) from None
