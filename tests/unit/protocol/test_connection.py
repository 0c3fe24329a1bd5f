"""Every row of the state table, and that there is nothing beside it."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.unit.protocol import cast
from tunneler.errors import Code, ConnectionFault, LocalProtocolError
from tunneler.protocol.connection import MAY_RECEIVE_DATA, MAY_SEND_DATA, TRANSITIONS, Connection, Move, State
from tunneler.protocol.frames import Ack, Data, Fin
from tunneler.protocol.window import FLOOR, Budget

NAME = cast.name(1)
SENT = b"what we sent"
RECEIVED = b"what came"


def dialling() -> Connection:
    return Connection(NAME, Budget(cast.AMPLE), Move.OPEN_SENT)


def dialled() -> Connection:
    return Connection(NAME, Budget(cast.AMPLE), Move.OPEN_RECEIVED)


def established() -> Connection:
    """Bytes have gone both ways, and were handed over."""
    connection = dialling()
    connection.receive_accept(FLOOR)
    connection.send(SENT)
    connection.receive_data(Data(NAME, 0, RECEIVED))
    connection.hand_over(len(RECEIVED))
    return connection


def finish(connection: Connection) -> None:
    assert connection.finish() == Fin(NAME, len(SENT))


def fin_arrives(connection: Connection) -> None:
    assert connection.receive_fin(Fin(NAME, len(RECEIVED)))
    assert connection.hand_over_fin().offset == len(RECEIVED) + 1


def fin_is_covered(connection: Connection) -> None:
    connection.receive_ack(Ack(NAME, len(SENT) + 1, FLOOR))


def in_state(state: State) -> Connection:
    """A connection that came to a state on the shortest way."""
    if state is State.SYN_RECEIVED:
        return dialled()
    if state is State.SYN_SENT:
        return dialling()
    connection = established()
    for step in WAYS[state]:
        step(connection)
    assert connection.state is state
    return connection


WAYS: dict[State, tuple[Callable[[Connection], None], ...]] = {
    State.ESTABLISHED: (),
    State.FIN_WAIT_1: (finish,),
    State.FIN_WAIT_2: (finish, fin_is_covered),
    State.CLOSE_WAIT: (fin_arrives,),
    State.CLOSING: (finish, fin_arrives),
    State.LAST_ACK: (fin_arrives, finish),
    State.CLOSED: (finish, fin_is_covered, fin_arrives),
}
DEEDS: dict[Move, Callable[[Connection], object]] = {
    Move.ACCEPTED: lambda connection: connection.receive_accept(FLOOR),
    Move.FIN_SENT: finish,
    Move.FIN_RECEIVED: fin_arrives,
    Move.FIN_COVERED: fin_is_covered,
}


@pytest.mark.parametrize(
    ("state", "move", "next_state"),
    [(state, move, after) for (state, move), after in TRANSITIONS.items() if move in DEEDS],
)
def test_row_of_the_table(state: State, move: Move, next_state: State) -> None:
    connection = in_state(state)
    DEEDS[move](connection)
    assert connection.state is next_state
    assert connection.closed == (next_state is State.CLOSED)


def test_first_row_is_chosen_by_who_opened() -> None:
    assert dialling().state is State.SYN_SENT
    assert dialled().state is State.SYN_RECEIVED


def test_table_is_that_of_rfc_9293() -> None:
    """Figure 5, without LISTEN and TIME_WAIT, both of which end in CLOSED here."""
    assert {(state.name, move.name): after.name for (state, move), after in TRANSITIONS.items()} == {
        ("CLOSED", "OPEN_SENT"): "SYN_SENT",
        ("CLOSED", "OPEN_RECEIVED"): "SYN_RECEIVED",
        ("SYN_SENT", "ACCEPTED"): "ESTABLISHED",
        ("SYN_RECEIVED", "ACCEPTED"): "ESTABLISHED",
        ("ESTABLISHED", "FIN_SENT"): "FIN_WAIT_1",
        ("ESTABLISHED", "FIN_RECEIVED"): "CLOSE_WAIT",
        ("FIN_WAIT_1", "FIN_COVERED"): "FIN_WAIT_2",
        ("FIN_WAIT_1", "FIN_RECEIVED"): "CLOSING",
        ("FIN_WAIT_2", "FIN_RECEIVED"): "CLOSED",
        ("CLOSE_WAIT", "FIN_SENT"): "LAST_ACK",
        ("CLOSING", "FIN_COVERED"): "CLOSED",
        ("LAST_ACK", "FIN_COVERED"): "CLOSED",
    }


@pytest.mark.parametrize(
    ("state", "move"), [(s, m) for s in State for m in Move if (s, m) not in TRANSITIONS]
)
def test_what_is_not_in_the_table_is_somebodys_fault(state: State, move: Move) -> None:
    connection = in_state(state)
    with pytest.raises(LocalProtocolError, match=f"{move.name} in {state.name}"):
        connection._move(move)
    with pytest.raises(ConnectionFault, match=f"{move.name} in {state.name}"):
        connection._receive_move(move)
    assert connection.state is state


@pytest.mark.parametrize("state", [state for state in State if state not in MAY_SEND_DATA])
def test_data_that_we_may_not_send(state: State) -> None:
    with pytest.raises(LocalProtocolError, match=f"DATA in {state.name}"):
        in_state(state).send(b"late")


@pytest.mark.parametrize("state", [state for state in State if state not in MAY_RECEIVE_DATA])
def test_data_that_the_peer_may_not_send(state: State) -> None:
    connection = in_state(state)
    with pytest.raises(ConnectionFault, match="DATA") as caught:
        connection.receive_data(Data(NAME, connection.receiving.sequence.received, b"late"))
    assert caught.value.code is Code.PROTOCOL


@pytest.mark.parametrize("state", [State.SYN_SENT])
def test_fin_that_the_peer_may_not_send(state: State) -> None:
    with pytest.raises(ConnectionFault, match=f"FIN in {state.name}"):
        in_state(state).receive_fin(Fin(NAME, 0))


@pytest.mark.parametrize("state", [State.CLOSE_WAIT, State.CLOSING, State.LAST_ACK])
def test_repeats_after_fin_was_handed_over_are_dropped(state: State) -> None:
    connection = in_state(state)
    assert not connection.receive_fin(Fin(NAME, len(RECEIVED)))
    assert connection.receive_data(Data(NAME, 0, RECEIVED)) == b""
    assert connection.receiving.sequence.duplicates == 2
    assert connection.state is state


@pytest.mark.parametrize("state", [State.SYN_SENT, State.CLOSED])
def test_ack_that_the_peer_may_not_send(state: State) -> None:
    with pytest.raises(ConnectionFault, match=f"ACK in {state.name}"):
        in_state(state).receive_ack(Ack(NAME, 0, FLOOR))


def test_ack_of_what_was_never_sent() -> None:
    connection = established()
    with pytest.raises(ConnectionFault, match="ACK of 13, but only 12 was sent"):
        connection.receive_ack(Ack(NAME, len(SENT) + 1, FLOOR))
    finish(connection)
    with pytest.raises(ConnectionFault, match="ACK of 14, but only 13 was sent"):
        connection.receive_ack(Ack(NAME, len(SENT) + 2, FLOOR))


def test_repeated_ack_of_fin_moves_nothing() -> None:
    connection = in_state(State.FIN_WAIT_2)
    fin_is_covered(connection)
    assert connection.state is State.FIN_WAIT_2


def test_data_carries_its_place_and_stays_within_the_limit() -> None:
    connection = established()
    assert connection.send(b"more") == Data(NAME, len(SENT), b"more")
    room = connection.sending.room
    with pytest.raises(LocalProtocolError, match=f"the peer allows {room}"):
        connection.send(bytes(room + 1))
    connection.send(bytes(room))
    assert connection.sending.room == 0


def test_early_data_is_bounded_by_the_floor() -> None:
    connection = dialling()
    connection.send(bytes(FLOOR))
    with pytest.raises(LocalProtocolError, match="the peer allows 0"):
        connection.send(b"x")


def test_fin_waits_for_the_answer() -> None:
    connection = dialling()
    connection.send(SENT)
    assert connection.finish() is None
    with pytest.raises(LocalProtocolError):
        connection.send(b"after the end")
    with pytest.raises(LocalProtocolError):
        connection.finish()
    assert connection.receive_accept(FLOOR) == Fin(NAME, len(SENT))
    assert connection.state is State.FIN_WAIT_1
    assert connection.sending.fin == len(SENT)


def test_fin_is_handed_over_after_the_last_byte() -> None:
    connection = dialling()
    connection.receive_accept(FLOOR)
    with pytest.raises(LocalProtocolError, match="has not come"):
        connection.hand_over_fin()
    connection.receive_data(Data(NAME, 0, RECEIVED))
    connection.receive_fin(Fin(NAME, len(RECEIVED)))
    connection.hand_over(len(RECEIVED) - 1)
    with pytest.raises(LocalProtocolError, match="has not come"):
        connection.hand_over_fin()
    connection.hand_over(1)
    assert connection.hand_over_fin() == Ack(NAME, len(RECEIVED) + 1, connection.receiving.sequence.limit)


def test_half_repeated_data_yields_its_new_half() -> None:
    connection = established()
    assert connection.receive_data(Data(NAME, 5, b"came and more")) == b" and more"
    assert connection.receiving.sequence.received == len(b"what came and more")


def test_ack_says_what_was_handed_over_and_what_is_allowed() -> None:
    connection = dialled()
    connection.accept()
    connection.receive_data(Data(NAME, 0, bytes(FLOOR)))
    assert connection.hand_over(FLOOR // 2) == Ack(NAME, FLOOR // 2, connection.receiving.sequence.limit)
    assert connection.receiving.sequence.limit > FLOOR


def test_release_in_any_state_gives_the_budget_back() -> None:
    budget = Budget(cast.AMPLE)
    connection = Connection(NAME, budget, Move.OPEN_RECEIVED)
    connection.receive_data(Data(NAME, 0, b"not handed over"))
    connection.release()
    assert (budget.connections, budget.outstanding) == (0, 0)
    assert connection.closed
