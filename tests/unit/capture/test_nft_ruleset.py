from __future__ import annotations

import copy
import json
from ipaddress import IPv4Address, IPv4Network
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunneler.addresses import parse_network
from tunneler.capture.nft_ruleset import (
    TABLE,
    differences,
    redirect_ports,
    replacement,
    ruleset,
    unhooking,
)
from tunneler.capture.rules import CapturePlan

PLAN = CapturePlan(
    (parse_network("100.64.0.0/10"), parse_network("2001:db8::/32")),
    9999,
    (parse_network("100.64.2.0/24"),),
    gateway=True,
)


def named(objects: list[dict[str, Any]], kind: str) -> list[str]:
    return [item[kind]["name"] for item in objects if kind in item]


def test_replacement_empties_the_table_first_in_the_same_transaction() -> None:
    commands = replacement(ruleset(PLAN, None))
    assert commands[:3] == [
        {"add": {"table": TABLE}},
        {"delete": {"table": TABLE}},
        {"add": {"table": TABLE}},
    ]
    assert all("add" in command for command in commands[3:])
    json.dumps(commands)


def test_where_rules_redirect_to_is_read_from_them() -> None:
    assert redirect_ports(ruleset(PLAN, 997)) == {9999}
    assert redirect_ports([]) == set()


def test_unhooked_rules_stay_and_nothing_leads_to_them() -> None:
    chains = [command["flush"]["chain"]["name"] for command in unhooking(ruleset(PLAN, 997))]
    assert chains == ["output", "prerouting"]


def test_a_family_without_networks_has_no_rules() -> None:
    only_ipv4 = ruleset(CapturePlan(PLAN.networks[:1], 9999), None)
    assert named(only_ipv4, "set") == ["captured4", "excluded4"]
    assert "ip6" not in json.dumps(only_ipv4)


def test_only_a_gateway_has_a_prerouting_chain() -> None:
    assert named(ruleset(PLAN, None), "chain") == ["capture", "output", "prerouting"]
    assert named(ruleset(CapturePlan(PLAN.networks, 9999), None), "chain") == ["capture", "output"]


def test_the_user_is_exempt_on_the_way_out_only() -> None:
    rules = [item["rule"] for item in ruleset(PLAN, 997) if "rule" in item]
    assert [rule["chain"] for rule in rules if "skuid" in json.dumps(rule)] == ["output"]


def test_no_difference_to_itself() -> None:
    assert differences(ruleset(PLAN, 997), ruleset(PLAN, 997)) == []


def listed(objects: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The same ruleset in other words, as several versions of libnftables have them."""
    objects = copy.deepcopy([{"table": {**TABLE, "handle": 1}}, *objects])
    for number, item in enumerate(objects):
        for body in item.values():
            body["handle"] = number
        for expression in item.get("rule", {}).get("expr", ()):
            match = expression.get("match", {})
            if match.get("right") == 6:
                match["right"] = "tcp"
            if str(match.get("right")).startswith("@"):
                match["op"] = "in"
        for name in ("captured4", "excluded4"):
            if item.get("set", {}).get("name") == name:
                item["set"]["elem"] = [
                    {"range": [element["prefix"]["addr"], _last(element)]} for element in item["set"]["elem"]
                ][::-1]
    return objects


def _last(element: dict[str, Any]) -> str:
    prefix = element["prefix"]
    return str(IPv4Network((prefix["addr"], prefix["len"]))[-1])


def test_notation_and_handles_mean_nothing() -> None:
    assert differences(ruleset(PLAN, 997), listed(ruleset(PLAN, 997))) == []


@pytest.mark.parametrize("spelling", ["192.0.2.1", {"elem": {"val": "192.0.2.1", "comment": "x"}}])
def test_an_address_alone_is_a_network_of_one(spelling: Any) -> None:
    plan = CapturePlan((parse_network("192.0.2.1"),), 9999)
    objects = ruleset(plan, None)
    assert objects[0]["set"]["name"] == "captured4"
    other = copy.deepcopy(objects)
    other[0]["set"]["elem"] = [spelling]
    assert differences(objects, other) == []
    other[0]["set"]["elem"] = ["192.0.2.2"]
    assert differences(objects, other) == ["table inet tunneler: set captured4: differs from what is wanted"]


def test_how_a_network_is_cut_means_nothing() -> None:
    objects = ruleset(CapturePlan((parse_network("192.0.2.0/24"),), 9999), None)
    halves = copy.deepcopy(objects)
    halves[0]["set"]["elem"] = [
        {"range": ["192.0.2.128", "192.0.2.255"]},
        {"prefix": {"addr": "192.0.2.0", "len": 25}},
    ]
    assert differences(objects, halves) == []
    halves[0]["set"]["elem"].pop()
    assert differences(objects, halves) != []


def test_the_order_of_rules_means_something() -> None:
    objects = ruleset(PLAN, None)
    turned = sorted(objects, key=lambda item: "rule" in item and "return" in json.dumps(item))
    assert differences(objects, turned) == [
        "table inet tunneler: rules of capture: differs from what is wanted"
    ]


def test_every_object_counts() -> None:
    objects = ruleset(PLAN, 997)
    for number in range(len(objects)):
        rest = objects[:number] + objects[number + 1 :]
        assert differences(objects, rest) != []
        assert differences(rest, objects) != []


addresses = st.integers(0, 2**32 - 1)


@given(st.lists(st.tuples(addresses, st.integers(1, 32)), min_size=1, max_size=6), addresses)
def test_sets_are_compared_by_the_addresses_in_them(pairs: list[tuple[int, int]], address: int) -> None:
    networks = tuple(IPv4Network(pair, strict=False) for pair in pairs)
    wanted = ruleset(CapturePlan(networks, 9999), None)
    more = ruleset(CapturePlan((*networks, IPv4Network((address, 32))), 9999), None)
    inside = any(IPv4Address(address) in network for network in networks)
    assert (differences(wanted, more) == []) == inside
