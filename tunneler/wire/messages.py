"""Frames to protobuf messages and back: the general path of the codec.

Whatever protobuf lets through but the protocol does not (a missing id, an address of five
bytes, a kind nobody knows) stops here, as a :class:`LinkFault`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from ipaddress import IPv4Network, IPv6Network
from typing import Any, Final

from tunneler.addresses import (
    CONNECTION_ID_BYTES,
    ConnectionId,
    Endpoint,
    Identity,
    Network,
    Route,
    address_of,
)
from tunneler.errors import Code, LinkFault
from tunneler.protocol.frames import (
    MAX_OFFSET,
    MAX_PAYLOAD,
    Ack,
    Bye,
    Data,
    Drain,
    Fin,
    Frame,
    Heartbeat,
    Hello,
    Open,
    OpenResult,
    Party,
    Reset,
    Routes,
    RoutesResult,
)
from tunneler.wire import tunnel_pb2 as pb

MAX_NAME = 64
"""Characters of an instance or group name."""

MAX_CACHED_PARTIES = 1024
"""Every OPEN and OPEN_RESULT names a party, and there are few."""

_CODES: Final = {int(code): code for code in Code}

MAX_ROUTES = 4096
"""Routes in one frame; what a server accepts of a proxy is configured, and lower."""


def message_of_frame(frame: Frame) -> pb.Frame:
    """The protobuf message of any frame."""
    write = _WRITERS.get(type(frame))
    if write is None:
        raise TypeError(f"{frame!r} is not a frame")
    return write(frame)


def _write_open(frame: Open) -> pb.Frame:
    body = pb.Open(
        source=_message_of_endpoint(frame.source),
        destination=_message_of_endpoint(frame.destination),
        keepalive=frame.keepalive,
        client=_message_of_party(frame.client),
    )
    return pb.Frame(connection=frame.connection, kind=pb.OPEN, limit=frame.limit, open=body)


def _write_open_result(frame: OpenResult) -> pb.Frame:
    body = pb.OpenResult(proxy=_message_of_party(frame.proxy))
    return pb.Frame(
        connection=frame.connection,
        kind=pb.OPEN_RESULT,
        limit=frame.limit,
        code=frame.code.name,
        open_result=body,
    )


def _write_data(frame: Data) -> pb.Frame:
    return pb.Frame(connection=frame.connection, kind=pb.DATA, offset=frame.offset, payload=frame.payload)


def _write_fin(frame: Fin) -> pb.Frame:
    return pb.Frame(connection=frame.connection, kind=pb.FIN, offset=frame.offset)


def _write_ack(frame: Ack) -> pb.Frame:
    return pb.Frame(connection=frame.connection, kind=pb.ACK, offset=frame.offset, limit=frame.limit)


def _write_reset(frame: Reset) -> pb.Frame:
    return pb.Frame(connection=frame.connection, kind=pb.RESET, code=frame.code.name)


def _write_hello(frame: Hello) -> pb.Frame:
    return pb.Frame(kind=pb.HELLO, hello=pb.Hello(version=frame.version, instance=frame.instance))


def _write_routes(frame: Routes) -> pb.Frame:
    routes = pb.Routes(group=frame.group, routes=map(_message_of_route, frame.routes))
    return pb.Frame(kind=pb.ROUTES, routes=routes)


def _write_routes_result(frame: RoutesResult) -> pb.Frame:
    result = pb.RoutesResult(conflicts=map(_message_of_route, frame.conflicts))
    return pb.Frame(kind=pb.ROUTES_RESULT, routes_result=result)


def _write_heartbeat(frame: Heartbeat) -> pb.Frame:
    return pb.Frame(kind=pb.HEARTBEAT)


def _write_drain(frame: Drain) -> pb.Frame:
    return pb.Frame(kind=pb.DRAIN)


def _write_bye(frame: Bye) -> pb.Frame:
    return pb.Frame(kind=pb.BYE, code=frame.code.name)


_WRITERS: Final[dict[type, Callable[[Any], pb.Frame]]] = {
    Open: _write_open,
    OpenResult: _write_open_result,
    Data: _write_data,
    Fin: _write_fin,
    Ack: _write_ack,
    Reset: _write_reset,
    Hello: _write_hello,
    Routes: _write_routes,
    RoutesResult: _write_routes_result,
    Heartbeat: _write_heartbeat,
    Drain: _write_drain,
    Bye: _write_bye,
}


def _message_of_endpoint(endpoint: Endpoint) -> pb.Address:
    return pb.Address(ip=endpoint.address.packed, port=endpoint.port)


@lru_cache(maxsize=MAX_CACHED_PARTIES)
def _message_of_party(party: Party | None) -> pb.Party | None:
    return pb.Party(identity=party.identity.uri, instance=party.instance) if party else None


def _message_of_route(route: Route) -> pb.Route:
    return pb.Route(
        virtual_ip=route.virtual.network_address.packed,
        real_ip=route.real.network_address.packed,
        prefix_length=route.virtual.prefixlen,
    )


def frame_of_message(message: pb.Frame) -> Frame:
    """Read any frame.

    Raises:
        LinkFault: a kind nobody knows, or a field missing or out of its bounds.
    """
    read = _READERS.get(message.kind)
    if read is None:
        raise LinkFault(f"unknown frame kind {message.kind}")
    try:
        return read(message)
    except ValueError as error:
        raise LinkFault(f"bad {pb.Kind.Name(message.kind)} frame: {error}") from error


def _read_open(message: pb.Frame) -> Open:
    body = _present(message, "open").open
    return Open(
        _connection(message),
        _endpoint(body.source),
        _endpoint(body.destination),
        _limit(message),
        body.keepalive,
        _party(body.client) if body.HasField("client") else None,
    )


def _read_open_result(message: pb.Frame) -> OpenResult:
    body = message.open_result
    proxy = _party(body.proxy) if body.HasField("proxy") else None
    code = _code(message)
    return OpenResult(_connection(message), code, _limit(message) if code is Code.OK else 0, proxy)


def _read_data(message: pb.Frame) -> Data:
    if not 0 < len(message.payload) <= MAX_PAYLOAD:
        raise ValueError(f"a payload of {len(message.payload)} bytes")
    return Data(_connection(message), _offset(message), message.payload)


def _read_hello(message: pb.Frame) -> Hello:
    body = _present(message, "hello").hello
    return Hello(body.version, _name(body.instance))


def _read_routes(message: pb.Frame) -> Routes:
    body = _present(message, "routes").routes
    if len(body.routes) > MAX_ROUTES:
        raise ValueError(f"{len(body.routes)} routes are more than {MAX_ROUTES}")
    return Routes(_name(body.group), tuple(map(_route, body.routes)))


def _read_routes_result(message: pb.Frame) -> RoutesResult:
    return RoutesResult(tuple(map(_route, message.routes_result.conflicts)))


_READERS: Final[dict[int, Callable[[pb.Frame], Frame]]] = {
    pb.OPEN: _read_open,
    pb.OPEN_RESULT: _read_open_result,
    pb.DATA: _read_data,
    pb.FIN: lambda message: Fin(_connection(message), _offset(message)),
    pb.ACK: lambda message: Ack(_connection(message), _offset(message), _limit(message)),
    pb.RESET: lambda message: Reset(_connection(message), _code(message)),
    pb.HELLO: _read_hello,
    pb.ROUTES: _read_routes,
    pb.ROUTES_RESULT: _read_routes_result,
    pb.HEARTBEAT: lambda message: Heartbeat(),
    pb.DRAIN: lambda message: Drain(),
    pb.BYE: lambda message: Bye(_code(message)),
}


def _present(message: pb.Frame, field: str) -> pb.Frame:
    if not message.HasField(field):
        raise ValueError(f"no {field}")
    return message


def _connection(message: pb.Frame) -> ConnectionId:
    if len(message.connection) != CONNECTION_ID_BYTES:
        raise ValueError(f"a connection id of {len(message.connection)} bytes")
    return ConnectionId(message.connection)


def _offset(message: pb.Frame) -> int:
    return _bounded(_present(message, "offset").offset)


def _limit(message: pb.Frame) -> int:
    return _bounded(_present(message, "limit").limit)


def _bounded(offset: int) -> int:
    if offset > MAX_OFFSET:
        raise ValueError(f"offset {offset} is out of all proportion")
    return offset


def _code(message: pb.Frame) -> Code:
    code = _CODES.get(message.code)
    if code is None:
        raise ValueError(f"{message.code} is not a code")
    return code


def _endpoint(message: pb.Address) -> Endpoint:
    if not 0 < message.port < 65536:
        raise ValueError(f"port {message.port}")
    return Endpoint(address_of(message.ip), message.port)


def _name(text: str) -> str:
    """Instance and group names end up in logs and metrics of other people."""
    if not 0 < len(text) <= MAX_NAME or not text.isascii() or not text.isprintable() or " " in text:
        raise ValueError(f"{text[:MAX_NAME]!r} is not a name of 1 to {MAX_NAME} printable characters")
    return text


def _party(message: pb.Party) -> Party:
    return _checked_party(message.identity, message.instance)


@lru_cache(maxsize=MAX_CACHED_PARTIES)
def _checked_party(identity: str, instance: str) -> Party:
    return Party(Identity.parse(identity), _name(instance))


def _route(message: pb.Route) -> Route:
    return Route(
        _network(message.virtual_ip, message.prefix_length), _network(message.real_ip, message.prefix_length)
    )


def _network(packed: bytes, length: int) -> Network:
    if len(packed) == 4:
        return IPv4Network((packed, length))
    return IPv6Network((packed, length))
