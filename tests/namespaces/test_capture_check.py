"""Whether ``check`` sees what was done to the rules, and ``install`` mends it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.namespaces.capture_hosts import (
    CAPTURE_PORT,
    CAPTURED,
    NETWORKS,
    Hosts,
    capture_hosts,
    captured,
)


@pytest.fixture(scope="module")
def hosts() -> Iterator[Hosts]:
    with capture_hosts() as hosts:
        yield hosts


@pytest.fixture(autouse=True)
def clean(hosts: Hosts) -> Iterator[None]:
    yield
    hosts.clean()


FIRST_RULE = "-p tcp -d 100.64.2.0/24 -m comment --comment tunneler -j RETURN"

IPTABLES_DAMAGE = {
    "flushed": ("iptables-legacy -t nat -F TUNNELER", "IPv4 nat table, chain TUNNELER: missing"),
    "flushed6": ("ip6tables-legacy -t nat -F TUNNELER", "IPv6 nat table, chain TUNNELER: missing"),
    "jump": (
        "iptables-legacy -t nat -D OUTPUT 1",
        "IPv4 nat table, chain OUTPUT: missing: -p tcp -j TUNNELER",
    ),
    "jumps": ("iptables-legacy -t nat -A OUTPUT -j TUNNELER", "chain OUTPUT: unexpected rule to TUNNELER"),
    "port": (
        "iptables-legacy -t nat -R TUNNELER 3 -p tcp -d 100.64.0.0/10 -j REDIRECT --to-ports 1234",
        "chain TUNNELER: unexpected rule to REDIRECT",
    ),
    "exclusion": (
        "iptables-legacy -t nat -I TUNNELER -d 100.64.0.0/10 -j ACCEPT",
        "chain TUNNELER: unexpected rule to ACCEPT",
    ),
    "order": (
        f"iptables-legacy -t nat -D TUNNELER 1; iptables-legacy -t nat -A TUNNELER {FIRST_RULE}",
        "IPv4 nat table, chain TUNNELER: the rules are in another order",
    ),
    "chain": (
        "ip6tables-legacy -t nat -F; ip6tables-legacy -t nat -X TUNNELER",
        "IPv6 nat table: chain TUNNELER is missing",
    ),
    "double": (
        f"iptables-legacy -t nat -A TUNNELER {FIRST_RULE}",
        "chain TUNNELER: 2 times: -d 100.64.2.0/24 -p tcp -j RETURN",
    ),
}

RELOAD = """
    listing=$(nft list table inet tunneler | sed -e 's/:9999/:{port}/')
    nft delete table inet tunneler
    nft -f - <<< "$listing"
"""

NFTABLES_DAMAGE = {
    "table": ("nft delete table inet tunneler", "table inet tunneler is missing"),
    "flushed": ("nft flush chain inet tunneler capture", "rules of capture: missing"),
    "jump": ("nft flush chain inet tunneler output", "rules of output: missing"),
    "jumps": ("nft add rule inet tunneler output jump capture", "rules of output: differs"),
    "port": (RELOAD.format(port=1234), "rules of capture: differs"),
    "network": (
        "nft delete element inet tunneler captured6 { 2001:db8:64::/48 }",
        "set captured6: differs",
    ),
    "exclusion": (
        "nft add element inet tunneler excluded4 { 100.64.1.0/24 }",
        "set excluded4: differs",
    ),
    "chain": (
        "nft add chain inet tunneler other { type nat hook output priority -150\\; }",
        "chain other: unexpected",
    ),
    "map": ("nft add map inet tunneler m { type ipv4_addr : verdict\\; }", "map m: unexpected"),
}


@pytest.mark.parametrize(
    ("backend", "damage", "report"),
    [
        *[pytest.param("iptables", *case, id=f"iptables-{name}") for name, case in IPTABLES_DAMAGE.items()],
        *[pytest.param("nftables", *case, id=f"nftables-{name}") for name, case in NFTABLES_DAMAGE.items()],
    ],
)
def test_check_sees_and_install_mends(hosts: Hosts, backend: str, damage: str, report: str) -> None:
    hosts.client.call("install", backend)
    assert hosts.client.call("check", backend) == []
    hosts.shell(damage)
    found = hosts.client.call("check", backend)
    assert any(report in line for line in found), found
    hosts.client.call("install", backend)
    assert hosts.client.call("check", backend) == []
    assert hosts.client.connect(CAPTURED[4]) == captured(CAPTURED[4])
    assert hosts.client.connect(CAPTURED[6]) == captured(CAPTURED[6])


def test_check_compares_what_rules_mean(hosts: Hosts) -> None:
    everything = {"networks": ["0.0.0.0/0", "10.0.0.0/8", "::/0"], "gateway": True, "user": "nobody"}
    hosts.client.call("install", "nftables", **everything)
    hosts.shell(RELOAD.format(port=CAPTURE_PORT))
    assert hosts.client.call("check", "nftables", **everything) == []


@pytest.mark.parametrize("backend", ["iptables", "nftables"])
@pytest.mark.parametrize(
    "other",
    [
        {"listen_port": 1234},
        {"gateway": True},
        {"user": "nobody"},
        {"networks": NETWORKS[:1]},
        {"networks": ["100.64.0.0/11", *NETWORKS[1:]]},
        {"exclude": []},
        {"servers": ["203.0.113.1"]},
    ],
    ids=str,
)
def test_check_knows_every_part_of_a_plan(hosts: Hosts, backend: str, other: dict[str, object]) -> None:
    assert hosts.client.call("check", backend) != []
    hosts.client.call("install", backend)
    assert hosts.client.call("check", backend, **other) != []
