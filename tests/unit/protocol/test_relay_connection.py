"""What a relay allows senders, and what it holds for them."""

from __future__ import annotations

from tests.unit.protocol import cast
from tests.unit.protocol.cast import (
    RelayStage,
    name,
    only,
    open_frame,
    payload_of,
)
from tunneler.errors import Code
from tunneler.protocol.frames import Ack, Data, OpenResult, Reset
from tunneler.protocol.window import FLOOR

ONE = name(1)


class TestMemory:
    def test_stalled_receiver_costs_no_more_than_the_budget(self) -> None:
        total = 8 * FLOOR
        stage = RelayStage(total)
        stage.open()
        direction = stage.relay.connections[ONE].up
        stage.relay.receive(stage.proxy, Ack(ONE, 0, 2**40), 0.0)
        sent = 0
        while sent < direction.sequence.limit:
            stage.relay.receive(stage.client, Data(ONE, sent, bytes(1024)), 0.0)
            stage.relay.receive(stage.proxy, Ack(ONE, 0, 2**40), 0.0)
            sent += 1024
        assert stage.proxy.outbox.queued_bytes(ONE) == sent == direction.sequence.limit
        assert stage.budget.outstanding <= total + 2 * FLOOR
        stage.client.outbox.take()
        assert len(payload_of(stage.proxy.outbox.take())) == sent
        stage.relay.sent()
        ack = only(Ack, stage.client.outbox.take())
        assert ack.limit > sent

    def test_windows_granted_before_are_counted_when_others_come(self) -> None:
        """The first had all of the budget to itself; what it holds is not there for those who follow."""
        total = 16 * FLOOR
        stage = RelayStage(total)
        for number in range(6):
            stage.open(number)
            for sender in (stage.client, stage.proxy):
                stage.relay.receive(sender, Ack(name(number), 0, 2**40), 0.0)
            assert stage.budget.outstanding <= total + FLOOR * stage.budget.connections
        assert stage.relay.connections[name(0)].up.sequence.limit == 8 * FLOOR
        assert stage.relay.connections[name(5)].down.sequence.limit == FLOOR

    def test_limit_is_lowered_never_raised(self) -> None:
        stage = RelayStage(cast.AMPLE)
        stage.open()
        stage.relay.receive(stage.proxy, Ack(ONE, 0, FLOOR + 1), 0.0)
        assert only(Ack, stage.client.outbox.take()).limit == FLOOR + 1
        stage.relay.receive(stage.proxy, Ack(ONE, 0, 2**40), 0.0)
        assert only(Ack, stage.client.outbox.take()).limit == stage.budget.share

    def test_open_after_open_against_a_stalled_proxy(self) -> None:
        """A client that opens, sends and resets gains nothing by doing it again and again."""
        stage = RelayStage(8 * FLOOR)
        most = 0
        for number in range(500):
            stage.relay.receive(stage.client, open_frame(number), 0.0)
            stage.relay.receive(stage.client, Data(name(number), 0, bytes(FLOOR)), 0.0)
            stage.relay.receive(stage.client, Reset(name(number), Code.RESET_BY_PEER), 0.0)
            stage.client.outbox.take()
            most = max(most, stage.proxy.outbox.size, stage.budget.outstanding)
        assert most < 12 * FLOOR

    def test_answered_open_after_open_against_a_stalled_proxy(self) -> None:
        """The same where the proxy answers, and reads nothing."""
        stage = RelayStage(8 * FLOOR)
        most = 0
        for number in range(500):
            stage.relay.receive(stage.client, open_frame(number), 0.0)
            stage.relay.receive(stage.proxy, OpenResult(name(number), Code.OK, FLOOR), 0.0)
            stage.relay.receive(stage.client, Data(name(number), 0, bytes(FLOOR)), 0.0)
            stage.relay.receive(stage.client, Reset(name(number), Code.RESET_BY_PEER), 0.0)
            stage.client.outbox.take()
            most = max(most, stage.proxy.outbox.size, stage.budget.outstanding)
        assert most < 12 * FLOOR + 500 * 400


class TestGreedyWindows:
    def test_window_in_open_is_lowered_until_the_answer(self) -> None:
        """No ACK reaches a proxy that has not answered, whatever the client allows."""
        stage = RelayStage(8 * FLOOR)
        stage.relay.receive(stage.client, open_frame(1), 0.0)
        stage.relay.receive(stage.client, open_frame(2, limit=2**40), 0.0)
        stage.relay.receive(stage.client, Reset(ONE, Code.RESET_BY_PEER), 0.0)
        stage.proxy.outbox.take()
        stage.relay.sent()
        assert stage.proxy.outbox.take() == []
        stage.relay.receive(stage.proxy, OpenResult(name(2), Code.OK, FLOOR), 0.0)
        stage.proxy.outbox.take()
        direction = stage.relay.connections[name(2)].down
        before = direction.sequence.limit
        stage.relay.receive(stage.proxy, Data(name(2), 0, bytes(before)), 0.0)
        assert len(payload_of(stage.client.outbox.take())) == before
        stage.relay.sent()
        assert direction.sequence.limit > before

    def test_limit_that_went_down_is_ignored(self) -> None:
        stage = RelayStage()
        stage.open()
        for limit in (3 * FLOOR, FLOOR):
            stage.relay.receive(stage.proxy, Ack(ONE, 0, limit), 0.0)
        assert stage.relay.connections[ONE].up.sequence.limit == 3 * FLOOR
