"""What a role tells at its admin port: what it is, how it is, and what it carries at the moment."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from tunneler import __version__
from tunneler.addresses import Role
from tunneler.engine.keeper import LinkKeeper
from tunneler.protocol.relay import Relay
from tunneler.protocol.relay_connection import RelayLink

Report = dict[str, object]


def heading(role: Role, instance: str, state: str) -> Report:
    """What every role begins with."""
    return {"role": role.value, "version": __version__, "instance": instance, "state": state}


def links_of_relay(relay: Relay, addresses: Iterable[tuple[RelayLink, str]]) -> list[Report]:
    """A server's links.

    Args:
        addresses: each link, and where its peer is.
    """
    carried = Counter(id(link) for connection in relay.connections.values() for link in connection.ends)
    return [
        {
            "peer": str(link.party),
            "address": address,
            "state": "draining" if link.draining else "up",
            "connections": carried[id(link)],
        }
        for link, address in addresses
    ]


def routes_of_relay(relay: Relay) -> list[Report]:
    """What the proxies of a server have announced."""
    return [
        {
            "virtual": str(announced.route.virtual),
            "real": str(announced.route.real),
            "group": announced.group.name,
            "proxy": str(announced.member.party),
            "in_force": announced.in_force,
        }
        for announced in relay.routes
    ]


def links_of_keepers(keepers: Iterable[LinkKeeper]) -> list[Report]:
    """A client's or proxy's links: one for each server of its configuration, there or not."""
    return [
        {
            "server": str(keeper.server),
            "state": _state_of(keeper),
            "connections": len(keeper.end.splices) if keeper.end is not None else 0,
            "failure": keeper.failure,
        }
        for keeper in keepers
    ]


def _state_of(keeper: LinkKeeper) -> str:
    if keeper.end is None:
        return "down"
    if keeper.end.draining:
        return "draining"
    return "up" if keeper.end.usable else "greeting"
