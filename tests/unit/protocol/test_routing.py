"""Who serves an address: against a naive model, and the cases that matter one by one."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tests.unit.protocol.cast import FOREIGN_PROXY, PROXY, route
from tunneler.addresses import Address, Route
from tunneler.protocol.routing import Group, RouteTable

SITE = Group(PROXY.identity, "site")
RIVAL = Group(PROXY.identity, "rival")
IMPOSTOR = Group(FOREIGN_PROXY.identity, "site")

WIDE = route("100.64.0.0/16", "10.0.0.0/16")
NARROW = route("100.64.1.0/24", "192.168.1.0/24")
NARROW_ELSEWHERE = route("100.64.1.0/24", "192.168.2.0/24")

INSIDE = NARROW.virtual[5]
OUTSIDE = WIDE.virtual[5]


class TestCases:
    def test_nobody(self) -> None:
        assert RouteTable[str]().members(INSIDE) == []

    def test_longest_prefix_wins(self) -> None:
        table = RouteTable[str]()
        table.announce("wide", SITE, (WIDE,))
        table.announce("narrow", RIVAL, (NARROW,))
        assert table.members(INSIDE) == ["narrow"]
        assert table.members(OUTSIDE) == ["wide"]
        table.withdraw("narrow")
        assert table.members(INSIDE) == ["wide"]

    def test_group_shares_its_routes(self) -> None:
        table = RouteTable[str]()
        assert table.announce("a", SITE, (NARROW,)) == ()
        assert table.announce("b", SITE, (NARROW,)) == ()
        assert table.members(INSIDE) == ["a", "b"]
        table.withdraw("a")
        assert table.members(INSIDE) == ["b"]

    def test_everything_that_is_announced(self) -> None:
        table = RouteTable[str]()
        table.announce("a", SITE, (NARROW,))
        table.announce("b", RIVAL, (NARROW_ELSEWHERE, WIDE))
        assert [(each.member, each.group, each.route, each.in_force) for each in table] == [
            ("a", SITE, NARROW, True),
            ("b", RIVAL, NARROW_ELSEWHERE, False),
            ("b", RIVAL, WIDE, True),
        ]
        table.withdraw("a")
        assert [each.in_force for each in table] == [True, True]

    def test_oldest_claim_is_in_force_and_the_next_takes_over(self) -> None:
        table = RouteTable[str]()
        assert table.announce("a", SITE, (NARROW,)) == ()
        assert table.announce("b", RIVAL, (NARROW, WIDE)) == (NARROW,)
        assert table.members(INSIDE) == ["a"]
        assert table.members(OUTSIDE) == ["b"]
        table.withdraw("a")
        assert table.members(INSIDE) == ["b"]
        assert table.announce("a", SITE, (NARROW,)) == (NARROW,)

    def test_same_group_name_of_another_certificate_is_another_group(self) -> None:
        table = RouteTable[str]()
        table.announce("a", SITE, (NARROW,))
        assert table.announce("b", IMPOSTOR, (NARROW,)) == (NARROW,)
        assert table.members(INSIDE) == ["a"]

    def test_another_real_prefix_is_a_conflict_within_a_group_too(self) -> None:
        table = RouteTable[str]()
        table.announce("a", SITE, (NARROW,))
        assert table.announce("b", SITE, (NARROW_ELSEWHERE,)) == (NARROW_ELSEWHERE,)
        assert table.members(INSIDE) == ["a"]

    def test_announcing_again_keeps_the_place(self) -> None:
        table = RouteTable[str]()
        table.announce("a", SITE, (NARROW,))
        table.announce("b", RIVAL, (NARROW,))
        assert table.announce("a", SITE, (NARROW, WIDE)) == ()
        assert table.members(INSIDE) == ["a"]

    def test_announcing_again_gives_up_what_is_not_named(self) -> None:
        table = RouteTable[str]()
        table.announce("a", SITE, (NARROW, WIDE))
        assert table.announce("a", SITE, (WIDE,)) == ()
        assert table.announce("b", RIVAL, (NARROW,)) == ()
        assert table.members(INSIDE) == ["b"]

    def test_changing_the_group_is_leaving_the_old_one(self) -> None:
        table = RouteTable[str]()
        table.announce("a", SITE, (NARROW,))
        table.announce("b", RIVAL, (NARROW,))
        assert table.announce("a", RIVAL, (NARROW,)) == ()
        assert table.members(INSIDE) == ["b", "a"]

    def test_route_named_twice(self) -> None:
        table = RouteTable[str]()
        assert table.announce("a", SITE, (NARROW, NARROW)) == ()
        assert table.members(INSIDE) == ["a"]
        table.announce("b", SITE, (NARROW, NARROW))
        assert table.announce("a", SITE, ()) == ()
        table.withdraw("b")
        assert table.members(INSIDE) == []

    def test_withdrawing_twice(self) -> None:
        table = RouteTable[str]()
        table.announce("a", SITE, (NARROW,))
        table.withdraw("a")
        table.withdraw("a")
        assert table.members(INSIDE) == []


class Naive:
    """Claims in the order in which they were made, looked through from the start."""

    def __init__(self) -> None:
        self.claims: list[tuple[Group, Route, list[str]]] = []
        self.announced: dict[str, tuple[Group, tuple[Route, ...]]] = {}

    def announce(self, member: str, group: Group, routes: tuple[Route, ...]) -> tuple[Route, ...]:
        for claimed_by, claimed, members in self.claims:
            if member in members and (claimed_by != group or claimed not in routes):
                members.remove(member)
        self.claims = [claim for claim in self.claims if claim[2]]
        for wanted in routes:
            for claimed_by, claimed, members in self.claims:
                if (claimed_by, claimed) == (group, wanted):
                    members += [] if member in members else [member]
                    break
            else:
                self.claims.append((group, wanted, [member]))
        return tuple(wanted for wanted in dict.fromkeys(routes) if self.holder(wanted) != (group, wanted))

    def holder(self, wanted: Route) -> tuple[Group, Route]:
        return next(claim[:2] for claim in self.claims if claim[1].virtual == wanted.virtual)

    def members(self, address: Address) -> list[str]:
        fits = [claim for claim in self.claims if address in claim[1].virtual]
        if not fits:
            return []
        longest = max(claim[1].virtual.prefixlen for claim in fits)
        return next(claim[2] for claim in fits if claim[1].virtual.prefixlen == longest)


ROUTES = (
    WIDE,
    NARROW,
    NARROW_ELSEWHERE,
    route("0.0.0.0/0"),
    route("100.64.1.5/32"),
    route("100.64.0.0/10"),
    route("::/0"),
    route("2001:db8::/32"),
    route("2001:db8::/48", "fd00::/48"),
    route("2001:db8::5/128"),
)
ADDRESSES = [
    address
    for each in ROUTES
    for address in (each.virtual.network_address, each.virtual.broadcast_address, INSIDE)
]
steps = st.tuples(
    st.sampled_from("abcd"),
    st.sampled_from((SITE, RIVAL, IMPOSTOR)),
    st.lists(st.sampled_from(ROUTES), max_size=5).map(tuple),
)


@given(st.lists(steps, max_size=20))
def test_agrees_with_a_naive_model(script: list[tuple[str, Group, tuple[Route, ...]]]) -> None:
    table, naive = RouteTable[str](), Naive()
    for member, group, routes in script:
        if routes:
            assert table.announce(member, group, routes) == naive.announce(member, group, routes)
        else:
            table.withdraw(member)
            naive.announce(member, group, ())
        for address in ADDRESSES:
            assert sorted(table.members(address)) == sorted(naive.members(address))
    for member in "abcd":
        table.withdraw(member)
    assert not any(table.members(address) for address in ADDRESSES)
    assert not table._claims._by_length
