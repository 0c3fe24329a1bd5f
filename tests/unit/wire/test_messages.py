"""Whatever protobuf lets through but the protocol does not, one message at a time."""

from __future__ import annotations

import pytest
from hypothesis import given

from tests.unit.protocol.cast import CLIENT, SOURCE, TARGET, name, route
from tests.unit.wire.strategies import frames, told_apart
from tunneler.addresses import Identity
from tunneler.errors import Code, LinkFault
from tunneler.protocol.frames import MAX_OFFSET, Frame, Open, OpenResult
from tunneler.wire import tunnel_pb2 as pb
from tunneler.wire.messages import MAX_NAME, MAX_ROUTES, frame_of_message, message_of_frame

NAME = name(1)
ADDRESS = pb.Address(ip=b"\x7f\x00\x00\x01", port=80)
OPEN = pb.Open(source=ADDRESS, destination=ADDRESS)
PARTY = pb.Party(identity="spiffe://tunneler/proxy/site", instance="proxy-1")
ROUTE = pb.Route(virtual_ip=b"\x64\x40\x01\x00", real_ip=b"\xc0\xa8\x01\x00", prefix_length=24)


@given(frames)
def test_there_and_back(frame: Frame) -> None:
    assert told_apart([frame_of_message(message_of_frame(frame))]) == told_apart([frame])


def test_not_a_frame() -> None:
    with pytest.raises(TypeError, match="is not a frame"):
        message_of_frame(object())  # type: ignore[arg-type]


def test_every_code_has_its_value_on_the_wire() -> None:
    assert {code.name: code.value for code in Code} | {"CODE_UNSPECIFIED": 0} == dict(pb.Code.items())


def opening(**changes: object) -> pb.Frame:
    """An OPEN with something changed in its body."""
    body = pb.Open()
    body.CopyFrom(OPEN)
    for field, value in changes.items():
        getattr(body, field).CopyFrom(value)
    return pb.Frame(connection=NAME, kind=pb.OPEN, limit=0, open=body)


def greeting(instance: str) -> pb.Frame:
    return pb.Frame(kind=pb.HELLO, hello=pb.Hello(version=1, instance=instance))


def announcing(*routes: pb.Route, group: str = "group") -> pb.Frame:
    return pb.Frame(kind=pb.ROUTES, routes=pb.Routes(group=group, routes=routes))


def changed_route(**changes: object) -> pb.Route:
    made = pb.Route()
    made.CopyFrom(ROUTE)
    made.MergeFrom(pb.Route(**changes))  # type: ignore[arg-type]
    return made


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        pytest.param(pb.Frame(), "unknown frame kind 0", id="nothing"),
        pytest.param(pb.Frame(kind=7), "unknown frame kind 7", id="RESUME, reserved"),  # type: ignore[arg-type]
        pytest.param(pb.Frame(kind=99), "unknown frame kind 99", id="unknown kind"),  # type: ignore[arg-type]
        pytest.param(pb.Frame(kind=pb.FIN, offset=0), "id of 0 bytes", id="no id"),
        pytest.param(pb.Frame(kind=pb.FIN, offset=0, connection=b"x" * 15), "id of 15 bytes", id="short id"),
        pytest.param(pb.Frame(kind=pb.FIN, offset=0, connection=b"x" * 17), "id of 17 bytes", id="long id"),
        pytest.param(pb.Frame(kind=pb.FIN, connection=NAME), "no offset", id="FIN nowhere"),
        pytest.param(pb.Frame(kind=pb.DATA, connection=NAME, payload=b"x"), "no offset", id="DATA nowhere"),
        pytest.param(pb.Frame(kind=pb.DATA, connection=NAME, offset=0), "payload of 0", id="no payload"),
        pytest.param(
            pb.Frame(kind=pb.DATA, connection=NAME, offset=0, payload=b""), "payload of 0", id="empty payload"
        ),
        pytest.param(pb.Frame(kind=pb.ACK, connection=NAME, offset=0), "no limit", id="ACK without limit"),
        pytest.param(pb.Frame(kind=pb.ACK, connection=NAME, limit=0), "no offset", id="ACK without offset"),
        pytest.param(
            pb.Frame(kind=pb.FIN, connection=NAME, offset=MAX_OFFSET + 1), "proportion", id="offset too large"
        ),
        pytest.param(pb.Frame(kind=pb.RESET, connection=NAME), "0 is not a code", id="RESET without code"),
        pytest.param(
            pb.Frame(kind=pb.RESET, connection=NAME, code=99),  # type: ignore[arg-type]
            "99 is not a code",
            id="unknown code",
        ),
        pytest.param(pb.Frame(kind=pb.BYE), "0 is not a code", id="BYE without code"),
        pytest.param(
            pb.Frame(kind=pb.OPEN_RESULT, connection=NAME, limit=1), "0 is not", id="answer without code"
        ),
        pytest.param(
            pb.Frame(kind=pb.OPEN_RESULT, connection=NAME, code=pb.OK), "no limit", id="ok without limit"
        ),
        pytest.param(pb.Frame(kind=pb.OPEN, connection=NAME, limit=0), "no open", id="OPEN without body"),
        pytest.param(pb.Frame(kind=pb.OPEN, connection=NAME, open=OPEN), "no limit", id="OPEN without limit"),
        pytest.param(opening(source=pb.Address(ip=b"12345", port=1)), "OPEN", id="address of five bytes"),
        pytest.param(opening(destination=pb.Address(port=65536)), "65536", id="port too large"),
        pytest.param(opening(client=pb.Party()), "expected spiffe", id="party without identity"),
        pytest.param(
            opening(client=pb.Party(identity=PARTY.identity)), "not a name", id="party without instance"
        ),
        pytest.param(
            opening(client=pb.Party(identity="spiffe://tunneler/admin/x", instance="y")),
            "expected spiffe",
            id="unknown role",
        ),
        pytest.param(pb.Frame(kind=pb.HELLO), "no hello", id="HELLO without body"),
        pytest.param(greeting(""), "not a name", id="no name"),
        pytest.param(greeting("x" * (MAX_NAME + 1)), "not a name", id="long name"),
        pytest.param(greeting("two words"), "not a name", id="space in a name"),
        pytest.param(greeting("new\nline"), "not a name", id="line feed in a name"),
        pytest.param(greeting("n\u00e4me"), "not a name", id="name beyond ASCII"),
        pytest.param(greeting("\x1b[31m"), "not a name", id="escape sequence in a name"),
        pytest.param(pb.Frame(kind=pb.ROUTES), "no routes", id="ROUTES without body"),
        pytest.param(announcing(ROUTE, group=""), "not a name", id="no group"),
        pytest.param(announcing(*[ROUTE] * (MAX_ROUTES + 1)), "4097 routes", id="too many routes"),
        pytest.param(announcing(changed_route(prefix_length=16)), "host bits", id="host bits"),
        pytest.param(announcing(changed_route(prefix_length=33)), "33", id="prefix too long"),
        pytest.param(announcing(changed_route(real_ip=bytes(16))), "families", id="mixed families"),
        pytest.param(announcing(changed_route(real_ip=bytes(3))), "ROUTES", id="address of three bytes"),
        pytest.param(announcing(pb.Route()), "ROUTES", id="no addresses"),
    ],
)
def test_bad_message(message: pb.Frame, reason: str) -> None:
    with pytest.raises(LinkFault, match=reason) as caught:
        frame_of_message(message)
    assert "\n" not in str(caught.value)
    with pytest.raises(LinkFault):
        frame_of_message(pb.Frame.FromString(message.SerializeToString()))


def test_limit_of_a_failed_open_means_nothing() -> None:
    message = pb.Frame(connection=NAME, kind=pb.OPEN_RESULT, code=pb.REFUSED, limit=2**63)
    assert frame_of_message(message) == OpenResult(NAME, Code.REFUSED, 0, None)


def test_open_field_by_field() -> None:
    message = message_of_frame(Open(NAME, SOURCE, TARGET, 65536, True, CLIENT))
    assert message == pb.Frame(
        connection=NAME,
        kind=pb.OPEN,
        limit=65536,
        open=pb.Open(
            source=pb.Address(ip=bytes((192, 0, 2, 7)), port=40000),
            destination=pb.Address(ip=bytes((100, 64, 1, 5)), port=80),
            keepalive=True,
            client=pb.Party(identity="spiffe://tunneler/client/laptop", instance="client-1"),
        ),
    )
    assert Identity.parse(message.open.client.identity) == CLIENT.identity


def test_route_field_by_field() -> None:
    assert frame_of_message(announcing(ROUTE)).routes == (  # type: ignore[union-attr]
        route("100.64.1.0/24", "192.168.1.0/24"),
    )
