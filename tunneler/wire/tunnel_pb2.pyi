from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Kind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    KIND_UNSPECIFIED: _ClassVar[Kind]
    OPEN: _ClassVar[Kind]
    OPEN_RESULT: _ClassVar[Kind]
    DATA: _ClassVar[Kind]
    FIN: _ClassVar[Kind]
    ACK: _ClassVar[Kind]
    RESET: _ClassVar[Kind]
    HELLO: _ClassVar[Kind]
    ROUTES: _ClassVar[Kind]
    ROUTES_RESULT: _ClassVar[Kind]
    HEARTBEAT: _ClassVar[Kind]
    DRAIN: _ClassVar[Kind]
    BYE: _ClassVar[Kind]

class Code(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    CODE_UNSPECIFIED: _ClassVar[Code]
    OK: _ClassVar[Code]
    REFUSED: _ClassVar[Code]
    UNREACHABLE: _ClassVar[Code]
    TIMEOUT: _ClassVar[Code]
    NO_ROUTE: _ClassVar[Code]
    DENIED: _ClassVar[Code]
    LIMITED: _ClassVar[Code]
    DRAINING: _ClassVar[Code]
    RESET_BY_PEER: _ClassVar[Code]
    IDLE: _ClassVar[Code]
    LINK_LOST: _ClassVar[Code]
    UNKNOWN_CONNECTION: _ClassVar[Code]
    PROTOCOL: _ClassVar[Code]
    FLOW_CONTROL: _ClassVar[Code]
    VERSION: _ClassVar[Code]
    CONFLICT: _ClassVar[Code]
    REPLACED: _ClassVar[Code]
    SILENT: _ClassVar[Code]
    INTERNAL: _ClassVar[Code]
KIND_UNSPECIFIED: Kind
OPEN: Kind
OPEN_RESULT: Kind
DATA: Kind
FIN: Kind
ACK: Kind
RESET: Kind
HELLO: Kind
ROUTES: Kind
ROUTES_RESULT: Kind
HEARTBEAT: Kind
DRAIN: Kind
BYE: Kind
CODE_UNSPECIFIED: Code
OK: Code
REFUSED: Code
UNREACHABLE: Code
TIMEOUT: Code
NO_ROUTE: Code
DENIED: Code
LIMITED: Code
DRAINING: Code
RESET_BY_PEER: Code
IDLE: Code
LINK_LOST: Code
UNKNOWN_CONNECTION: Code
PROTOCOL: Code
FLOW_CONTROL: Code
VERSION: Code
CONFLICT: Code
REPLACED: Code
SILENT: Code
INTERNAL: Code

class ClientMessage(_message.Message):
    __slots__ = ("frames",)
    FRAMES_FIELD_NUMBER: _ClassVar[int]
    frames: _containers.RepeatedCompositeFieldContainer[Frame]
    def __init__(self, frames: _Optional[_Iterable[_Union[Frame, _Mapping]]] = ...) -> None: ...

class ProxyMessage(_message.Message):
    __slots__ = ("frames",)
    FRAMES_FIELD_NUMBER: _ClassVar[int]
    frames: _containers.RepeatedCompositeFieldContainer[Frame]
    def __init__(self, frames: _Optional[_Iterable[_Union[Frame, _Mapping]]] = ...) -> None: ...

class ServerMessage(_message.Message):
    __slots__ = ("frames",)
    FRAMES_FIELD_NUMBER: _ClassVar[int]
    frames: _containers.RepeatedCompositeFieldContainer[Frame]
    def __init__(self, frames: _Optional[_Iterable[_Union[Frame, _Mapping]]] = ...) -> None: ...

class Frame(_message.Message):
    __slots__ = ("connection", "kind", "offset", "payload", "limit", "code", "open", "open_result", "hello", "routes", "routes_result")
    CONNECTION_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    PAYLOAD_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    CODE_FIELD_NUMBER: _ClassVar[int]
    OPEN_FIELD_NUMBER: _ClassVar[int]
    OPEN_RESULT_FIELD_NUMBER: _ClassVar[int]
    HELLO_FIELD_NUMBER: _ClassVar[int]
    ROUTES_FIELD_NUMBER: _ClassVar[int]
    ROUTES_RESULT_FIELD_NUMBER: _ClassVar[int]
    connection: bytes
    kind: Kind
    offset: int
    payload: bytes
    limit: int
    code: Code
    open: Open
    open_result: OpenResult
    hello: Hello
    routes: Routes
    routes_result: RoutesResult
    def __init__(self, connection: _Optional[bytes] = ..., kind: _Optional[_Union[Kind, str]] = ..., offset: _Optional[int] = ..., payload: _Optional[bytes] = ..., limit: _Optional[int] = ..., code: _Optional[_Union[Code, str]] = ..., open: _Optional[_Union[Open, _Mapping]] = ..., open_result: _Optional[_Union[OpenResult, _Mapping]] = ..., hello: _Optional[_Union[Hello, _Mapping]] = ..., routes: _Optional[_Union[Routes, _Mapping]] = ..., routes_result: _Optional[_Union[RoutesResult, _Mapping]] = ...) -> None: ...

class Address(_message.Message):
    __slots__ = ("ip", "port")
    IP_FIELD_NUMBER: _ClassVar[int]
    PORT_FIELD_NUMBER: _ClassVar[int]
    ip: bytes
    port: int
    def __init__(self, ip: _Optional[bytes] = ..., port: _Optional[int] = ...) -> None: ...

class Party(_message.Message):
    __slots__ = ("identity", "instance")
    IDENTITY_FIELD_NUMBER: _ClassVar[int]
    INSTANCE_FIELD_NUMBER: _ClassVar[int]
    identity: str
    instance: str
    def __init__(self, identity: _Optional[str] = ..., instance: _Optional[str] = ...) -> None: ...

class Open(_message.Message):
    __slots__ = ("source", "destination", "keepalive", "client")
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    DESTINATION_FIELD_NUMBER: _ClassVar[int]
    KEEPALIVE_FIELD_NUMBER: _ClassVar[int]
    CLIENT_FIELD_NUMBER: _ClassVar[int]
    source: Address
    destination: Address
    keepalive: bool
    client: Party
    def __init__(self, source: _Optional[_Union[Address, _Mapping]] = ..., destination: _Optional[_Union[Address, _Mapping]] = ..., keepalive: _Optional[bool] = ..., client: _Optional[_Union[Party, _Mapping]] = ...) -> None: ...

class OpenResult(_message.Message):
    __slots__ = ("proxy",)
    PROXY_FIELD_NUMBER: _ClassVar[int]
    proxy: Party
    def __init__(self, proxy: _Optional[_Union[Party, _Mapping]] = ...) -> None: ...

class Hello(_message.Message):
    __slots__ = ("version", "instance")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    INSTANCE_FIELD_NUMBER: _ClassVar[int]
    version: int
    instance: str
    def __init__(self, version: _Optional[int] = ..., instance: _Optional[str] = ...) -> None: ...

class Route(_message.Message):
    __slots__ = ("virtual_ip", "real_ip", "prefix_length")
    VIRTUAL_IP_FIELD_NUMBER: _ClassVar[int]
    REAL_IP_FIELD_NUMBER: _ClassVar[int]
    PREFIX_LENGTH_FIELD_NUMBER: _ClassVar[int]
    virtual_ip: bytes
    real_ip: bytes
    prefix_length: int
    def __init__(self, virtual_ip: _Optional[bytes] = ..., real_ip: _Optional[bytes] = ..., prefix_length: _Optional[int] = ...) -> None: ...

class Routes(_message.Message):
    __slots__ = ("group", "routes")
    GROUP_FIELD_NUMBER: _ClassVar[int]
    ROUTES_FIELD_NUMBER: _ClassVar[int]
    group: str
    routes: _containers.RepeatedCompositeFieldContainer[Route]
    def __init__(self, group: _Optional[str] = ..., routes: _Optional[_Iterable[_Union[Route, _Mapping]]] = ...) -> None: ...

class RoutesResult(_message.Message):
    __slots__ = ("conflicts",)
    CONFLICTS_FIELD_NUMBER: _ClassVar[int]
    conflicts: _containers.RepeatedCompositeFieldContainer[Route]
    def __init__(self, conflicts: _Optional[_Iterable[_Union[Route, _Mapping]]] = ...) -> None: ...
