"""From an operator's words to a plan and a packet filter."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterable, Sequence
from ipaddress import ip_address, ip_network
from typing import Literal

from tunneler.addresses import HostPort, Network
from tunneler.capture.iptables import IptablesBackend
from tunneler.capture.libiptc import table_exists
from tunneler.capture.nftables import NftablesBackend
from tunneler.capture.rules import IP_VERSIONS, CaptureBackend, CapturePlan
from tunneler.errors import CaptureError, CaptureUnavailable

BackendName = Literal["auto", "iptables", "nftables"]

BACKENDS: dict[str, Callable[[], CaptureBackend]] = {
    "iptables": IptablesBackend,
    "nftables": NftablesBackend,
}


def backend(name: BackendName) -> CaptureBackend:
    """The packet filter of that name, or, with ``auto``, the one that this host uses.

    ``auto`` prefers, in this order: the one that holds rules of tunneler already, so that they are
    found again; the legacy tables if anybody uses them; nftables; the legacy tables.

    Raises:
        CaptureUnavailable: its library cannot be loaded, or, with ``auto``, this host has neither.
        CaptureError: with ``auto``, neither can be used.
    """
    return _used_by_this_host() if name == "auto" else BACKENDS[name]()


def plan_for(
    *,
    networks: Iterable[Network],
    listen_port: int,
    exclude: Iterable[Network] = (),
    servers: Sequence[HostPort] = (),
    gateway: bool = False,
    user: str | None = None,
) -> CapturePlan:
    """A plan that leaves the way to the servers free.

    Names of servers are resolved now, which takes as long as resolv.conf(5) allows; a plan is to be made
    anew, and checked, when they may have moved.

    Args:
        networks: what to capture.
        listen_port: where to redirect it.
        exclude: what not to capture.
        servers: their addresses are not captured either.
        gateway: capture for other hosts, too.
        user: whose connections are not captured; None or empty: everybody's are.

    Raises:
        CaptureError: the name of a server cannot be resolved.
    """
    server_networks = [network for server in servers for network in addresses_of(server)]
    return CapturePlan(
        networks=tuple(networks),
        listen_port=listen_port,
        excluded=(*exclude, *server_networks),
        gateway=gateway,
        user=user or None,
    )


def addresses_of(server: HostPort) -> list[Network]:
    """Each address of a server as a network of one.

    Raises:
        CaptureError: its name cannot be resolved.
    """
    try:
        found = socket.getaddrinfo(server.host, server.port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise CaptureError(
            f"{server}: cannot find the server's address, which must not be captured: {error}"
        ) from error
    addresses = {str(address[0]).partition("%")[0] for *_, address in found}
    return [ip_network(ip_address(address)) for address in sorted(addresses)]


def _used_by_this_host() -> CaptureBackend:
    legacy = any(table_exists(version, name) for version in IP_VERSIONS for name in ("nat", "filter"))
    usable: list[CaptureBackend] = []
    failures: dict[str, CaptureError] = {}
    for name in ("iptables", "nftables") if legacy else ("nftables", "iptables"):
        try:
            candidate = BACKENDS[name]()
            candidate.probe()
            # Without legacy tables there are no rules of ours in them: no need to load iptables as well.
            if candidate.installed() or not legacy:
                return candidate
            usable.append(candidate)
        except CaptureError as error:
            failures[name] = error
    if usable:
        return usable[0]
    absent = all(isinstance(error, CaptureUnavailable) for error in failures.values())
    reasons = "; ".join(f"{name}: {error}" for name, error in failures.items())
    raise (CaptureUnavailable if absent else CaptureError)(f"no packet filter can be used; {reasons}")
