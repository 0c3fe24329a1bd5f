"""Addresses, prefixes and their translation, and the names of connections and of parties.

Pure values: nothing here resolves a name or opens a socket.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from enum import StrEnum, unique
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Generic, NamedTuple, NewType, TypeVar

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

MAX_CACHED_ADDRESSES = 4096
"""Connections come from, and go to, few addresses; to read one takes as long as a system call."""


@lru_cache(maxsize=MAX_CACHED_ADDRESSES)
def address_of(written: str | bytes) -> Address:
    """The address that a text stands for, or 4 or 16 bytes in network order.

    Raises:
        ValueError: none.
    """
    if isinstance(written, str):
        return ip_address(written)
    return IPv4Address(written) if len(written) == 4 else IPv6Address(written)


ConnectionId = NewType("ConnectionId", bytes)
"""Sixteen bytes that name a connection on every host it crosses; shown as ``.hex()``."""

CONNECTION_ID_BYTES = 16
ANY_HOST = ""
"""Host part of ``:8081``: every address of this machine."""


@unique
class Role(StrEnum):
    """What a process of the suite is to its peers."""

    CLIENT = "client"
    SERVER = "server"
    PROXY = "proxy"


class Identity(NamedTuple):
    """Who a peer is, as its certificate says: ``spiffe://tunneler/<role>/<name>``."""

    role: Role
    name: str

    @classmethod
    def parse(cls, uri: str) -> Identity:
        """Read the URI of a certificate's subject alternative name.

        Raises:
            ValueError: not such a URI; the text of the error says what was expected.
        """
        match = re.fullmatch(r"spiffe://tunneler/(client|server|proxy)/([A-Za-z0-9._-]{1,64})", uri)
        if match is None:
            raise ValueError(f"expected spiffe://tunneler/<client|server|proxy>/<name>, not {uri!r}")
        return cls(Role(match[1]), match[2])

    @property
    def uri(self) -> str:
        return f"spiffe://tunneler/{self.role}/{self.name}"

    def __str__(self) -> str:
        return f"{self.role}/{self.name}"


class Endpoint(NamedTuple):
    """An IP address and a TCP port."""

    address: Address
    port: int

    @classmethod
    def of(cls, address: str, port: int) -> Endpoint:
        """Read what the socket module returns; a scope (``fe80::1%eth0``) is kept.

        Raises:
            ValueError: ``address`` is not an IP address.
        """
        return cls(address_of(address), port)

    def __str__(self) -> str:
        host = f"[{self.address}]" if self.address.version == 6 else str(self.address)
        return f"{host}:{self.port}"


class HostPort(NamedTuple):
    """Where to listen or dial, as an operator writes it; the host may be a name."""

    host: str
    port: int

    @classmethod
    def parse(cls, text: str) -> HostPort:
        """Read ``name:8081``, ``192.0.2.1:8081``, ``[2001:db8::1]:8081`` or ``:8081``.

        Raises:
            ValueError: anything else; the text of the error says what was expected.
        """
        host, colon, port = text.rpartition(":")
        if not colon or not (port.isascii() and port.isdigit() and 0 < int(port) < 65536):
            raise ValueError(f"expected HOST:PORT with a port from 1 to 65535, not {text!r}")
        bracketed = host.startswith("[") and host.endswith("]")
        if ":" in host and not bracketed:
            raise ValueError(f"write an IPv6 address in brackets, as [2001:db8::1]:8081, not {text!r}")
        if bracketed:
            try:
                host = str(IPv6Address(host[1:-1]))
            except ValueError:
                raise ValueError(f"expected an IPv6 address in the brackets of {text!r}") from None
        elif any(character.isspace() or character in "/@[]" for character in host):
            raise ValueError(f"expected HOST:PORT, not {text!r}")
        return cls(host, int(port))

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class FourTuple(NamedTuple):
    """What TCP itself calls a connection by."""

    source: Endpoint
    destination: Endpoint

    def connection_id(self, salt: bytes = b"") -> ConnectionId:
        """First 16 bytes of SHA-256 over ``src_ip:src_port->dst_ip:dst_port`` and the salt.

        The salt (who captured it, and a counter) keeps two clients, or one reused port,
        apart; without it the id is the plain hash, which anybody can recompute.
        """
        source, destination = self
        text = f"{source.address}:{source.port}->{destination.address}:{destination.port}"
        digest = hashlib.sha256(text.encode("ascii") + salt).digest()
        return ConnectionId(digest[:CONNECTION_ID_BYTES])


@dataclass(frozen=True, slots=True)
class Route:
    """A virtual prefix, as applications address it, and the real prefix behind it.

    Both have the same length, so that translation swaps the prefix and keeps the host bits.

    Raises:
        ValueError: on construction, when family or length differ.
    """

    virtual: Network
    real: Network

    def __post_init__(self) -> None:
        if self.virtual.version != self.real.version:
            raise ValueError(f"{self.virtual} and {self.real} are of different address families")
        if self.virtual.prefixlen != self.real.prefixlen:
            raise ValueError(f"{self.virtual} and {self.real} differ in prefix length")

    def translate(self, address: Address) -> Address:
        """Map a virtual address to the real one.

        Raises:
            ValueError: ``address`` is outside the virtual prefix.
        """
        if address not in self.virtual:
            raise ValueError(f"{address} is not in {self.virtual}")
        host_bits = int(address) & int(self.virtual.hostmask)
        return type(address)(int(self.real.network_address) | host_bits)

    def __str__(self) -> str:
        return str(self.real) if self.virtual == self.real else f"{self.virtual} -> {self.real}"


VIRTUAL_BASE_PREFIX_LENGTH = 16
"""The short form keeps the low 16 bits of a managed address, so its base is a /16."""


def routes_of_managed_network(managed: Network, virtual_base: IPv4Network) -> tuple[Route, ...]:
    """Expand the short form: the network under its own addresses and under ``virtual_base``.

    192.168.1.0/24 under 100.64.0.0/16 is also 100.64.1.0/24. Of a network larger than a /16
    only the first /16 fits: 10.0.0.0/8 is also 100.64.0.0/16, where 100.64.10.5 is 10.0.10.5.
    IPv6 has no short virtual form; it gets the identity alone.

    Raises:
        ValueError: ``virtual_base`` is not a /16.
    """
    if virtual_base.prefixlen != VIRTUAL_BASE_PREFIX_LENGTH:
        raise ValueError(f"virtual_base is a /16, not {virtual_base}")
    identity = Route(managed, managed)
    if isinstance(managed, IPv6Network):
        return (identity,)
    length = max(managed.prefixlen, VIRTUAL_BASE_PREFIX_LENGTH)
    low_bits = int(managed.network_address) & int(virtual_base.hostmask)
    virtual = IPv4Network((int(virtual_base.network_address) | low_bits, length))
    real = IPv4Network((managed.network_address, length))
    if virtual == managed:
        return (identity,)
    return (identity, Route(virtual, real))


Value = TypeVar("Value")


class PrefixTable(Generic[Value]):
    """Longest-prefix match over both address families.

    A look-up costs one dictionary probe for each prefix length present.
    """

    def __init__(self) -> None:
        self._by_length: dict[tuple[int, int], dict[int, Value]] = {}
        self._lengths: dict[int, list[tuple[int, int]]] = {4: [], 6: []}

    def __setitem__(self, network: Network, value: Value) -> None:
        key = (network.version, network.prefixlen)
        if key not in self._by_length:
            self._by_length[key] = {}
            self._index(network.version)
        self._by_length[key][int(network.network_address)] = value

    def __delitem__(self, network: Network) -> None:
        key = (network.version, network.prefixlen)
        entries = self._by_length[key]
        del entries[int(network.network_address)]
        if not entries:
            del self._by_length[key]
            self._index(network.version)

    def get(self, network: Network) -> Value | None:
        """The value stored for exactly this prefix."""
        return self._by_length.get((network.version, network.prefixlen), {}).get(int(network.network_address))

    def longest_match(self, address: Address) -> Value | None:
        """The value of the longest prefix that contains ``address``."""
        number = int(address)
        version = address.version
        for length, host_bits in self._lengths[version]:
            value = self._by_length[version, length].get(number >> host_bits << host_bits)
            if value is not None:
                return value
        return None

    def _index(self, version: int) -> None:
        width = 32 if version == 4 else 128
        lengths = sorted((length for family, length in self._by_length if family == version), reverse=True)
        self._lengths[version] = [(length, width - length) for length in lengths]


def parse_network(text: str) -> Network:
    """Read ``192.168.1.0/24``; an address alone is a network of one.

    Raises:
        ValueError: not a network, or host bits are set; then the error names the network meant.
    """
    try:
        return ip_network(text)
    except ValueError:
        try:
            meant = ip_network(text, strict=False)
        except ValueError:
            raise ValueError(f"expected a network such as 192.168.1.0/24, not {text!r}") from None
        raise ValueError(f"{text} has host bits set; did you mean {meant}?") from None
