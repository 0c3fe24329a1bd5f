"""Who pays when a peer of a relay breaks the protocol: that peer, and nobody else."""

from __future__ import annotations

import pytest

from tests.unit.protocol.cast import (
    CLIENT,
    FOREIGN_PROXY,
    OTHER_CLIENT,
    PROXY,
    RelayStage,
    name,
    open_frame,
    route,
)
from tunneler.addresses import Endpoint
from tunneler.errors import Code, ConnectionFault, LinkFault
from tunneler.protocol.events import RelayClosed, RelayRefused, RelayStray
from tunneler.protocol.frames import Ack, ConnectionFrame, Data, Fin, Heartbeat, OpenResult, Party, Reset
from tunneler.protocol.outbox import MAX_CONTROL_FRAMES
from tunneler.protocol.window import FLOOR

ONE, TWO = name(1), name(2)


@pytest.fixture
def stage() -> RelayStage:
    """A relay with two connections in use."""
    made = RelayStage()
    made.open(1)
    made.open(2)
    return made


def assert_unharmed(stage: RelayStage, number: int = 2) -> None:
    """The connection still carries bytes both ways."""
    entry = stage.relay.connections[name(number)]
    for direction in (entry.up, entry.down):
        frame = Data(name(number), direction.sequence.received, b"unharmed")
        stage.relay.receive(direction.sender, frame, 0.0)
        assert frame in direction.receiver.outbox.take()


BAD: list[tuple[ConnectionFrame, Code, str]] = [
    (Data(ONE, 1, b"x"), Code.PROTOCOL, "leaves a gap"),
    (Data(ONE, 0, bytes(FLOOR + 1)), Code.FLOW_CONTROL, "passes the limit"),
    (Fin(ONE, 1), Code.PROTOCOL, "the data ended at 0"),
    (Ack(ONE, 1, FLOOR), Code.PROTOCOL, "only 0 was sent"),
]


class TestFaultsOnOneConnection:
    @pytest.mark.parametrize("from_client", [True, False])
    @pytest.mark.parametrize(("frame", "code", "reason"), BAD)
    def test_cost_that_connection(
        self, stage: RelayStage, from_client: bool, frame: ConnectionFrame, code: Code, reason: str
    ) -> None:
        sender = stage.client if from_client else stage.proxy
        event = stage.relay.receive(sender, frame, 0.0)
        assert isinstance(event, RelayClosed)
        assert isinstance(event.fault, ConnectionFault)
        assert reason in str(event.fault)
        assert event.code is code
        for link in (stage.client, stage.proxy):
            assert link.outbox.take() == [Reset(ONE, code)]
            assert link.connections == {TWO}
        assert_unharmed(stage)

    def test_open_of_a_connection_that_is_open(self, stage: RelayStage) -> None:
        event = stage.relay.receive(stage.client, open_frame(1), 0.0)
        assert isinstance(event, RelayClosed)
        assert event.fault is not None
        assert stage.client.outbox.take() == stage.proxy.outbox.take() == [Reset(ONE, Code.PROTOCOL)]
        assert_unharmed(stage)

    @pytest.mark.parametrize("code", [Code.OK, Code.REFUSED])
    def test_second_answer(self, stage: RelayStage, code: Code) -> None:
        event = stage.relay.receive(stage.proxy, OpenResult(ONE, code, FLOOR), 0.0)
        assert isinstance(event, RelayClosed)
        assert "second time" in str(event.fault)
        assert_unharmed(stage)

    @pytest.mark.parametrize("frame", [Data(name(3), 0, b"x"), Fin(name(3), 0), Ack(name(3), 0, FLOOR)])
    def test_proxy_that_talks_before_it_answers(self, stage: RelayStage, frame: ConnectionFrame) -> None:
        stage.relay.receive(stage.client, open_frame(3), 0.0)
        stage.proxy.outbox.take()
        event = stage.relay.receive(stage.proxy, frame, 0.0)
        assert isinstance(event, RelayRefused)
        assert event.code is Code.PROTOCOL
        assert stage.client.outbox.take() == [Reset(name(3), Code.PROTOCOL)]
        assert_unharmed(stage)

    def test_client_that_acknowledges_before_the_answer(self, stage: RelayStage) -> None:
        stage.relay.receive(stage.client, open_frame(3), 0.0)
        event = stage.relay.receive(stage.client, Ack(name(3), 0, FLOOR), 0.0)
        assert isinstance(event, RelayRefused)
        assert_unharmed(stage)

    @pytest.mark.parametrize("frame", [Data(name(9), 0, b"x"), Fin(name(9), 0)])
    def test_unknown_connection_is_answered(self, stage: RelayStage, frame: ConnectionFrame) -> None:
        for link in (stage.client, stage.proxy):
            assert stage.relay.receive(link, frame, 0.0) is None
            assert link.outbox.take() == [Reset(name(9), Code.UNKNOWN_CONNECTION)]

    @pytest.mark.parametrize("frame", [Ack(name(9), 0, 0), Reset(name(9), Code.IDLE)])
    def test_unknown_connection_needs_no_answer(self, stage: RelayStage, frame: ConnectionFrame) -> None:
        for link in (stage.client, stage.proxy):
            assert stage.relay.receive(link, frame, 0.0) is None
            assert not link.outbox


class TestFaultsOfALink:
    """``receive`` raises, for the caller to close that link; the others go on as before."""

    def test_open_with_the_id_of_another_client(self, stage: RelayStage) -> None:
        intruder = stage.attach(OTHER_CLIENT)
        with pytest.raises(LinkFault) as caught:
            stage.relay.receive(intruder, open_frame(1), 0.0)
        assert caught.value.code is Code.CONFLICT
        assert_unharmed(stage, 1)

    def test_open_by_a_proxy(self, stage: RelayStage) -> None:
        with pytest.raises(LinkFault, match="a proxy may not send Open"):
            stage.relay.receive(stage.proxy, open_frame(3), 0.0)
        assert name(3) not in stage.relay.connections

    @pytest.mark.parametrize("number", [1, 9])
    def test_open_result_by_a_client(self, stage: RelayStage, number: int) -> None:
        with pytest.raises(LinkFault, match="a client may not send OpenResult"):
            stage.relay.receive(stage.client, OpenResult(name(number), Code.OK, FLOOR), 0.0)
        assert_unharmed(stage, 1)

    def test_full_outbox_is_its_own_links_fault(self, stage: RelayStage) -> None:
        """A proxy reads nothing; clients that talk to it are not to blame."""
        for _ in range(MAX_CONTROL_FRAMES):
            stage.proxy.outbox.put_control(Heartbeat())
        stage.relay.receive(stage.client, open_frame(3), 0.0)
        stage.relay.receive(stage.client, Ack(ONE, 0, FLOOR), 0.0)
        event = stage.relay.receive(stage.client, open_frame(4), 0.0)
        assert isinstance(event, RelayRefused)
        assert stage.proxy.outbox.overrun

    def test_announcing_the_same_route_twice_harms_nobody(self, stage: RelayStage) -> None:
        doubled = (route("10.0.0.0/8"),) * 2
        rival = stage.attach(FOREIGN_PROXY)
        stage.relay.announce(rival, "rival", doubled)
        stage.relay.announce(rival, "rival", ())
        stage.relay.detach(rival, Code.LINK_LOST, 0.0)
        assert_unharmed(stage)


class TestLostLinks:
    @pytest.mark.parametrize("lost", [CLIENT, PROXY])
    def test_other_end_is_reset_and_all_memory_comes_back(self, stage: RelayStage, lost: object) -> None:
        gone, left = stage.client, stage.proxy
        if lost is PROXY:
            gone, left = left, gone
        stage.relay.receive(left, Data(ONE, 0, b"for nobody"), 0.0)
        stage.relay.receive(gone, Data(ONE, 0, b"last words"), 0.0)
        stage.relay.receive(left, Data(TWO, 0, b"for nobody"), 0.0)
        stage.relay.receive(left, Reset(TWO, Code.RESET_BY_PEER), 0.0)
        events = stage.relay.detach(gone, Code.LINK_LOST, 4.0)
        assert [type(event) for event in events] == [RelayClosed]
        assert left.outbox.take() == [Data(ONE, 0, b"last words"), Reset(ONE, Code.LINK_LOST)]
        assert not stage.relay.connections
        assert (stage.budget.connections, stage.budget.outstanding) == (0, 0)
        assert stage.relay.links == (left,)
        assert stage.relay.detach(gone, Code.LINK_LOST, 5.0) == []

    def test_routes_of_a_lost_proxy_are_withdrawn_at_once(self, stage: RelayStage) -> None:
        stage.relay.detach(stage.proxy, Code.SILENT, 0.0)
        event = stage.relay.receive(stage.client, open_frame(3), 0.0)
        assert isinstance(event, RelayRefused)
        assert event.code is Code.NO_ROUTE

    def test_newer_link_of_the_same_party_replaces_the_older(self, stage: RelayStage) -> None:
        older = stage.client
        newer = type(older)(CLIENT, type(older.outbox)(lambda: None, stage.budget))
        replaced, events = stage.relay.attach(newer, 1.0)
        assert replaced is older
        assert [event.code for event in events if isinstance(event, RelayClosed)] == [Code.REPLACED] * 2
        assert stage.relay.links == (stage.proxy, newer)
        assert stage.relay.receive(older, open_frame(3), 1.0) is None
        assert not stage.relay.connections
        assert stage.relay.detach(older, Code.LINK_LOST, 1.0) == []
        assert stage.relay.links == (stage.proxy, newer)
        stage.open(3, newer)

    def test_other_instance_of_the_same_certificate_replaces_nobody(self, stage: RelayStage) -> None:
        stage.attach(OTHER_CLIENT)
        assert len(stage.relay.links) == 3
        assert_unharmed(stage, 1)


class TestConnectionsOfOthers:
    """To everybody but its two ends, a connection is an unknown one."""

    @pytest.mark.parametrize(
        "frame",
        [
            Data(ONE, 0, b"x"),
            Fin(ONE, 0),
            Ack(ONE, 0, FLOOR),
            Reset(ONE, Code.RESET_BY_PEER),
        ],
        ids=lambda frame: type(frame).__name__,
    )
    @pytest.mark.parametrize("party", [OTHER_CLIENT, FOREIGN_PROXY], ids=str)
    def test_frame_for_a_connection_of_others(
        self, stage: RelayStage, party: Party, frame: ConnectionFrame
    ) -> None:
        """Nothing of it reaches them, and the intruder learns nothing but that it has no such connection."""
        intruder = stage.attach(party)
        event = stage.relay.receive(intruder, frame, 0.0)
        assert event == RelayStray(ONE, party, type(frame).__name__)
        assert stage.relay.receive(intruder, frame, 0.0) is None, "one word in the log is enough"
        assert intruder.strays == 2
        assert not stage.client.outbox
        assert not stage.proxy.outbox
        answers = [Reset(ONE, Code.UNKNOWN_CONNECTION)] * 2 if isinstance(frame, Data | Fin) else []
        assert intruder.outbox.take() == answers
        assert_unharmed(stage, 1)
        assert_unharmed(stage, 2)

    def test_answer_for_a_connection_of_others(self, stage: RelayStage) -> None:
        stage.relay.receive(stage.client, open_frame(3), 0.0)
        intruder = stage.attach(FOREIGN_PROXY)
        stage.relay.receive(intruder, OpenResult(name(3), Code.OK, FLOOR), 0.0)
        assert not stage.client.outbox
        stage.relay.receive(stage.proxy, OpenResult(name(3), Code.OK, FLOOR), 0.0)
        assert_unharmed(stage, 3)


class TestReusedIds:
    """What is still on its way for the first connection of an id is no fault of whoever sent it."""

    @pytest.mark.parametrize(
        "late",
        [
            OpenResult(name(3), Code.OK, FLOOR),
            OpenResult(name(3), Code.REFUSED),
            Data(name(3), 0, b"late"),
            Fin(name(3), 0),
            Ack(name(3), 0, FLOOR),
            Reset(name(3), Code.UNKNOWN_CONNECTION),
        ],
        ids=lambda frame: type(frame).__name__,
    )
    def test_late_frames_of_the_first_proxy(self, stage: RelayStage, late: ConnectionFrame) -> None:
        elsewhere = stage.attach_proxy(FOREIGN_PROXY, route("10.0.0.0/8"))
        stage.relay.receive(stage.client, open_frame(3), 0.0)
        stage.relay.receive(stage.client, Reset(name(3), Code.RESET_BY_PEER), 0.0)
        stage.relay.receive(stage.client, open_frame(3, target=Endpoint.of("10.0.0.1", 80)), 0.0)
        stray = stage.relay.receive(stage.proxy, late, 0.0)
        assert stray == RelayStray(name(3), PROXY, type(late).__name__)
        assert stage.relay.receive(stage.proxy, late, 0.0) is None  # it is told once for each link
        stage.relay.receive(elsewhere, OpenResult(name(3), Code.OK, FLOOR), 0.0)
        assert_unharmed(stage, 3)
        assert_unharmed(stage)
