"""The story of one connection, told by the logs of the three roles.

The steps are those by which the product is explained. Each is told by the event that proves
it, with the values of that event; a step whose event is missing is not told at all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime

from testbed.suite import Event


@dataclass(frozen=True, slots=True)
class Chapter:
    """What one event of a log proves.

    ``when`` is in milliseconds since the first event of the connection, as exact as the logs are.
    """

    when: float
    decimals: int
    host: str
    event: str
    steps: tuple[tuple[int, str], ...]


class IncompleteStory(Exception):
    """The logs do not show all that should have happened."""


def _captured(event: Event) -> tuple[str, ...]:
    return (
        f"netfilter redirected {event['source']} to the client",
        f"SO_ORIGINAL_DST: it was going to {event['original_target']}",
        f"its id is {event['connection']}",
    )


def _routed(event: Event) -> tuple[str, ...]:
    return (
        f"OPEN arrived on the link of {event['peer']}",
        f"longest route for {event['original_target']}: {event['proxy']}",
    )


def _dialled(event: Event) -> tuple[str, ...]:
    return (
        "OPEN arrived on the link that the proxy dialled outward",
        f"{event['original_target']} means {event['target']}, which it manages",
        f"it dials {event['target']} from its own address",
    )


def _proxy_opened(event: Event) -> tuple[str, ...]:
    return (f"{event['target']} accepted; the result goes to the server",)


def _server_opened(event: Event) -> tuple[str, ...]:
    return (f"the result passes on to {event['peer']}",)


def _client_opened(event: Event) -> tuple[str, ...]:
    return (f"socket {event['source']} joined to {event['peer']}",)


def _client_closed(event: Event) -> tuple[str, ...]:
    up, down, cause = event["bytes_up"], event["bytes_down"], event["cause"]
    return (f"{up} bytes went up, {down} came down to that socket: {cause}",)


_TELLERS: dict[tuple[str, str], tuple[int, Callable[[Event], tuple[str, ...]]]] = {
    ("client", "connection_captured"): (1, _captured),
    ("server", "connection_routed"): (4, _routed),
    ("proxy", "target_dialled"): (6, _dialled),
    ("proxy", "connection_opened"): (9, _proxy_opened),
    ("server", "connection_opened"): (10, _server_opened),
    ("client", "connection_opened"): (11, _client_opened),
    ("client", "connection_closed"): (12, _client_closed),
}
"""Role and event -> number of the first step that it proves, and how it tells its steps."""


def story(events: Iterable[Event], connection: str) -> list[Chapter]:
    """The chapters of one connection in the order of their time.

    Args:
        events: the logs of all three roles, in any order.
        connection: its id, 32 hex digits.

    Raises:
        IncompleteStory: an event is missing, or a role saw other bytes than the others.
    """
    own = [event for event in events if event.get("connection") == connection]
    seen = {(event["role"], event["event"]) for event in own}
    for role, name in _TELLERS:
        if (role, name) not in seen:
            raise IncompleteStory(f"the log of the {role} has no {name} of connection {connection}")
    counts = {
        (event["bytes_up"], event["bytes_down"]) for event in own if event["event"] == "connection_closed"
    }
    if len(counts) != 1:
        raise IncompleteStory(f"the roles counted different bytes for connection {connection}: {counts}")
    told = [event for event in own if (event["role"], event["event"]) in _TELLERS]
    # Two events of one millisecond: the one that causes the other goes first.
    told.sort(key=lambda event: (event["time"], _TELLERS[event["role"], event["event"]][0]))
    return [_chapter(event, told[0]) for event in told]


def _chapter(event: Event, first: Event) -> Chapter:
    elapsed = datetime.fromisoformat(event["time"]) - datetime.fromisoformat(first["time"])
    number, tell = _TELLERS[event["role"], event["event"]]
    exact = len(event["time"].rpartition(".")[2].rstrip("Z")) > 3
    return Chapter(
        when=elapsed.total_seconds() * 1000,
        decimals=int(exact),
        host=event["role"],
        event=event["event"],
        steps=tuple(enumerate(tell(event), number)),
    )
