"""How windows grow, what bounds them, and what arriving bytes may not do."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunneler.errors import Code, ConnectionFault, LocalProtocolError
from tunneler.protocol.window import CEILING, FLOOR, Budget, ReceiveWindow, SendWindow, Sequence

AMPLE = 64 * 1024 * 1024


def fill(window: ReceiveWindow) -> None:
    """Receive all that is allowed."""
    sequence = window.sequence
    sequence.accept_data(sequence.received, sequence.limit - sequence.received)


def cycle(window: ReceiveWindow) -> bool:
    """Receive all that is allowed, and hand it over."""
    fill(window)
    return window.hand_over(window.buffered)


class TestSequence:
    def test_in_order(self) -> None:
        sequence = Sequence(FLOOR)
        assert sequence.accept_data(0, 10) == 0
        assert sequence.accept_data(10, 5) == 0
        assert sequence.accept_fin(15)
        assert (sequence.received, sequence.fin, sequence.duplicates) == (15, 15, 0)

    @pytest.mark.parametrize(
        ("offset", "length", "repeated"),
        [(0, 10, 10), (3, 4, 4), (0, 12, 10), (9, 2, 1), (10, 2, 0)],
    )
    def test_repeats_are_told_apart(self, offset: int, length: int, repeated: int) -> None:
        sequence = Sequence(FLOOR)
        sequence.accept_data(0, 10)
        assert sequence.accept_data(offset, length) == repeated
        assert sequence.received == max(10, offset + length)
        assert sequence.duplicates == (repeated > 0)

    def test_gap(self) -> None:
        sequence = Sequence(FLOOR)
        sequence.accept_data(0, 10)
        with pytest.raises(ConnectionFault, match="DATA at 11 leaves a gap after 10") as caught:
            sequence.accept_data(11, 1)
        assert caught.value.code is Code.PROTOCOL
        assert sequence.received == 10

    def test_limit(self) -> None:
        sequence = Sequence(100)
        assert sequence.accept_data(0, 100) == 0
        with pytest.raises(ConnectionFault, match="DATA up to 101 passes the limit 100") as caught:
            sequence.accept_data(100, 1)
        assert caught.value.code is Code.FLOW_CONTROL

    @pytest.mark.parametrize("offset", [5, 10])
    def test_data_after_fin(self, offset: int) -> None:
        sequence = Sequence(FLOOR)
        sequence.accept_data(0, 10)
        sequence.accept_fin(10)
        with pytest.raises(ConnectionFault, match="follows FIN at 10"):
            sequence.accept_data(offset, 6)

    def test_repeat_of_data_before_fin(self) -> None:
        sequence = Sequence(FLOOR)
        sequence.accept_data(0, 10)
        sequence.accept_fin(10)
        assert sequence.accept_data(4, 6) == 6

    @pytest.mark.parametrize("offset", [9, 11])
    def test_fin_elsewhere_than_the_data_ended(self, offset: int) -> None:
        sequence = Sequence(FLOOR)
        sequence.accept_data(0, 10)
        with pytest.raises(ConnectionFault, match=f"FIN at {offset}, but the data ended at 10"):
            sequence.accept_fin(offset)

    def test_fin_twice(self) -> None:
        sequence = Sequence(FLOOR)
        assert sequence.accept_fin(0)
        assert not sequence.accept_fin(0)
        assert sequence.duplicates == 1
        with pytest.raises(ConnectionFault, match="contradicts"):
            sequence.accept_fin(1)


class TestReceiveWindow:
    def test_starts_at_the_floor_and_grows_to_its_share(self) -> None:
        budget = Budget(AMPLE)
        window = ReceiveWindow(budget)
        widths = []
        for _ in range(20):
            assert cycle(window)
            widths.append(window.sequence.limit - window.handed_over)
        assert widths[:3] == [2 * FLOOR, 4 * FLOOR, 8 * FLOOR]
        assert widths[-1] == CEILING == budget.outstanding

    def test_stays_at_the_floor_for_a_reader_that_reads_nothing(self) -> None:
        budget = Budget(AMPLE)
        window = ReceiveWindow(budget)
        fill(window)
        assert window.sequence.limit == budget.outstanding == FLOOR

    def test_share_shrinks_as_connections_grow(self) -> None:
        budget = Budget(8 * FLOOR)
        windows = [ReceiveWindow(budget) for _ in range(4)]
        for _ in range(10):
            for window in windows:
                cycle(window)
                assert window.sequence.limit - window.handed_over <= 2 * FLOOR
        assert budget.share == 2 * FLOOR

    def test_floor_is_kept_when_the_budget_is_spent(self) -> None:
        budget = Budget(1)
        windows = [ReceiveWindow(budget) for _ in range(3)]
        for _ in range(5):
            for window in windows:
                assert cycle(window)
                assert window.sequence.limit == window.handed_over + FLOOR
        assert budget.outstanding == 3 * FLOOR

    def test_one_connections_growth_stops_where_the_budget_ends(self) -> None:
        budget = Budget(6 * FLOOR)
        idle, busy = ReceiveWindow(budget), ReceiveWindow(budget)
        budget.connections -= 1  # as if the idle one had not counted, so that the share is all
        for _ in range(10):
            cycle(busy)
            assert budget.outstanding <= budget.total
        assert idle.sequence.limit == FLOOR

    def test_no_silly_window(self) -> None:
        window = ReceiveWindow(Budget(1))
        fill(window)
        reports = [window.hand_over(1024) for _ in range(64)]
        assert [position for position, told in enumerate(reports, start=1) if told] == [16, 32, 48, 64]

    def test_a_small_exchange_needs_no_ack(self) -> None:
        window = ReceiveWindow(Budget(AMPLE))
        window.sequence.accept_data(0, 1000)
        assert not window.hand_over(1000)

    def test_after_fin_nothing_more_is_allowed(self) -> None:
        window = ReceiveWindow(Budget(AMPLE))
        fill(window)
        window.sequence.accept_fin(FLOOR)
        assert not window.hand_over(FLOOR)
        assert window.sequence.limit == FLOOR

    def test_more_handed_over_than_came(self) -> None:
        window = ReceiveWindow(Budget(AMPLE))
        window.sequence.accept_data(0, 10)
        with pytest.raises(LocalProtocolError, match="11 bytes handed over of 10"):
            window.hand_over(11)

    @given(
        total=st.sampled_from((1, 3 * FLOOR, 40 * FLOOR)),
        steps=st.lists(st.tuples(st.integers(0, 3), st.integers(0, 4 * FLOOR), st.integers(1, 4 * FLOOR))),
    )
    def test_budget_holds_and_nobody_starves(self, total: int, steps: list[tuple[int, int, int]]) -> None:
        budget = Budget(total)
        windows = [ReceiveWindow(budget) for _ in range(4)]
        for which, arrives, taken in steps:
            window = windows[which]
            sequence = window.sequence
            before = sequence.limit
            sequence.accept_data(sequence.received, min(arrives, sequence.limit - sequence.received))
            window.hand_over(min(taken, window.buffered))
            assert sequence.limit >= before
            assert budget.outstanding == sum(each.sequence.limit - each.handed_over for each in windows)
            assert budget.outstanding <= total + FLOOR * len(windows)
            if not window.buffered:
                assert sequence.limit - sequence.received >= FLOOR // 2, "its sender is (nearly) stuck"
        for window in windows:
            window.release()
        assert (budget.outstanding, budget.connections) == (0, 0)


class TestSendWindow:
    def test_room(self) -> None:
        window = SendWindow(100)
        window.sent = 60
        assert window.room == 40

    def test_limits_only_grow(self) -> None:
        window = SendWindow(100)
        window.raise_limit(50)
        assert window.limit == 100

    def test_only_the_end_of_a_wait_is_reported(self) -> None:
        window = SendWindow(100)
        assert not window.raise_limit(150)
        window.sent = 150
        assert not window.raise_limit(150)
        assert window.raise_limit(151)
        assert not window.raise_limit(200)

    def test_old_acks_are_ignored(self) -> None:
        window = SendWindow(100)
        window.sent = 50
        assert not window.acknowledge(50)
        assert not window.acknowledge(20)
        assert window.acknowledged == 50

    def test_fin_is_covered_once(self) -> None:
        window = SendWindow(100)
        window.sent = window.fin = 50
        assert not window.acknowledge(50)
        assert window.acknowledge(51)
        assert not window.acknowledge(51)

    def test_more_acknowledged_than_sent(self) -> None:
        window = SendWindow(100)
        window.sent = 50
        with pytest.raises(ConnectionFault, match="ACK of 51, but only 50 was sent"):
            window.acknowledge(51)


@pytest.mark.parametrize(
    ("total", "connections", "share"),
    [
        (AMPLE, 0, CEILING),
        (AMPLE, 1, CEILING),
        (AMPLE, 16, 4 * 1024 * 1024),
        (AMPLE, 10**6, FLOOR),
        (1, 1, FLOOR),
    ],
)
def test_share_of_the_budget(total: int, connections: int, share: int) -> None:
    budget = Budget(total)
    budget.connections = connections
    assert budget.share == share


def test_another_budget() -> None:
    budget = Budget(8 * FLOOR)
    window = ReceiveWindow(budget)
    assert (budget.share, budget.free) == (8 * FLOOR, 7 * FLOOR)
    budget.total = 4 * FLOOR
    assert (budget.share, budget.free) == (4 * FLOOR, 3 * FLOOR)
    budget.total = 16 * FLOOR
    assert (budget.total, budget.share, budget.free) == (16 * FLOOR, 16 * FLOOR, 15 * FLOOR)
    window.release()
    assert (budget.connections, budget.outstanding) == (0, 0)


def test_free_is_never_negative() -> None:
    budget = Budget(10)
    budget.outstanding = 15
    assert budget.free == 0
