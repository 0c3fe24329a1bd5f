"""What roles hold for connections, counted from the inside: nothing, while there is none."""

from __future__ import annotations

from tunneler.engine.splice import Splice
from tunneler.roles.dialing import DialingRole
from tunneler.roles.server import Server


def held_by_dialler(name: str, role: DialingRole) -> list[str]:
    budget = role._budget
    sizes = {
        "budgeted connections": budget.connections,
        "outstanding bytes": budget.outstanding,
        "watched sockets": watched_splices(role),
    }
    for end in role.ends:
        sizes["splices"] = len(end.splices)
        sizes["waiting splices"] = len(end._waiting)
        sizes["connections"] = len(end.endpoint.connections)
        sizes["opening"] = len(end.endpoint._opening)
        sizes["idle"] = len(end.endpoint._idle)
        sizes["lanes"] = len(end._outbox._lanes)
    return [f"{name}: {count} {what}" for what, count in sizes.items() if count]


def watched_splices(role: DialingRole) -> int:
    """Entries of the reactor that are not listening sockets."""
    callbacks = role.reactor._ready.values()
    return sum(isinstance(getattr(ready, "__self__", None), Splice) for ready in callbacks)


def held_by_server(server: Server) -> list[str]:
    relay = server.relay
    sizes = {
        "connections": len(relay.connections),
        "opening": len(relay._opening),
        "idle": len(relay._idle),
        "held back": len(relay._held_back),
        "budgeted connections": server.budget.connections,
        "outstanding bytes": server.budget.outstanding,
        "connections of links": sum(len(link.connections) for link in relay.links),
        "queued bytes": sum(link.driver.link.outbox.size for link in server.links),
    }
    return [f"server: {count} {what}" for what, count in sizes.items() if count]
