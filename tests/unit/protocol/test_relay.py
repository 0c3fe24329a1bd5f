"""What a relay passes on, to whom, and what it remembers."""

from __future__ import annotations

import pytest

from tests.unit.protocol.cast import (
    CLIENT,
    IDLE_TIMEOUT,
    LIMITS,
    OPENING_TIMEOUT,
    OTHER_CLIENT,
    PROXY,
    ROUTE,
    SECOND_PROXY,
    SOURCE,
    TARGET,
    RelayStage,
    name,
    only,
    open_frame,
    payload_of,
    route,
)
from tunneler.addresses import Endpoint
from tunneler.errors import Code, LinkFault
from tunneler.protocol.events import RelayClosed, RelayOpened, RelayRefused, RelayRouted
from tunneler.protocol.frames import Ack, Data, Drain, Fin, Frame, Open, OpenResult, Reset, RoutesResult
from tunneler.protocol.relay_connection import RelayLink
from tunneler.protocol.window import FLOOR

ONE = name(1)


@pytest.fixture
def stage() -> RelayStage:
    return RelayStage()


def refuse(stage: RelayStage, client: RelayLink, frame: Open) -> Code:
    """The relay refuses at once: the client is told why, and nobody else hears of it."""
    event = stage.relay.receive(client, frame, 0.0)
    assert isinstance(event, RelayRefused)
    assert event.proxy is None
    assert client.outbox.take() == [OpenResult(frame.connection, event.code)]
    return event.code


def assert_nothing_left(stage: RelayStage) -> None:
    assert not stage.relay.connections
    for link in (stage.client, stage.proxy):
        assert not link.connections
        while link.outbox:
            link.outbox.take()
    assert (stage.budget.connections, stage.budget.outstanding) == (0, 0)
    assert stage.relay.expire(1e9) == []


class TestOpening:
    def test_proxy_is_told_whose_it_is_and_client_who_has_it(self, stage: RelayStage) -> None:
        forged = open_frame()._replace(client=OTHER_CLIENT)
        routed = RelayRouted(ONE, CLIENT, PROXY, SOURCE, TARGET)
        assert stage.relay.receive(stage.client, forged, 0.0) == routed
        assert stage.proxy.outbox.take() == [open_frame()._replace(client=CLIENT)]
        answer = OpenResult(ONE, Code.OK, FLOOR, SECOND_PROXY)
        event = stage.relay.receive(stage.proxy, answer, 1.0)
        assert event == RelayOpened(ONE, CLIENT, PROXY, SOURCE, TARGET)
        assert stage.client.outbox.take() == [answer._replace(proxy=PROXY)]

    @pytest.mark.parametrize("code", [Code.REFUSED, Code.UNREACHABLE, Code.TIMEOUT, Code.DENIED])
    def test_truth_about_the_target_passes(self, stage: RelayStage, code: Code) -> None:
        stage.relay.receive(stage.client, open_frame(), 0.0)
        stage.relay.receive(stage.client, Data(ONE, 0, b"early"), 0.0)
        event = stage.relay.receive(stage.proxy, OpenResult(ONE, code), 0.0)
        assert event == RelayRefused(ONE, CLIENT, PROXY, SOURCE, TARGET, code)
        assert stage.client.outbox.take() == [OpenResult(ONE, code, proxy=PROXY)]
        assert_nothing_left(stage)

    def test_no_route(self, stage: RelayStage) -> None:
        elsewhere = Endpoint.of("198.51.100.1", 80)
        assert refuse(stage, stage.client, open_frame(target=elsewhere)) is Code.NO_ROUTE
        assert not stage.proxy.outbox
        assert_nothing_left(stage)

    def test_early_data_of_a_refused_connection_is_harmless(self, stage: RelayStage) -> None:
        refuse(stage, stage.client, open_frame(target=Endpoint.of("198.51.100.1", 80)))
        assert stage.relay.receive(stage.client, Data(ONE, 0, b"early"), 0.0) is None
        assert stage.client.outbox.take() == [Reset(ONE, Code.UNKNOWN_CONNECTION)]

    def test_limits(self) -> None:
        stage = RelayStage(limits=LIMITS._replace(connections=3, connections_per_link=2))
        other = stage.attach(OTHER_CLIENT)
        stage.open(1)
        stage.open(2)
        assert refuse(stage, stage.client, open_frame(3)) is Code.LIMITED
        stage.open(4, other)
        assert refuse(stage, other, open_frame(5)) is Code.LIMITED
        stage.relay.receive(other, Reset(name(4), Code.RESET_BY_PEER), 0.0)
        stage.open(5, other)

    def test_draining_server(self, stage: RelayStage) -> None:
        stage.open(1)
        stage.relay.drain()
        assert stage.client.outbox.take() == stage.proxy.outbox.take() == [Drain()]
        assert refuse(stage, stage.client, open_frame(2)) is Code.DRAINING
        stage.relay.receive(stage.client, Data(ONE, 0, b"goes on"), 0.0)
        assert payload_of(stage.proxy.outbox.take()) == b"goes on"
        assert stage.attach(OTHER_CLIENT).outbox.take() == [Drain()]

    def test_draining_proxy_is_passed_over(self, stage: RelayStage) -> None:
        second = stage.attach_proxy(SECOND_PROXY)
        stage.proxy.draining = True
        assert stage.open(1) is second
        second.draining = True
        assert refuse(stage, stage.client, open_frame(2)) is Code.DRAINING

    def test_draining_client(self, stage: RelayStage) -> None:
        stage.client.draining = True
        assert refuse(stage, stage.client, open_frame()) is Code.DRAINING

    def test_proxy_with_fewest_connections_is_asked(self, stage: RelayStage) -> None:
        second = stage.attach_proxy(SECOND_PROXY)
        chosen = [stage.open(number) for number in range(4)]
        assert sorted(map(id, chosen)) == sorted([id(stage.proxy), id(second)] * 2)
        stage.relay.receive(second, Reset(name(chosen.index(second)), Code.IDLE), 0.0)
        assert stage.open(5) is second

    def test_longest_prefix_decides(self, stage: RelayStage) -> None:
        host = stage.attach_proxy(SECOND_PROXY, route("100.64.1.5/32", "10.0.0.5/32"), group="host")
        assert stage.open(1) is host
        other_target = open_frame(2, target=Endpoint.of("100.64.1.6", 80))
        stage.relay.receive(stage.client, other_target, 0.0)
        assert stage.relay.connections[name(2)].proxy is stage.proxy


class TestRoutes:
    def test_conflict_is_reported_and_resolved_when_the_first_leaves(self, stage: RelayStage) -> None:
        rival = stage.attach(SECOND_PROXY)
        assert stage.relay.announce(rival, "rival", (ROUTE,)) == (ROUTE,)
        assert rival.outbox.take() == [RoutesResult((ROUTE,))]
        assert stage.open(1) is stage.proxy
        stage.relay.detach(stage.proxy, Code.LINK_LOST, 0.0)
        assert stage.open(2) is rival

    def test_too_many(self, stage: RelayStage) -> None:
        routes = tuple(route(f"10.{number}.0.0/16") for number in range(LIMITS.routes_per_proxy + 1))
        with pytest.raises(LinkFault, match="9 routes announced, 8 allowed") as caught:
            stage.relay.announce(stage.proxy, "group", routes)
        assert caught.value.code is Code.LIMITED
        stage.open(1)


class TestPassingOn:
    def test_both_ways_and_to_the_end(self, stage: RelayStage) -> None:
        stage.open()
        script: list[tuple[RelayLink, Frame]] = [
            (stage.client, Data(ONE, 0, b"question")),
            (stage.client, Fin(ONE, 8)),
            (stage.proxy, Data(ONE, 0, b"an answer")),
            (stage.proxy, Ack(ONE, 9, FLOOR)),
            (stage.proxy, Fin(ONE, 9)),
        ]
        for sender, frame in script:
            receiver = stage.proxy if sender is stage.client else stage.client
            assert stage.relay.receive(sender, frame, 1.0) is None  # type: ignore[arg-type]
            assert receiver.outbox.take() == [frame]
        event = stage.relay.receive(stage.client, Ack(ONE, 10, FLOOR), 2.5)
        assert event == RelayClosed(ONE, CLIENT, PROXY, TARGET, Code.OK, 8, 9, 2.5)
        assert stage.proxy.outbox.take() == [Ack(ONE, 10, FLOOR)]
        assert_nothing_left(stage)

    def test_remembered_until_both_fins_are_covered(self, stage: RelayStage) -> None:
        stage.open()
        for sender in (stage.client, stage.proxy):
            stage.relay.receive(sender, Data(ONE, 0, b"x"), 0.0)
            stage.relay.receive(sender, Fin(ONE, 1), 0.0)
            stage.relay.receive(sender, Ack(ONE, 0, FLOOR), 0.0)
        assert stage.relay.receive(stage.proxy, Ack(ONE, 2, FLOOR), 0.0) is None
        assert stage.relay.receive(stage.client, Ack(ONE, 1, FLOOR), 0.0) is None
        assert isinstance(stage.relay.receive(stage.client, Ack(ONE, 2, FLOOR), 0.0), RelayClosed)
        assert_nothing_left(stage)

    def test_repeats_are_not_passed_on(self, stage: RelayStage) -> None:
        stage.open()
        passed: list[Frame] = []
        for frame in (
            Data(ONE, 0, b"abc"),
            Data(ONE, 0, b"abc"),
            Data(ONE, 1, b"bcde"),
            Fin(ONE, 5),
            Fin(ONE, 5),
        ):
            stage.relay.receive(stage.client, frame, 0.0)
            passed += stage.proxy.outbox.take()  # one by one, or they would be joined
        assert passed == [Data(ONE, 0, b"abc"), Data(ONE, 3, b"de"), Fin(ONE, 5)]
        assert stage.relay.connections[ONE].up.sequence.duplicates == 3

    @pytest.mark.parametrize("from_client", [True, False])
    def test_reset_passes_and_discards_the_way_back(self, stage: RelayStage, from_client: bool) -> None:
        stage.open()
        sender, receiver = stage.client, stage.proxy
        if not from_client:
            sender, receiver = receiver, sender
        stage.relay.receive(receiver, Data(ONE, 0, b"nobody reads this"), 0.0)
        event = stage.relay.receive(sender, Reset(ONE, Code.RESET_BY_PEER), 0.0)
        assert isinstance(event, RelayClosed)
        assert (event.code, event.fault) == (Code.RESET_BY_PEER, None)
        assert sender.outbox.take() == []
        assert receiver.outbox.take() == [Reset(ONE, Code.RESET_BY_PEER)]
        assert_nothing_left(stage)

    def test_data_before_the_reset_arrives_first(self, stage: RelayStage) -> None:
        stage.open()
        stage.relay.receive(stage.proxy, Data(ONE, 0, b"last words"), 0.0)
        stage.relay.receive(stage.proxy, Reset(ONE, Code.RESET_BY_PEER), 0.0)
        assert stage.client.outbox.take() == [Data(ONE, 0, b"last words"), Reset(ONE, Code.RESET_BY_PEER)]
        assert_nothing_left(stage)


class TestTime:
    def test_nobody_answers(self, stage: RelayStage) -> None:
        stage.relay.receive(stage.client, open_frame(), 0.0)
        stage.proxy.outbox.take()
        assert stage.relay.expire(OPENING_TIMEOUT - 0.1) == []
        (event,) = stage.relay.expire(OPENING_TIMEOUT)
        assert event == RelayRefused(ONE, CLIENT, PROXY, SOURCE, TARGET, Code.TIMEOUT)
        for link in (stage.client, stage.proxy):
            assert link.outbox.take() == [Reset(ONE, Code.TIMEOUT)]
        assert_nothing_left(stage)

    def test_idle(self, stage: RelayStage) -> None:
        stage.open()
        stage.relay.receive(stage.client, Data(ONE, 0, b"x"), 5.0)
        stage.relay.receive(stage.proxy, Ack(ONE, 1, FLOOR), 7.0)
        assert stage.relay.expire(IDLE_TIMEOUT + 6.9) == []
        (event,) = stage.relay.expire(IDLE_TIMEOUT + 7.0)
        assert isinstance(event, RelayClosed)
        assert event.code is Code.IDLE
        assert only(Reset, stage.proxy.outbox.take()[1:]) == Reset(ONE, Code.IDLE)
        assert_nothing_left(stage)

    def test_other_limits_are_everybodys(self, stage: RelayStage) -> None:
        stage.open(1)
        stage.relay.receive(stage.client, open_frame(2), 0.0)
        stage.relay.set_limits(LIMITS._replace(opening_timeout=2.0, idle_timeout=5.0, connections=2))
        assert refuse(stage, stage.client, open_frame(3)) is Code.LIMITED
        (refused,) = stage.relay.expire(2.0)
        assert isinstance(refused, RelayRefused)
        assert stage.relay.expire(4.9) == []
        (closed,) = stage.relay.expire(5.0)
        assert isinstance(closed, RelayClosed)
        assert closed.code is Code.IDLE

    def test_idleness_may_be_left_to_keepalive(self, stage: RelayStage) -> None:
        stage.relay.receive(stage.client, open_frame()._replace(keepalive=True), 0.0)
        stage.relay.receive(stage.proxy, OpenResult(ONE, Code.OK, FLOOR), 0.0)
        assert stage.relay.expire(1e9) == []

    def test_drain_is_over(self, stage: RelayStage) -> None:
        stage.open(1)
        stage.relay.receive(stage.client, open_frame(2), 0.0)
        stage.proxy.outbox.take()
        closed, refused = stage.relay.reset_all(Code.DRAINING, 3.0)
        assert isinstance(closed, RelayClosed)
        assert isinstance(refused, RelayRefused)
        resets: list[Frame] = [Reset(ONE, Code.DRAINING), Reset(name(2), Code.DRAINING)]
        assert stage.client.outbox.take() == stage.proxy.outbox.take() == resets
        assert_nothing_left(stage)
