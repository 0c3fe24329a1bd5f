"""The nftables ruleset of a plan, and the comparison of two rulesets by what they mean.

Pure. Rulesets are lists of objects in the language of libnftables-json(5).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from ipaddress import ip_address, ip_network
from typing import Any

from tunneler.addresses import Network
from tunneler.capture.libnftables import Object
from tunneler.capture.rules import IP_VERSIONS, CapturePlan, IPVersion

TABLE: Object = {"family": "inet", "name": "tunneler"}
IN_TABLE: Object = {"family": "inet", "table": "tunneler"}
CHAIN = "capture"
PRIORITY = -100
"""NF_IP_PRI_NAT_DST, linux/netfilter_ipv4.h; nft(8) calls it dstnat."""

PROTOCOL_KEYWORD: dict[IPVersion, str] = {4: "ip", 6: "ip6"}
ADDRESS_TYPE: dict[IPVersion, str] = {4: "ipv4_addr", 6: "ipv6_addr"}
TCP = 6
"""IPPROTO_TCP; a number, as the listing has it."""

Ruleset = dict[tuple[str, str], Any]
"""(kind, name) -> what it means; of a chain's rules: (\"rules of\", chain) -> their expressions."""


def ruleset(plan: CapturePlan, uid: int | None) -> list[Object]:
    """Everything in our table, in an order in which it can be added.

    Args:
        plan: what is to be captured.
        uid: the number of the plan's user.
    """
    versions = [version for version in IP_VERSIONS if plan.networks_of(version)]
    objects = [item for version in versions for item in _sets(plan, version)]
    objects.append({"chain": {**IN_TABLE, "name": CHAIN}})
    objects += [
        _rule(CHAIN, _destination_in(version, f"excluded{version}"), {"return": None}) for version in versions
    ]
    objects += [
        _rule(
            CHAIN,
            _destination_in(version, f"captured{version}"),
            _match({"meta": {"key": "l4proto"}}, "==", TCP),
            {"redirect": {"port": plan.listen_port}},
        )
        for version in versions
    ]
    others_only = [] if uid is None else [_match({"meta": {"key": "skuid"}}, "!=", uid)]
    objects += _hook("output", *others_only)
    if plan.gateway:
        objects += _hook("prerouting")
    return objects


def unhooking(listed: Iterable[Object]) -> list[Object]:
    """Commands after which nothing leads to our rules any more, though they are there."""
    names = (item["chain"]["name"] for item in listed if "hook" in item.get("chain", {}))
    return [{"flush": {"chain": {**IN_TABLE, "name": name}}} for name in names]


def redirect_ports(listed: Iterable[Object]) -> set[int]:
    """Where the rules of a listing of our table redirect to."""
    expressions = (part for item in listed for part in item.get("rule", {}).get("expr", ()))
    return {part["redirect"]["port"] for part in expressions if "redirect" in part}


def replacement(objects: Iterable[Object]) -> list[Object]:
    """Commands that make our table hold these objects, and nothing else, whether or not it existed."""
    return [*removal(), {"add": {"table": TABLE}}, *({"add": item} for item in objects)]


def removal() -> list[Object]:
    """Commands that delete our table. What does not exist cannot be deleted, so it is added first."""
    return [{"add": {"table": TABLE}}, {"delete": {"table": TABLE}}]


def differences(wanted: Iterable[Object], listed: Iterable[Object]) -> list[str]:
    """How a listing of our table differs from the objects that it should hold, one line each."""
    expected, actual = _meaning(wanted), _meaning(listed)
    found = []
    for key in {**expected, **actual}:
        what = "table inet tunneler: " + " ".join(key)
        if key not in actual:
            found.append(f"{what}: missing")
        elif key not in expected:
            found.append(f"{what}: unexpected")
        elif expected[key] != actual[key]:
            found.append(f"{what}: differs from what is wanted")
    return found


def _sets(plan: CapturePlan, version: IPVersion) -> Iterator[Object]:
    networks = {"captured": plan.networks_of(version), "excluded": plan.excluded_of(version)}
    for name, elements in networks.items():
        yield {
            "set": {
                **IN_TABLE,
                "name": f"{name}{version}",
                "type": ADDRESS_TYPE[version],
                "flags": ["interval"],
                "elem": [_element(network) for network in elements],
            }
        }


def _element(network: Network) -> Object:
    return {"prefix": {"addr": str(network.network_address), "len": network.prefixlen}}


def _hook(hook: str, *conditions: Object) -> Iterator[Object]:
    """A base chain of the same name as its hook, from which TCP goes on to our chain."""
    kind: Object = {"type": "nat", "hook": hook, "prio": PRIORITY, "policy": "accept"}
    yield {"chain": {**IN_TABLE, "name": hook, **kind}}
    tcp = _match({"meta": {"key": "l4proto"}}, "==", TCP)
    yield _rule(hook, tcp, *conditions, {"jump": {"target": CHAIN}})


def _rule(chain: str, *expressions: Object) -> Object:
    return {"rule": {**IN_TABLE, "chain": chain, "expr": list(expressions)}}


def _match(left: Object, operator: str, right: Any) -> Object:
    return {"match": {"op": operator, "left": left, "right": right}}


def _destination_in(version: IPVersion, name: str) -> Object:
    field = {"payload": {"protocol": PROTOCOL_KEYWORD[version], "field": "daddr"}}
    return _match(field, "==", f"@{name}")


def _meaning(objects: Iterable[Object]) -> Ruleset:
    """A ruleset without handles, and independent of order and notation where they mean nothing."""
    meaning: Ruleset = {}
    for item in objects:
        for kind, body in item.items():
            if kind == "rule":
                rules = meaning.setdefault(("rules of", body["chain"]), [])
                rules.append([_expression(expression) for expression in body["expr"]])
            elif kind == "set":
                meaning[kind, body["name"]] = (body["type"], _intervals(body.get("elem", ())))
            elif kind == "chain":
                traits = ("type", "hook", "prio", "policy")
                meaning[kind, body["name"]] = tuple(body.get(trait) for trait in traits)
            elif kind != "table":
                meaning[kind, str(body.get("name"))] = body
    return meaning


def _expression(expression: Object) -> str:
    """One spelling for expressions that libnftables spells in several ways, by version and flags."""
    match = expression.get("match")
    if match is not None:
        right = TCP if match["right"] == "tcp" else match["right"]
        operator = "==" if match["op"] == "in" else match["op"]
        expression = _match(match["left"], operator, right)
    return json.dumps(expression, sort_keys=True)


def _intervals(elements: Iterable[Any]) -> list[tuple[int, int]]:
    """First and last address of what a set covers; how it is cut into elements means nothing."""
    merged: list[tuple[int, int]] = []
    for first, last in sorted(map(_interval, elements)):
        if merged and first <= merged[-1][1] + 1:
            merged[-1] = (merged[-1][0], max(last, merged[-1][1]))
        else:
            merged.append((first, last))
    return merged


def _interval(element: Any) -> tuple[int, int]:
    if isinstance(element, dict) and "elem" in element:  # with a counter, a timeout or a comment
        element = element["elem"]["val"]
    if isinstance(element, str):
        return (int(ip_address(element)),) * 2
    if "range" in element:
        first, last = element["range"]
        return int(ip_address(first)), int(ip_address(last))
    network = ip_network(f"{element['prefix']['addr']}/{element['prefix']['len']}")
    return int(network.network_address), int(network.broadcast_address)
