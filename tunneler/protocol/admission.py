"""Whether a server takes a new connection, and which proxy gets it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from tunneler.errors import Code
from tunneler.protocol.relay_connection import RelayLink
from tunneler.protocol.window import FLOOR, Budget


class RelayLimits(NamedTuple):
    """What one server holds at most; seconds for the timeouts (idle 0: never)."""

    connections: int
    connections_per_link: int
    routes_per_proxy: int
    opening_timeout: float
    idle_timeout: float


def has_room(limits: RelayLimits, budget: Budget, connections: int, of_this_link: int) -> bool:
    """Whether one more connection is within the limits, and within memory.

    Bytes of connections that have ended wait in outboxes too. They may use up the budget, but
    not what every connection is promised beyond it, in both directions.
    """
    promised = budget.total + 2 * FLOOR * connections
    return (
        connections < limits.connections
        and of_this_link < limits.connections_per_link
        and budget.outstanding <= promised
    )


def pick_proxy(members: Sequence[RelayLink]) -> RelayLink | Code:
    """Of the proxies that serve an address, the one with the fewest connections."""
    if not members:
        return Code.NO_ROUTE
    ready = [proxy for proxy in members if not proxy.draining and not proxy.outbox.overrun]
    if not ready:
        return Code.DRAINING
    return min(ready, key=lambda proxy: len(proxy.connections))
