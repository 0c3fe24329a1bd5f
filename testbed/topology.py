"""The hosts of a lab, as data: who has which address, on which net, with which routes.

A net joins exactly two hosts, as a cable does; :mod:`testbed.namespaces` turns each into a
veth pair. Nothing here touches the kernel.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import (
    IPv4Address,
    IPv4Interface,
    IPv6Address,
    IPv6Interface,
    ip_address,
    ip_interface,
    ip_network,
)

from tunneler.addresses import Address, Network

InterfaceAddress = IPv4Interface | IPv6Interface

DEFAULT_IPV4 = ip_network("0.0.0.0/0")
DEFAULT_IPV6 = ip_network("::/0")


@dataclass(frozen=True, slots=True)
class Attachment:
    """One end of a net: the interface is named after the net."""

    net: str
    addresses: tuple[InterfaceAddress, ...]


@dataclass(frozen=True, slots=True)
class StaticRoute:
    """What lies behind a neighbour."""

    destination: Network
    via: Address


@dataclass(frozen=True, slots=True)
class HostSpec:
    """One host; its first IPv4 address is the one it is known by."""

    name: str
    attachments: tuple[Attachment, ...]
    routes: tuple[StaticRoute, ...] = ()
    forwards: bool = False

    def addresses(self, net: str | None = None) -> Iterator[Address]:
        """Its addresses in the order of the specification, on all nets or on one."""
        for attachment in self.attachments:
            if net in (None, attachment.net):
                yield from (address.ip for address in attachment.addresses)

    def ipv4(self, net: str | None = None) -> IPv4Address:
        """Its first IPv4 address; StopIteration never escapes, a LookupError says what is missing."""
        for address in self.addresses(net):
            if isinstance(address, IPv4Address):
                return address
        raise LookupError(f"{self.name} has no IPv4 address on {net or 'any net'}")

    def ipv6(self, net: str | None = None) -> IPv6Address:
        """Its first IPv6 address, else a LookupError."""
        for address in self.addresses(net):
            if isinstance(address, IPv6Address):
                return address
        raise LookupError(f"{self.name} has no IPv6 address on {net or 'any net'}")


@dataclass(frozen=True, slots=True)
class Topology:
    """All hosts of a lab.

    Raises:
        ValueError: on construction, when two hosts share a name or a net does not have two ends.
    """

    hosts: tuple[HostSpec, ...]

    def __post_init__(self) -> None:
        names = Counter(host.name for host in self.hosts)
        if names and max(names.values()) > 1:
            raise ValueError(f"host named twice: {', '.join(n for n, count in names.items() if count > 1)}")
        for net, ends in self.nets().items():
            if len(ends) != 2:
                raise ValueError(f"net {net} joins {len(ends)} hosts ({', '.join(ends)}), not two")

    def nets(self) -> dict[str, tuple[str, ...]]:
        """Net -> names of the hosts attached to it."""
        ends: dict[str, tuple[str, ...]] = {}
        for host in self.hosts:
            for attachment in host.attachments:
                ends[attachment.net] = (*ends.get(attachment.net, ()), host.name)
        return ends

    def host(self, name: str) -> HostSpec:
        """The host of that name, else a LookupError."""
        for host in self.hosts:
            if host.name == name:
                return host
        raise LookupError(f"no host {name} among {', '.join(host.name for host in self.hosts)}")


def standard_topology(*, second_site: bool = False, lan: bool = False) -> Topology:
    """The four hosts of the product's picture, and two extensions of it.

    ::

        lan ──── client ──── server ──┬── proxy ──── target      192.168.1.0/24
                                      └── proxy2 ─── target2     10.0.0.0/8

    The server forwards no packet and has no route to a site: what reaches a target went
    through tunneler, or through another program under comparison. The client has a default
    route, because a host needs a route for the destinations that it captures.

    Args:
        second_site: add proxy2 and target2.
        lan: add a host behind the client, which then forwards packets (gateway mode).
    """
    client = [_attach("access", "10.77.1.2/24", "fd77:1::2/64")]
    server = [
        _attach("access", "10.77.1.1/24", "fd77:1::1/64"),
        _attach("uplink", "10.77.2.1/24", "fd77:2::1/64"),
    ]
    sites = [*_site("", "uplink", 2, gateway=("192.168.1.1/24", "fd00:192:168:1::1/64"),
                    target=("192.168.1.5/24", "fd00:192:168:1::5/64"))]  # fmt: skip
    behind = []
    if second_site:
        server.append(_attach("uplink2", "10.77.3.1/24", "fd77:3::1/64"))
        sites += _site("2", "uplink2", 3, gateway=("10.0.10.1/8", "fd00:10::1/64"),
                       target=("10.0.10.5/8", "fd00:10::5/64"))  # fmt: skip
    if lan:
        client.append(_attach("lan", "10.55.0.1/24", "fd55::1/64"))
        inside = _attach("lan", "10.55.0.2/24", "fd55::2/64")
        behind.append(HostSpec("lan", (inside,), _default_via("10.55.0.1", "fd55::1")))
    return Topology(
        (
            HostSpec("client", tuple(client), _default_via("10.77.1.1", "fd77:1::1"), forwards=lan),
            HostSpec("server", tuple(server)),
            *sites,
            *behind,
        )
    )


def _site(
    suffix: str, uplink: str, number: int, *, gateway: tuple[str, str], target: tuple[str, str]
) -> tuple[HostSpec, HostSpec]:
    """A proxy and the target behind it; neither has a default route."""
    outside = _attach(uplink, f"10.77.{number}.2/24", f"fd77:{number}::2/64")
    net = f"site{suffix}"
    return (
        HostSpec(f"proxy{suffix}", (outside, _attach(net, *gateway))),
        HostSpec(f"target{suffix}", (_attach(net, *target),)),
    )


def _attach(net: str, *addresses: str) -> Attachment:
    return Attachment(net, tuple(ip_interface(address) for address in addresses))


def _default_via(ipv4: str, ipv6: str) -> tuple[StaticRoute, StaticRoute]:
    return (
        StaticRoute(DEFAULT_IPV4, ip_address(ipv4)),
        StaticRoute(DEFAULT_IPV6, ip_address(ipv6)),
    )
