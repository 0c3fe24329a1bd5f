"""Order, fairness and accounting of what waits to be sent."""

from __future__ import annotations

from itertools import accumulate
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.protocol.cast import SOURCE, TARGET, asleep, name, route, seal
from tunneler.addresses import ConnectionId, Endpoint, Identity, Role
from tunneler.errors import Code
from tunneler.protocol.frames import (
    DATA_KINDS,
    MAX_BATCH,
    MAX_BATCH_ACCEPTED,
    MAX_PAYLOAD,
    Ack,
    Data,
    Fin,
    Frame,
    Heartbeat,
    Open,
    OpenResult,
    Party,
    Reset,
    Routes,
    RoutesResult,
    SealedData,
)
from tunneler.protocol.outbox import JOINED_BYTES, MAX_CONTROL_FRAMES, Outbox, Queued
from tunneler.protocol.window import FLOOR, Budget
from tunneler.wire.codec import encode

A, B, C = name(1), name(2), name(3)
BIG = bytes(JOINED_BYTES)
"""Never joined with its neighbours."""
LONGEST = Party(Identity(Role.CLIENT, "n" * 64), "i" * 64)
FARTHEST = Endpoint.of("2001:db8:ffff:ffff:ffff:ffff:ffff:ffff", 65535)


def test_control_goes_first() -> None:
    outbox = Outbox(asleep)
    outbox.put(Data(A, 0, b"x"))
    outbox.put_control(Ack(B, 0, FLOOR))
    outbox.put_control(Heartbeat())
    assert outbox.take() == [Ack(B, 0, FLOOR), Heartbeat(), Data(A, 0, b"x")]


def test_connections_take_turns_and_keep_their_own_order() -> None:
    outbox = Outbox(asleep)
    for offset in range(3):
        outbox.put(Data(A, offset, BIG))
    outbox.put(Reset(B, Code.IDLE))
    outbox.put(Data(C, 0, b"c"))
    outbox.put(Fin(C, 1))
    assert outbox.take() == [
        Data(A, 0, BIG),
        Reset(B, Code.IDLE),
        Data(C, 0, b"c"),
        Data(A, 1, BIG),
        Fin(C, 1),
        Data(A, 2, BIG),
    ]


def test_turns_go_on_from_batch_to_batch() -> None:
    outbox = Outbox(asleep)
    for offset in range(2):
        outbox.put(Data(A, offset, BIG))
        outbox.put(Data(B, offset, BIG))
    taken = [outbox.take(1) for _ in range(4)]
    assert taken == [[Data(A, 0, BIG)], [Data(B, 0, BIG)], [Data(A, 1, BIG)], [Data(B, 1, BIG)]]


def test_small_neighbours_leave_as_one() -> None:
    outbox = Outbox(asleep)
    for offset in range(3000):
        outbox.put(Data(A, offset, b"a"))
        outbox.put(Data(B, offset, b"b"))
    outbox.put(Data(A, 3000, BIG))
    outbox.put(Fin(A, 3000 + len(BIG)))
    frames = outbox.take()
    assert len(frames) < 10
    assert outbox.size == 0
    of_a = [frame for frame in frames if isinstance(frame, Data) and frame.connection == A]
    assert b"".join(frame.payload for frame in of_a) == b"a" * 3000 + BIG
    assert [frame.offset for frame in of_a] == list(
        accumulate((len(each.payload) for each in of_a[:-1]), initial=0)
    )


def test_a_backlog_delays_others_by_one_frame() -> None:
    outbox = Outbox(asleep)
    for number in range(64):
        outbox.put(Data(A, number * MAX_PAYLOAD, bytes(MAX_PAYLOAD)))
    outbox.take()
    outbox.put(Data(B, 0, b"b"))
    assert Data(B, 0, b"b") in outbox.take()[:2]


def test_batch_is_closed_when_it_is_full() -> None:
    outbox = Outbox(asleep)
    for number in range(10):
        outbox.put(Data(A, number * MAX_PAYLOAD, bytes(MAX_PAYLOAD)))
    assert MAX_BATCH <= len(encode(outbox.take())) < MAX_BATCH + MAX_PAYLOAD + 100


@pytest.mark.parametrize(
    "frame",
    [
        Heartbeat(),
        Reset(A, Code.UNKNOWN_CONNECTION),
        Open(A, FARTHEST, FARTHEST, 2**62, True, LONGEST),
        OpenResult(A, Code.OK, 2**62, LONGEST),
        Routes("g" * 64, (route("2001:db8::/64"),) * 4096),
        RoutesResult((route("2001:db8::/64"),) * 4096),
    ],
    ids=lambda frame: type(frame).__name__,
)
def test_no_batch_is_larger_than_a_peer_accepts(frame: Frame) -> None:
    outbox = Outbox(asleep)
    for _ in range(30_000 if len(encode([frame])) < 1000 else 100):
        outbox.put_control(frame)
    outbox.put(Data(A, 0, bytes(MAX_PAYLOAD)))
    assert len(encode(outbox.take())) <= MAX_BATCH_ACCEPTED


def test_wakes_its_owner_once() -> None:
    woken: list[None] = []
    outbox = Outbox(lambda: woken.append(None))
    outbox.put(Data(A, 0, b"x"))
    outbox.put(Data(B, 0, b"x"))
    outbox.put_control(Heartbeat())
    assert len(woken) == 1
    outbox.take()
    outbox.put_control(Heartbeat())
    outbox.put(Data(B, 0, b"x"))
    assert len(woken) == 2


def test_dropped_connection_leaves_the_others() -> None:
    budget = Budget(1000)
    budget.outstanding = 30
    outbox = Outbox(asleep, budget)
    for connection in (A, B, C):
        outbox.put(Data(connection, 0, bytes(10)))
    outbox.put(Fin(B, 10))
    assert outbox.queued_bytes(B) == 10
    outbox.drop(B)
    outbox.drop(name(9))
    assert outbox.queued_bytes(B) == 0
    assert budget.outstanding == 20
    assert outbox.take() == [Data(A, 0, bytes(10)), Data(C, 0, bytes(10))]
    assert (budget.outstanding, outbox.size, bool(outbox)) == (0, 0, False)


def test_lost_link_gives_everything_back() -> None:
    budget = Budget(1000)
    budget.outstanding = 20
    outbox = Outbox(asleep, budget)
    outbox.put(Data(A, 0, bytes(10)))
    outbox.put(Data(B, 0, bytes(10)))
    outbox.put_control(Heartbeat())
    outbox.drop_all()
    assert budget.outstanding == 0
    assert outbox.take() == [Heartbeat()]
    assert outbox.size == 0


def test_control_frames_are_bounded() -> None:
    outbox = Outbox(asleep)
    for _ in range(MAX_CONTROL_FRAMES):
        outbox.put_control(Heartbeat())
    before = outbox.overrun
    outbox.put_control(Ack(A, 0, 0))
    assert (before, outbox.overrun) == (False, True)
    taken = 0
    while outbox:
        taken += len(outbox.take())
    assert taken == MAX_CONTROL_FRAMES
    assert outbox.size == 0


class Drop(NamedTuple):
    connection: ConnectionId


connections = st.sampled_from((A, B, C))
frames = st.one_of(
    st.builds(
        Data,
        connections,
        st.just(0),
        st.sampled_from((1, 7, 500, JOINED_BYTES)).map(bytes) | st.binary(min_size=1, max_size=300),
    ),
    st.builds(
        lambda connection, payload: seal(Data(connection, 0, payload)),
        connections,
        st.sampled_from((1, 7, 500, JOINED_BYTES)).map(bytes) | st.binary(min_size=1, max_size=300),
    ),
    st.builds(Fin, connections, st.just(0)),
    st.builds(Reset, connections, st.sampled_from(Code)),
    st.builds(Ack, connections, st.just(0), st.just(0)),
    st.builds(Open, connections, st.just(SOURCE), st.just(TARGET), st.just(0)),
)
drops = st.builds(Drop, connections)
actions: st.SearchStrategy[Frame | int | Drop] = st.one_of(frames, st.integers(1, 500), drops)


def take_payload(lane: list[object], length: int) -> bytes:
    """Remove DATA from the head of a lane until there are ``length`` bytes of it."""
    payload = b""
    while len(payload) < length:
        frame = lane.pop(0)
        assert isinstance(frame, DATA_KINDS)
        payload += frame.payload
    return payload


@given(st.lists(actions, max_size=60))
def test_every_frame_leaves_once_in_the_order_of_its_connection(steps: list[Frame | int | Drop]) -> None:
    budget = Budget(1 << 20)
    outbox = Outbox(asleep, budget)
    waiting: dict[object, list[object]] = {A: [], B: [], C: [], "control": []}
    for step in [*steps, *[1 << 20] * 2]:
        match step:
            case int():
                for frame in outbox.take(step):
                    lane = waiting[frame.connection if isinstance(frame, Queued) else "control"]
                    if isinstance(frame, DATA_KINDS):
                        assert take_payload(lane, len(frame.payload)) == frame.payload
                    else:
                        assert lane.pop(0) is frame
            case Drop(connection):
                outbox.drop(connection)
                waiting[connection].clear()
            case Data() | SealedData() | Fin() | Reset():
                outbox.put(step)
                budget.outstanding += step.length if isinstance(step, DATA_KINDS) else 0
                waiting[step.connection].append(step)
            case Ack() | Open():
                outbox.put_control(step)
                waiting["control"].append(step)
        assert bool(outbox) == any(waiting.values())
        assert budget.outstanding == sum(
            len(frame.payload) for lane in waiting.values() for frame in lane if isinstance(frame, DATA_KINDS)
        )
    assert outbox.size == 0
    assert not any(waiting.values())
