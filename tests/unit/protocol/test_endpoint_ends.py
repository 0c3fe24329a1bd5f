"""How connections of an endpoint end: in good order, by reset, by time."""

from __future__ import annotations

import pytest

from tests.unit.protocol import cast
from tests.unit.protocol.cast import IDLE_TIMEOUT, OPENING_TIMEOUT, PROXY, name, only, open_frame
from tests.unit.protocol.endpoint_stage import EndpointStage
from tunneler.errors import Code
from tunneler.protocol.events import (
    ConnectionClosed,
    ConnectionReset,
    DataReceived,
    FinReceived,
)
from tunneler.protocol.frames import Ack, ConnectionFrame, Data, Fin, OpenResult, Reset
from tunneler.protocol.window import FLOOR

ONE = name(1)
OK = OpenResult(ONE, Code.OK, FLOOR, PROXY)


class TestEnds:
    def test_half_close_leaves_the_other_half_open(self, opened: EndpointStage) -> None:
        opened.endpoint.finish(opened.connection)
        assert opened.receive(Ack(ONE, 1, FLOOR)) is None
        assert opened.receive(Data(ONE, 0, b"late answer")) == DataReceived(ONE, b"late answer")
        opened.endpoint.hand_over(opened.connection, 11)
        assert opened.receive(Fin(ONE, 11)) == FinReceived(ONE)
        opened.sent()
        assert opened.endpoint.hand_over_fin(opened.connection) == ConnectionClosed(ONE)
        assert only(Ack, opened.sent()).offset == 12
        opened.assert_nothing_left()

    def test_peer_finishes_first(self, opened: EndpointStage) -> None:
        opened.receive(Fin(ONE, 0))
        assert opened.endpoint.hand_over_fin(opened.connection) is None
        opened.endpoint.send(opened.connection, b"answer", 0.0)
        opened.endpoint.finish(opened.connection)
        assert opened.receive(Ack(ONE, 6, FLOOR)) is None
        assert opened.receive(Ack(ONE, 7, FLOOR)) == ConnectionClosed(ONE)
        opened.assert_nothing_left()

    def test_reset_of_ours(self, opened: EndpointStage) -> None:
        opened.endpoint.reset(opened.connection, Code.RESET_BY_PEER)
        assert opened.sent() == [Reset(ONE, Code.RESET_BY_PEER)]
        opened.assert_nothing_left()

    def test_reset_of_the_peer_discards_what_waits(self, opened: EndpointStage) -> None:
        opened.endpoint.send(opened.connection, b"never read", 0.0)
        event = opened.receive(Reset(ONE, Code.RESET_BY_PEER))
        assert event == ConnectionReset(ONE, Code.RESET_BY_PEER)
        assert opened.sent() == []
        opened.assert_nothing_left()

    def test_reset_all(self, opened: EndpointStage) -> None:
        opened.endpoint.open(open_frame(2), 0.0)
        opened.sent()
        assert opened.endpoint.reset_all(Code.DRAINING) == [
            ConnectionReset(ONE, Code.DRAINING),
            ConnectionReset(name(2), Code.DRAINING),
        ]
        assert opened.sent() == [Reset(ONE, Code.DRAINING), Reset(name(2), Code.DRAINING)]
        opened.assert_nothing_left()


class TestTime:
    def test_client_gives_up_on_the_answer(self, client: EndpointStage) -> None:
        assert client.endpoint.expire(OPENING_TIMEOUT - 0.1) == []
        assert client.endpoint.expire(OPENING_TIMEOUT) == [ConnectionReset(ONE, Code.TIMEOUT)]
        assert client.sent() == [Reset(ONE, Code.TIMEOUT)]
        client.assert_nothing_left()

    def test_proxy_gives_up_on_the_dial(self, proxy: EndpointStage) -> None:
        assert proxy.endpoint.expire(OPENING_TIMEOUT) == [ConnectionReset(ONE, Code.TIMEOUT)]
        assert proxy.sent() == [OpenResult(ONE, Code.TIMEOUT)]
        proxy.assert_nothing_left()

    def test_another_time_for_the_answer(self, client: EndpointStage) -> None:
        client.endpoint.set_timeouts(opening=1.0, idle=3.0)
        assert client.endpoint.expire(1.0) == [ConnectionReset(ONE, Code.TIMEOUT)]

    def test_another_time_of_idleness(self, opened: EndpointStage) -> None:
        opened.endpoint.set_timeouts(opening=1.0, idle=3.0)
        assert opened.endpoint.expire(2.9) == []
        assert opened.endpoint.expire(3.0) == [ConnectionReset(ONE, Code.IDLE)]

    def test_answered_in_time(self, opened: EndpointStage) -> None:
        assert opened.endpoint.expire(OPENING_TIMEOUT) == []

    @pytest.mark.parametrize("frame", [Data(ONE, 0, b"x"), Ack(ONE, 0, FLOOR)])
    def test_idle_since_the_last_frame(self, opened: EndpointStage, frame: ConnectionFrame) -> None:
        opened.receive(frame, 5.0)
        assert opened.endpoint.expire(IDLE_TIMEOUT + 4.9) == []
        assert opened.endpoint.expire(IDLE_TIMEOUT + 5) == [ConnectionReset(ONE, Code.IDLE)]
        assert Reset(ONE, Code.IDLE) in opened.sent()
        opened.assert_nothing_left()

    def test_sending_is_not_being_idle(self, opened: EndpointStage) -> None:
        opened.endpoint.send(opened.connection, b"x", 5.0)
        assert opened.endpoint.expire(IDLE_TIMEOUT) == []

    def test_idleness_may_be_left_to_keepalive(self, client: EndpointStage) -> None:
        endpoint, _ = cast.proxy_endpoint()
        endpoint.receive(open_frame()._replace(keepalive=True), 0.0)
        endpoint.accept(endpoint.connections[ONE])
        client.endpoint.open(open_frame(2), 0.0, watch_idle=False)
        client.receive(OpenResult(name(2), Code.OK, FLOOR))
        client.receive(OK)
        assert endpoint.expire(1e9) == []
        assert client.endpoint.expire(1e9) == [ConnectionReset(ONE, Code.IDLE)]
