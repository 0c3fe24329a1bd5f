"""What is to be captured, and what a packet filter must be able to do about it.

Pure: the plan is a value, the backend a Protocol. ``iptables.py`` and ``nftables.py``
implement it, ``select.py`` makes plans and picks backends.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from ipaddress import IPv4Network, IPv6Network, collapse_addresses
from typing import Literal, Protocol

from tunneler.addresses import Network

IPVersion = Literal[4, 6]
IP_VERSIONS: tuple[IPVersion, IPVersion] = (4, 6)

LOOPBACK: tuple[Network, ...] = (IPv4Network("127.0.0.0/8"), IPv6Network("::1/128"))
"""Never captured: the listener is reached through it, and no network lies behind it (RFC 1122, 3.2.1.3)."""


EVERYTHING: tuple[Network, ...] = (IPv4Network("0.0.0.0/0"), IPv6Network("::/0"))


@dataclass(frozen=True, slots=True)
class CapturePlan:
    """Which TCP connections go to the listener instead of where they were going.

    Networks are kept sorted, without overlaps, and loopback is always excluded: two plans
    are equal when they capture the same.

    Raises:
        ValueError: on construction, when ``listen_port`` is not a TCP port.
    """

    networks: tuple[Network, ...]
    """Connections to these are captured."""
    listen_port: int
    """Where they are redirected to; a TCP port of this host."""
    excluded: tuple[Network, ...] = ()
    """Connections to these are not, even inside ``networks``."""
    gateway: bool = False
    """Capture what other hosts send through this one, too."""
    user: str | None = None
    """Connections of this system user of this host (name or number) are not captured."""

    def __post_init__(self) -> None:
        if not 0 < self.listen_port < 65536:
            raise ValueError(f"expected a port from 1 to 65535, not {self.listen_port}")
        object.__setattr__(self, "networks", _collapsed(self.networks))
        object.__setattr__(self, "excluded", _collapsed((*self.excluded, *LOOPBACK)))

    def paused(self) -> CapturePlan:
        """The plan that captures nothing more, while what was captured goes on.

        Without any rule, the kernel would stop translating the connections that it redirected:
        connection tracking is on only while some rule needs it (nf_ct_netns_put in
        net/netfilter/nf_conntrack_proto.c). So the rules stay, behind an exclusion of everything.
        """
        return replace(self, excluded=EVERYTHING)

    def networks_of(self, version: IPVersion) -> tuple[Network, ...]:
        """The captured networks of one address family."""
        return tuple(network for network in self.networks if network.version == version)

    def excluded_of(self, version: IPVersion) -> tuple[Network, ...]:
        """The excluded networks of one address family."""
        return tuple(network for network in self.excluded if network.version == version)


def _collapsed(networks: Iterable[Network]) -> tuple[Network, ...]:
    networks = tuple(networks)
    return (
        *collapse_addresses(network for network in networks if isinstance(network, IPv4Network)),
        *collapse_addresses(network for network in networks if isinstance(network, IPv6Network)),
    )


class CaptureBackend(Protocol):
    """A packet filter, in the network namespace of the calling process.

    Each method needs CAP_NET_ADMIN (iptables: and CAP_NET_RAW), takes milliseconds and blocks
    meanwhile. Rules of others stay as they are, in their order.
    """

    @property
    def name(self) -> str:
        """What the operator calls it."""

    def install(self, plan: CapturePlan) -> None:
        """Make the rules be what the plan says, whatever they were before.

        No packet meets half of the rules: each address family (iptables) or everything
        (nftables) changes at once. Nothing is written if nothing differs.

        Raises:
            CaptureError: the kernel refused. With iptables and a plan of both families, one of
                them may have been changed; call :meth:`remove`.
        """

    def remove(self, *, sparing: bool = False) -> None:
        """Remove every rule of tunneler; harmless if there is none.

        Args:
            sparing: where connections are open that were captured, the rules stay and nothing leads to
                them any more: the kernel goes on translating (see :meth:`CapturePlan.paused`).

        Raises:
            CaptureError: the kernel refused.
        """

    def check(self, plan: CapturePlan) -> list[str]:
        """How the rules differ from the plan, one line each; empty: not at all.

        Raises:
            CaptureError: the rules cannot be read.
        """

    def installed(self) -> bool:
        """Whether there is any rule of tunneler, whole or in part.

        Raises:
            CaptureError: the rules cannot be read.
        """

    def probe(self) -> None:
        """Ask the kernel whether this packet filter can be used at all.

        Raises:
            CaptureUnavailable: it cannot, and will not be; the text says why.
            CaptureError: this process may not use it.
        """
