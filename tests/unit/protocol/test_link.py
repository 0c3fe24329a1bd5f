"""Greeting, liveness, and who may say what on a link."""

from __future__ import annotations

import pytest

from tests.unit.protocol.cast import ROUTE, asleep, name, open_frame
from tunneler.addresses import Role
from tunneler.errors import Code, LinkFault
from tunneler.protocol.events import LinkOpened, PeerDraining, PeerLeft, RoutesAccepted, RoutesAnnounced
from tunneler.protocol.frames import (
    PROTOCOL_VERSION,
    Ack,
    Bye,
    Data,
    Drain,
    Fin,
    Frame,
    Heartbeat,
    Hello,
    OpenResult,
    Reset,
    Routes,
    RoutesResult,
)
from tunneler.protocol.link import Link, Timing
from tunneler.protocol.outbox import MAX_CONTROL_FRAMES

TIMING = Timing(heartbeat=5.0, silence=15.0, handshake=10.0)
HELLO = Hello(PROTOCOL_VERSION, "them")
ROUTES = Routes("group", (ROUTE,))
PAIRS = [
    (Role.SERVER, Role.CLIENT),
    (Role.SERVER, Role.PROXY),
    (Role.CLIENT, Role.SERVER),
    (Role.PROXY, Role.SERVER),
]
OF_CONNECTIONS: list[Frame] = [
    open_frame(),
    OpenResult(name(1), Code.OK, 1),
    Data(name(1), 0, b"x"),
    Fin(name(1), 0),
    Ack(name(1), 0, 0),
    Reset(name(1), Code.IDLE),
]


def link(local: Role = Role.SERVER, peer: Role = Role.CLIENT) -> Link:
    return Link(local, peer, "us", TIMING, 0.0, wake=asleep)


def greeted(local: Role = Role.SERVER, peer: Role = Role.CLIENT) -> Link:
    """A link on which both have said HELLO, at time 0."""
    made = link(local, peer)
    made.take(0.0)
    made.receive(HELLO)
    return made


class TestGreeting:
    def test_hello_goes_first(self) -> None:
        made = link()
        made.outbox.put_control(Heartbeat())
        assert made.take(0.0) == [Hello(PROTOCOL_VERSION, "us"), Heartbeat()]

    def test_hello_comes(self) -> None:
        made = link()
        assert made.peer_instance is None
        assert made.receive(HELLO) == LinkOpened("them")
        assert made.peer_instance == "them"

    @pytest.mark.parametrize(
        "frame",
        [*OF_CONNECTIONS, ROUTES, RoutesResult(()), Heartbeat(), Drain()],
        ids=lambda f: type(f).__name__,
    )
    def test_anything_before_hello(self, frame: Frame) -> None:
        with pytest.raises(LinkFault, match=f"{type(frame).__name__} before Hello"):
            link(Role.SERVER, Role.PROXY).receive(frame)

    def test_peer_may_leave_before_hello(self) -> None:
        assert link().receive(Bye(Code.DRAINING)) == PeerLeft(Code.DRAINING)

    def test_hello_twice(self) -> None:
        with pytest.raises(LinkFault, match="second time"):
            greeted().receive(HELLO)

    @pytest.mark.parametrize("version", [0, PROTOCOL_VERSION + 1])
    def test_another_version(self, version: int) -> None:
        made = link()
        with pytest.raises(LinkFault, match=f"version {version}") as caught:
            made.receive(Hello(version, "them"))
        assert caught.value.code is Code.VERSION
        assert made.peer_instance is None


class TestWhoMaySayWhat:
    @pytest.mark.parametrize(("local", "peer"), PAIRS)
    @pytest.mark.parametrize("frame", OF_CONNECTIONS, ids=lambda frame: type(frame).__name__)
    def test_frames_of_connections_pass_as_they_are(self, local: Role, peer: Role, frame: Frame) -> None:
        assert greeted(local, peer).receive(frame) is frame

    @pytest.mark.parametrize(("local", "peer"), PAIRS)
    def test_what_anybody_may_say(self, local: Role, peer: Role) -> None:
        made = greeted(local, peer)
        assert made.receive(Heartbeat()) is None
        assert made.receive(Drain()) == PeerDraining()
        assert made.receive(Bye(Code.REPLACED)) == PeerLeft(Code.REPLACED)

    def test_proxy_announces_routes_and_server_answers(self) -> None:
        assert greeted(Role.SERVER, Role.PROXY).receive(ROUTES) == RoutesAnnounced("group", (ROUTE,))
        assert greeted(Role.PROXY, Role.SERVER).receive(RoutesResult((ROUTE,))) == RoutesAccepted((ROUTE,))

    @pytest.mark.parametrize(("local", "peer"), [pair for pair in PAIRS if pair[1] is not Role.PROXY])
    def test_routes_by_anybody_else(self, local: Role, peer: Role) -> None:
        with pytest.raises(LinkFault, match=f"a {peer} may not send Routes"):
            greeted(local, peer).receive(ROUTES)

    @pytest.mark.parametrize(("local", "peer"), [pair for pair in PAIRS if pair[0] is not Role.PROXY])
    def test_answer_to_routes_of_nobody(self, local: Role, peer: Role) -> None:
        with pytest.raises(LinkFault, match=f"a {peer} may not send RoutesResult"):
            greeted(local, peer).receive(RoutesResult(()))


class TestLiveness:
    def test_heartbeat_when_nothing_else_was_sent(self) -> None:
        made = greeted()
        made.tick(4.9)
        assert not made.outbox
        made.tick(5.0)
        made.tick(5.1)
        assert made.take(5.1) == [Heartbeat()]
        made.tick(10.0)
        assert not made.outbox
        made.tick(10.1)
        assert made.take(10.1) == [Heartbeat()]

    def test_other_frames_are_as_good_as_a_heartbeat(self) -> None:
        made = greeted()
        made.outbox.put_control(Ack(name(1), 0, 0))
        made.tick(5.0)
        assert made.take(5.0) == [Ack(name(1), 0, 0)]
        made.tick(9.9)
        assert not made.outbox

    def test_silent_peer_is_dead(self) -> None:
        made = greeted()
        made.heard(3.0)
        made.tick(18.0)
        with pytest.raises(LinkFault, match=r"nothing heard for 15\.1 s") as caught:
            made.tick(18.1)
        assert caught.value.code is Code.SILENT

    def test_another_timing(self) -> None:
        made = greeted()
        made.timing = Timing(heartbeat=1.0, silence=3.0, handshake=10.0)
        made.tick(1.0)
        assert made.take(1.0) == [Heartbeat()]
        with pytest.raises(LinkFault, match=r"nothing heard for 3\.1 s"):
            made.tick(3.1)

    def test_any_batch_proves_life(self) -> None:
        made = greeted()
        for now in range(0, 100, 14):
            made.heard(float(now))
            made.tick(now + 14.0)

    def test_hello_is_awaited_less_long(self) -> None:
        made = link()
        made.tick(10.0)
        with pytest.raises(LinkFault) as caught:
            made.tick(10.1)
        assert caught.value.code is Code.SILENT

    def test_empty_batches_are_no_greeting(self) -> None:
        made = link()
        for now in range(10):
            made.heard(float(now))
        with pytest.raises(LinkFault):
            made.tick(10.1)

    def test_peer_that_reads_nothing_loses_its_link(self) -> None:
        made = greeted()
        for _ in range(MAX_CONTROL_FRAMES + 1):
            made.outbox.put_control(Reset(name(1), Code.UNKNOWN_CONNECTION))
        with pytest.raises(LinkFault, match="without reading") as caught:
            made.tick(1.0)
        assert caught.value.code is Code.LIMITED
