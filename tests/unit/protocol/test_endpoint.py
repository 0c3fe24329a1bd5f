"""A client's and a proxy's end of a link, played by the book."""

from __future__ import annotations

import pytest

from tests.unit.protocol import cast
from tests.unit.protocol.cast import PROXY, name, open_frame
from tests.unit.protocol.endpoint_stage import EndpointStage
from tunneler.errors import Code, LinkFault, LocalProtocolError
from tunneler.protocol.connection import State
from tunneler.protocol.events import (
    ConnectionReset,
    DataReceived,
    FinReceived,
    Opened,
    RoomMade,
)
from tunneler.protocol.frames import Ack, ConnectionFrame, Data, Fin, OpenResult, Reset
from tunneler.protocol.window import FLOOR

ONE = name(1)
OK = OpenResult(ONE, Code.OK, FLOOR, PROXY)


class TestOpening:
    def test_client_learns_who_has_its_connection(self, client: EndpointStage) -> None:
        assert client.receive(OK) == Opened(ONE, PROXY)
        assert client.connection.state is State.ESTABLISHED

    def test_client_learns_why_not(self, client: EndpointStage) -> None:
        assert client.receive(OpenResult(ONE, Code.REFUSED)) == ConnectionReset(ONE, Code.REFUSED)
        assert client.sent() == []
        client.assert_nothing_left()

    def test_proxy_accepts(self, proxy: EndpointStage) -> None:
        proxy.endpoint.accept(proxy.connection)
        assert proxy.sent() == [OpenResult(ONE, Code.OK, FLOOR)]
        assert proxy.connection.state is State.ESTABLISHED

    def test_proxy_refuses(self, proxy: EndpointStage) -> None:
        proxy.endpoint.refuse(proxy.connection, Code.UNREACHABLE)
        assert proxy.sent() == [OpenResult(ONE, Code.UNREACHABLE)]
        proxy.assert_nothing_left()

    def test_early_data_up_to_the_floor_is_kept_while_dialling(self, proxy: EndpointStage) -> None:
        assert proxy.receive(Data(ONE, 0, bytes(FLOOR))) == DataReceived(ONE, bytes(FLOOR))
        assert proxy.connection.state is State.SYN_RECEIVED
        fault = proxy.receive(Data(ONE, FLOOR, b"x"))
        proxy.assert_reset(fault, Code.FLOW_CONTROL, "passes the limit")

    def test_early_data_goes_out_before_the_answer(self, client: EndpointStage) -> None:
        client.endpoint.send(client.connection, b"GET /", 0.0)
        assert client.sent() == [Data(ONE, 0, b"GET /")]

    def test_early_fin_goes_out_after_the_answer(self, client: EndpointStage) -> None:
        client.endpoint.send(client.connection, b"GET /", 0.0)
        client.endpoint.finish(client.connection)
        assert client.sent() == [Data(ONE, 0, b"GET /")]
        client.receive(OK)
        assert client.sent() == [Fin(ONE, 5)]

    def test_early_fin_of_the_peer_waits_for_the_dial(self, proxy: EndpointStage) -> None:
        assert proxy.receive(Fin(ONE, 0)) == FinReceived(ONE)
        with pytest.raises(LocalProtocolError):
            proxy.endpoint.hand_over_fin(proxy.connection)
        proxy.endpoint.accept(proxy.connection)
        proxy.endpoint.hand_over_fin(proxy.connection)
        assert proxy.sent() == [OpenResult(ONE, Code.OK, FLOOR), Ack(ONE, 1, FLOOR)]

    def test_proxy_may_send_up_to_the_limit_in_open(self) -> None:
        endpoint, _ = cast.proxy_endpoint()
        endpoint.receive(open_frame(limit=3 * FLOOR), 0.0)
        assert endpoint.connections[ONE].sending.room == 3 * FLOOR

    def test_id_used_twice_by_us(self, client: EndpointStage) -> None:
        with pytest.raises(LocalProtocolError):
            client.endpoint.open(open_frame(), 0.0)
        assert client.budget.connections == 1

    def test_id_used_twice_by_the_peer(self, proxy: EndpointStage) -> None:
        proxy.assert_reset(proxy.receive(open_frame()), Code.PROTOCOL, "OPEN of a connection that is open")

    @pytest.mark.parametrize("code", [Code.OK, Code.REFUSED])
    def test_second_answer(self, opened: EndpointStage, code: Code) -> None:
        opened.assert_reset(opened.receive(OK._replace(code=code)), Code.PROTOCOL, "in ESTABLISHED")

    def test_open_sent_to_a_client(self, client: EndpointStage) -> None:
        with pytest.raises(LinkFault, match="OPEN sent to a client"):
            client.receive(open_frame(2))
        assert list(client.endpoint.connections) == [ONE]

    @pytest.mark.parametrize("number", [1, 2])
    @pytest.mark.parametrize("code", [Code.OK, Code.REFUSED])
    def test_open_result_sent_to_a_proxy(self, proxy: EndpointStage, number: int, code: Code) -> None:
        with pytest.raises(LinkFault, match="OPEN_RESULT sent to a proxy"):
            proxy.receive(OpenResult(name(number), code, FLOOR))
        assert proxy.connection.state is State.SYN_RECEIVED


class TestFaults:
    """Each costs the peer that connection, and no other."""

    @pytest.mark.parametrize(
        ("frames", "code", "reason"),
        [
            ([Data(ONE, 1, b"x")], Code.PROTOCOL, "leaves a gap"),
            ([Data(ONE, 0, bytes(FLOOR + 1))], Code.FLOW_CONTROL, "passes the limit"),
            ([Fin(ONE, 1)], Code.PROTOCOL, "the data ended at 0"),
            ([Fin(ONE, 0), Data(ONE, 0, b"x")], Code.PROTOCOL, "follows FIN"),
            ([Fin(ONE, 0), Fin(ONE, 1)], Code.PROTOCOL, "contradicts FIN"),
            ([Ack(ONE, 1, FLOOR)], Code.PROTOCOL, "only 0 was sent"),
        ],
    )
    def test_costs_the_connection(
        self, opened: EndpointStage, frames: list[ConnectionFrame], code: Code, reason: str
    ) -> None:
        bystander = opened.endpoint.open(open_frame(2), 0.0)
        *harmless, last = frames
        for frame in harmless:
            opened.receive(frame)
        event = opened.receive(last)
        assert isinstance(event, ConnectionReset)
        opened.receive(OpenResult(name(2), Code.OK, FLOOR))
        opened.endpoint.reset(bystander, Code.RESET_BY_PEER)
        assert bystander.state is State.CLOSED
        sent = [frame for frame in opened.sent() if isinstance(frame, Reset)]
        assert sent == [Reset(ONE, code), Reset(name(2), Code.RESET_BY_PEER)]
        assert event.code is code
        assert reason in str(event.fault)
        opened.assert_nothing_left()

    def test_data_before_the_answer(self, client: EndpointStage) -> None:
        client.assert_reset(client.receive(Data(ONE, 0, b"x")), Code.PROTOCOL, "DATA in SYN_SENT")

    def test_ack_before_the_answer(self, client: EndpointStage) -> None:
        client.assert_reset(client.receive(Ack(ONE, 0, FLOOR)), Code.PROTOCOL, "ACK in SYN_SENT")

    def test_what_was_queued_goes_before_the_reset(self, opened: EndpointStage) -> None:
        opened.endpoint.send(opened.connection, b"last words", 0.0)
        opened.receive(Data(ONE, 1, b"x"))
        assert opened.sent() == [Data(ONE, 0, b"last words"), Reset(ONE, Code.PROTOCOL)]


class TestUnknownConnections:
    @pytest.mark.parametrize("frame", [Data(name(9), 0, b"x"), Fin(name(9), 0)])
    def test_are_answered(self, client: EndpointStage, frame: ConnectionFrame) -> None:
        assert client.receive(frame) is None
        assert client.sent() == [Reset(name(9), Code.UNKNOWN_CONNECTION)]

    @pytest.mark.parametrize(
        "frame",
        [Ack(name(9), 0, 0), Reset(name(9), Code.IDLE), OpenResult(name(9), Code.OK, FLOOR)],
    )
    def test_need_no_answer(self, client: EndpointStage, frame: ConnectionFrame) -> None:
        assert client.receive(frame) is None
        assert client.sent() == []


class TestData:
    def test_arrives_once(self, opened: EndpointStage) -> None:
        assert opened.receive(Data(ONE, 0, b"abc")) == DataReceived(ONE, b"abc")
        assert opened.receive(Data(ONE, 0, b"abc")) is None
        assert opened.receive(Data(ONE, 2, b"cde")) == DataReceived(ONE, b"de")
        assert opened.connection.receiving.sequence.duplicates == 2

    def test_ack_makes_room_once(self, opened: EndpointStage) -> None:
        opened.endpoint.send(opened.connection, bytes(FLOOR), 0.0)
        assert opened.receive(Ack(ONE, 0, FLOOR)) is None
        assert opened.receive(Ack(ONE, FLOOR, 2 * FLOOR)) == RoomMade(ONE)
        assert opened.receive(Ack(ONE, FLOOR, 3 * FLOOR)) is None
        assert opened.receive(Ack(ONE, FLOOR, FLOOR)) is None
        assert opened.connection.sending.room == 2 * FLOOR

    def test_handing_over_is_acknowledged(self, opened: EndpointStage) -> None:
        opened.receive(Data(ONE, 0, bytes(FLOOR)))
        opened.sent()
        opened.endpoint.hand_over(opened.connection, FLOOR)
        assert opened.sent() == [Ack(ONE, FLOOR, 3 * FLOOR)]

    def test_nothing_is_handed_over_after_the_end(self, opened: EndpointStage) -> None:
        opened.receive(Data(ONE, 0, b"abc"))
        opened.receive(Reset(ONE, Code.RESET_BY_PEER))
        with pytest.raises(LocalProtocolError):
            opened.endpoint.hand_over(opened.connection, 3)
        opened.assert_nothing_left()
