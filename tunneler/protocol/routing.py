"""Which proxies serve an address: longest prefix over everything that proxies announce.

A *claim* is a group of proxies that put the same real prefix behind a virtual one. Several
claims to one virtual prefix are a conflict: the oldest is in force, the others wait, and
whoever announced them is told. Nothing is resolved silently, and nothing flaps when a
conflicting proxy comes back.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Generic, NamedTuple, TypeVar

from tunneler.addresses import Address, Identity, Network, PrefixTable, Route

Member = TypeVar("Member")


class Group(NamedTuple):
    """Proxies that serve the same networks on purpose.

    The name alone would let any proxy join any group; the identity is certified.
    """

    identity: Identity
    name: str


class _Claim(NamedTuple, Generic[Member]):
    group: Group
    real: Network
    members: list[Member]


class Announced(NamedTuple, Generic[Member]):
    """One route of one member."""

    member: Member
    group: Group
    route: Route
    in_force: bool


class RouteTable(Generic[Member]):
    """Virtual prefixes and the members that serve them; a member is whatever the caller routes to."""

    def __init__(self) -> None:
        self._claims = PrefixTable[list[_Claim[Member]]]()
        self._routes: dict[Member, tuple[Group, tuple[Route, ...]]] = {}

    def announce(self, member: Member, group: Group, routes: tuple[Route, ...]) -> tuple[Route, ...]:
        """Replace what a member announced before; return the routes that are in conflict."""
        routes = tuple(dict.fromkeys(routes))
        old_group, old_routes = self._routes.get(member, (group, ()))
        for route in old_routes:
            if old_group != group or route not in routes:
                self._release(member, old_group, route)
        self._routes[member] = (group, routes)
        return tuple(route for route in routes if not self._claim(member, group, route))

    def withdraw(self, member: Member) -> None:
        """Forget a member's routes; the next claim to each prefix comes into force."""
        if member in self._routes:
            group, routes = self._routes.pop(member)
            for route in routes:
                self._release(member, group, route)

    def members(self, address: Address) -> list[Member]:
        """Who serves an address; empty when nobody does."""
        claims = self._claims.longest_match(address)
        return claims[0].members if claims else []

    def __iter__(self) -> Iterator[Announced[Member]]:
        """Everything that is announced."""
        for member, (group, routes) in self._routes.items():
            for route in routes:
                claims = self._claims.get(route.virtual) or []
                in_force = bool(claims) and claims[0][:2] == (group, route.real)
                yield Announced(member, group, route, in_force)

    def _release(self, member: Member, group: Group, route: Route) -> None:
        claims = self._claims.get(route.virtual) or []
        for claim in claims:
            if (claim.group, claim.real) == (group, route.real):
                claim.members.remove(member)
        claims[:] = [claim for claim in claims if claim.members]
        if not claims:
            del self._claims[route.virtual]

    def _claim(self, member: Member, group: Group, route: Route) -> bool:
        """Enter one route; return whether it is in force."""
        claims = self._claims.get(route.virtual)
        if claims is None:
            claims = self._claims[route.virtual] = []
        for position, claim in enumerate(claims):
            if (claim.group, claim.real) == (group, route.real):
                if member not in claim.members:
                    claim.members.append(member)
                return position == 0
        claims.append(_Claim(group, route.real, [member]))
        return len(claims) == 1


class Translation:
    """A proxy's last word on its network: virtual to real, and nothing outside its routes."""

    def __init__(self, routes: tuple[Route, ...]) -> None:
        self._routes = PrefixTable[Route]()
        for route in routes:
            self._routes[route.virtual] = route

    def real(self, address: Address) -> Address | None:
        """The target's address; None when no route of ours covers it."""
        route = self._routes.longest_match(address)
        return route.translate(address) if route else None
