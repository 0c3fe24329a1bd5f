"""How one value is read: durations, sizes, addresses, networks, routes, and lists of them.

Every type here accepts the text of a file, a variable or a flag as well as the finished
value, so that a configuration can be made in code exactly as in a file. A validator says
what it expected; which source the value came from is added by :mod:`tunneler.config.load`.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from types import UnionType
from typing import Annotated, Any

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    PlainSerializer,
    PlainValidator,
    WithJsonSchema,
)
from pydantic_core import CoreSchema, core_schema

from tunneler.addresses import HostPort, Network, Route, parse_network

SECONDS_OF_UNIT = {"": 1.0, "ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
BYTES_OF_UNIT = {
    "": 1,
    "B": 1,
    "kB": 10**3,
    "MB": 10**6,
    "GB": 10**9,
    "KiB": 2**10,
    "MiB": 2**20,
    "GiB": 2**30,
}
LARGEST_QUANTITY = 1e18
"""Neither a duration nor a size; keeps infinity, not-a-number and huge integers out."""
IDENTIFIER = r"[A-Za-z0-9._-]{1,64}"
"""What names a client, a proxy or a group; the same alphabet as the name in a certificate."""
SYSTEM_USER = r"(?:[A-Za-z_][A-Za-z0-9_.-]{0,30}\$?|[0-9]{1,10})?"
"""What useradd(8) and the common directories accept, or a number."""


class RelativeToFile:
    """Marks a field whose relative path in a file starts at that file's directory."""


@dataclass(frozen=True)
class ReadBy:
    """Outermost annotation of a field: what reads its text, and examples of such text."""

    read: Callable[[object], object]
    examples: tuple[str, ...] = ()

    def __get_pydantic_core_schema__(self, source: object, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_before_validator_function(self.read, handler(source))

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        plain = handler(schema)
        if not self.examples:
            return plain
        return {"anyOf": [plain, {"type": "string", "examples": list(self.examples)}]}


def read_seconds(value: object) -> float:
    """Read a number of seconds, or text such as ``10s``, ``500ms``, ``5m`` or ``1h``."""
    return _quantity(value, SECONDS_OF_UNIT, "expected a duration such as 500ms, 10s, 5m or 1h")


def read_bytes(value: object) -> int:
    """Read a number of bytes, or text such as ``64MiB`` or ``1.5 GB``."""
    return int(_quantity(value, BYTES_OF_UNIT, "expected a size such as 64MiB, 1GiB or a number of bytes"))


def _quantity(value: object, units: Mapping[str, float], expected: str) -> float:
    # Python's True is 1; an operator's is not.
    if isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < LARGEST_QUANTITY:
        return value
    if isinstance(value, str):
        match = re.fullmatch(r"([0-9]{1,15}(?:\.[0-9]{1,9})?)\s*([A-Za-z]*)", value.strip())
        if match is not None and match[2] in units:
            return float(match[1]) * units[match[2]]
    raise ValueError(expected)


def _whole_number(value: object) -> object:
    if isinstance(value, (int, str)) and not isinstance(value, bool):
        return value
    raise ValueError("expected a whole number")


def _host_port(value: object) -> HostPort:
    if isinstance(value, HostPort):
        return value
    if isinstance(value, str):
        return HostPort.parse(value.strip())
    raise ValueError("expected HOST:PORT")


def _optional_host_port(value: object) -> HostPort | None:
    return None if value in (None, "") else _host_port(value)


def _network(value: object) -> Network:
    if isinstance(value, (IPv4Network, IPv6Network)):
        return value
    if isinstance(value, str):
        return parse_network(value.strip())
    raise ValueError("expected a network such as 192.168.1.0/24")


def _ipv4_network(value: object) -> IPv4Network:
    network = _network(value)
    if network.version == 4:
        return network
    raise ValueError("expected an IPv4 network")


def _identifier(value: object) -> str:
    if isinstance(value, str) and re.fullmatch(rf"(?:{IDENTIFIER})?", value):
        return value
    raise ValueError("expected up to 64 letters, digits, dots, dashes and underscores")


def _system_user(value: object) -> str:
    if isinstance(value, str) and re.fullmatch(SYSTEM_USER, value):
        return value
    raise ValueError("expected the name or number of a system user")


def _path_text(value: object) -> object:
    if isinstance(value, str):
        try:
            usable = b"\0" not in os.fsencode(value)
        except UnicodeEncodeError:
            usable = False
        if not usable:
            raise ValueError("expected a path")
    return value


def _optional_path(value: object) -> object:
    return None if value == "" else _path_text(value)


def sequence_of(
    finished: type | UnionType, *, json_text: bool = False
) -> Callable[[object], Sequence[object]]:
    """A validator that reads one value, a list, or text with commas, as a list.

    Args:
        finished: type of a finished element; a HostPort is a tuple and yet one value.
        json_text: text that starts with ``[`` or ``{`` is JSON, as in an environment variable.
    """

    def read(value: object) -> Sequence[object]:
        if isinstance(value, (finished, Mapping)):
            return (value,)
        if isinstance(value, str):
            text = value.strip()
            if json_text and text[:1] in ("[", "{"):
                return read(_from_json(text))
            return tuple(part.strip() for part in text.split(",")) if text else ()
        if isinstance(value, (list, tuple)):
            return value
        raise ValueError("expected one value or a list")

    return read


def _from_json(text: str) -> object:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        raise ValueError("expected JSON") from None


class RouteEntry(BaseModel):
    """A virtual prefix and the real prefix of the same length behind it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    virtual: Annotated[
        Network, PlainValidator(_network), WithJsonSchema({"type": "string", "examples": ["100.64.1.0/24"]})
    ] = Field(description="The prefix that applications address.")
    real: Annotated[
        Network, PlainValidator(_network), WithJsonSchema({"type": "string", "examples": ["192.168.1.0/24"]})
    ] = Field(description="The prefix behind it, of the same length.")


def _route_entry(value: object) -> object:
    if isinstance(value, Route):
        return {"virtual": value.virtual, "real": value.real}
    if isinstance(value, str):
        virtual, equals, real = value.partition("=")
        if not equals:
            raise ValueError("expected VIRTUAL=REAL, such as 100.64.1.0/24=192.168.1.0/24")
        return {"virtual": virtual, "real": real}
    return value


class _RouteAnnotation:
    """Teaches pydantic to read a :class:`Route`, naming ``virtual`` or ``real`` when one is wrong."""

    @classmethod
    def __get_pydantic_core_schema__(cls, source: object, handler: GetCoreSchemaHandler) -> CoreSchema:
        entry = handler.generate_schema(RouteEntry)
        built = core_schema.no_info_after_validator_function(
            lambda read: Route(read.virtual, read.real), entry
        )
        return core_schema.no_info_before_validator_function(_route_entry, built)


def one_or_many(item: dict[str, Any], minimum: int = 0) -> WithJsonSchema:
    """JSON Schema of a list that may be written as its only element."""
    return WithJsonSchema({"anyOf": [item, {"type": "array", "items": item, "minItems": minimum}]})


HOST_PORT_SCHEMA: dict[str, Any] = {
    "type": "string",
    "examples": ["relay.example.org:8081", "[2001:db8::1]:8081"],
}
NETWORK_SCHEMA: dict[str, Any] = {"type": "string", "examples": ["192.168.1.0/24", "2001:db8::/64"]}

_AS_TEXT = PlainSerializer(str, return_type=str)
_AS_TEXTS = PlainSerializer(lambda values: [str(value) for value in values], return_type=list[str])

SECONDS = ReadBy(read_seconds, examples=("500ms", "10s", "5m", "1h"))
BYTES = ReadBy(read_bytes, examples=("64MiB", "1GiB"))
WHOLE_NUMBER = ReadBy(_whole_number)
Count = Annotated[int, Field(ge=1, le=1_000_000), WHOLE_NUMBER]
Port = Annotated[int, Field(ge=1, le=65535), WHOLE_NUMBER]
FilePath = Annotated[
    Path | None, BeforeValidator(_optional_path), RelativeToFile(), WithJsonSchema({"type": "string"})
]
Identifier = Annotated[str, Field(pattern=rf"^(?:{IDENTIFIER})?$"), ReadBy(_identifier)]
OutputPath = Annotated[str, Field(min_length=1), ReadBy(_path_text), RelativeToFile()]
SystemUser = Annotated[str, Field(pattern=rf"^{SYSTEM_USER}$"), ReadBy(_system_user)]
ListenAddress = Annotated[HostPort, PlainValidator(_host_port), WithJsonSchema(HOST_PORT_SCHEMA), _AS_TEXT]
OptionalListenAddress = Annotated[
    HostPort | None,
    PlainValidator(_optional_host_port),
    WithJsonSchema({"type": "string", "examples": ["127.0.0.1:9998"]}),
    PlainSerializer(lambda address: str(address or ""), return_type=str),
]
HostPorts = Annotated[
    tuple[Annotated[HostPort, PlainValidator(_host_port)], ...],
    BeforeValidator(sequence_of(HostPort)),
    one_or_many(HOST_PORT_SCHEMA, minimum=1),
    _AS_TEXTS,
]
Networks = Annotated[
    tuple[Annotated[Network, PlainValidator(_network)], ...],
    BeforeValidator(sequence_of(Network)),
    one_or_many(NETWORK_SCHEMA),
    _AS_TEXTS,
]
VirtualBase = Annotated[
    IPv4Network, PlainValidator(_ipv4_network), WithJsonSchema({"type": "string"}), _AS_TEXT
]
Routes = Annotated[
    tuple[Annotated[Route, _RouteAnnotation], ...],
    BeforeValidator(sequence_of(Route, json_text=True)),
    PlainSerializer(
        lambda routes: [{"virtual": str(route.virtual), "real": str(route.real)} for route in routes],
        return_type=list[dict[str, str]],
    ),
]
