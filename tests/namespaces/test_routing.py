"""Several proxies at once: the longest prefix decides, and addresses are translated."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from testbed import Host, Lab, standard_topology, wait_until
from testbed.suite import CAPTURED, Member, Suite
from tests.namespaces.applications import attempt, who_is_reached
from tunneler.addresses import Role

SITE_TWO_HAS_WHAT_SITE_ONE_HAS = {
    "proxy2": ["192.168.1.1/24"],
    "target2": ["192.168.1.5/24", "10.0.1.5/8"],
}


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with Lab(standard_topology(second_site=True)) as lab:
        for host, addresses in SITE_TWO_HAS_WHAT_SITE_ONE_HAS.items():
            for address in addresses:
                lab.host(host).run("ip", "address", "add", address, "dev", "site2")
        yield lab


@pytest.fixture(scope="module")
def suite(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Suite]:
    with Suite(lab, tmp_path_factory.mktemp("suite")) as suite:
        # The second network holds the server and the client itself: neither link nor host may suffer.
        suite.add_three_roles(client={"target_cidr": [CAPTURED, "10.0.0.0/8", "192.168.1.0/24"]})
        add_proxy(suite, "proxy2", managed_cidr="10.0.0.0/8")
        suite.start()
        yield suite


def add_proxy(suite: Suite, name: str, **settings: object) -> Member:
    """A proxy at the second site."""
    base = {"server_addr": suite.server_address("uplink2"), "proxy_id": name}
    return suite.add(Role.PROXY, {**base, **settings}, name=name, host="proxy2")


def reached(lab: Lab, address: str) -> str:
    return who_is_reached(lab.host("client"), address, lab.host("target"), lab.host("target2"))


@pytest.mark.parametrize(
    ("address", "arrival"),
    [
        # 192.168.1.0/24 is 100.64.1.0/24; 10.0.0.0/8 is 100.64.0.0/16, by its low 16 bits.
        ("100.64.1.5", "target at 192.168.1.5"),
        ("100.64.10.5", "target2 at 10.0.10.5"),
        # And both are themselves.
        ("192.168.1.5", "target at 192.168.1.5"),
        ("10.0.10.5", "target2 at 10.0.10.5"),
    ],
)
def test_the_worked_examples(suite: Suite, lab: Lab, address: str, arrival: str) -> None:
    assert reached(lab, address) == arrival


def test_the_next_longest_prefix_takes_over(working: Suite, lab: Lab) -> None:
    assert reached(lab, "100.64.1.5") == "target at 192.168.1.5"
    assert working.proxy.stop() == 0
    assert reached(lab, "100.64.1.5") == "target2 at 10.0.1.5"
    working.proxy.restart()
    assert reached(lab, "100.64.1.5") == "target at 192.168.1.5"


def test_explicit_routes(working: Suite, lab: Lab) -> None:
    add_proxy(
        working,
        "explicit",
        routes=[
            {"virtual": "100.99.7.0/24", "real": "192.168.1.0/24"},
            {"virtual": "100.99.7.77/32", "real": "10.0.10.5/32"},
            {"virtual": "100.64.1.8/29", "real": "10.0.10.0/29"},
        ],
    )
    working.start()
    assert reached(lab, "100.99.7.5") == "target2 at 192.168.1.5"
    assert reached(lab, "100.99.7.77") == "target2 at 10.0.10.5"
    assert reached(lab, "100.64.1.13") == "target2 at 10.0.10.5"
    assert reached(lab, "100.64.1.5") == "target at 192.168.1.5"


@pytest.mark.parametrize("address", ["100.99.7.5", "100.65.1.5", "100.127.1.5"])
def test_outside_the_managed_networks_nothing_is_reached(suite: Suite, lab: Lab, address: str) -> None:
    mark = suite.client.mark()
    assert reached(lab, address) == "nobody"
    assert suite.client.wait_for("connection_refused", since=mark)["cause"] == "no_route"


def test_a_conflict_is_reported_and_the_first_keeps_its_route(working: Suite, lab: Lab) -> None:
    rival = add_proxy(working, "rival", managed_cidr="192.168.1.0/24")
    mark = working.server.mark()
    working.start()
    for log, since in ((working.server, mark), (rival, 0)):
        for route in ("192.168.1.0/24", "100.64.1.0/24 -> 192.168.1.0/24"):
            assert log.wait_for("route_conflict", since=since, route=route)["level"] == "error"
    assert {e["peer"] for e in working.server.events("route_conflict")} == {"proxy/proxy#rival"}
    assert not working.proxy.events("route_conflict")
    for _ in range(5):
        assert reached(lab, "100.64.1.5") == "target at 192.168.1.5"
    # The first leaves: the rival's claim is now the only one.
    working.proxy.kill()
    working.server.wait_for("link_down", since=mark, peer="proxy/proxy#proxy-1")
    assert reached(lab, "100.64.1.5") == "target2 at 192.168.1.5"


def test_proxies_of_one_group_share_their_routes(working: Suite, lab: Lab) -> None:
    site = {"managed_cidr": "192.168.1.0/24", "group": "site"}
    working.proxy.restart(site)
    second = add_proxy(working, "second", **site)
    working.start()
    assert not second.events("route_conflict")
    assert not working.proxy.events("route_conflict")
    for _ in range(3):
        assert reached(lab, "100.64.1.5").endswith(" at 192.168.1.5")
    mark = working.server.mark()
    working.proxy.kill()
    working.server.wait_for("link_down", since=mark, peer="proxy/proxy#proxy-1")
    assert reached(lab, "100.64.1.5") == "target2 at 192.168.1.5"
    second.kill()
    working.server.wait_for("link_down", since=mark, peer="proxy/proxy#second")
    assert reached(lab, "192.168.1.5") == "nobody"


def test_the_clients_own_network_is_left_alone(suite: Suite, client: Host) -> None:
    """10.0.0.0/8 is captured, and the server's addresses in it are not."""
    assert attempt(client, 9, suite.lab.host("server").address_on("access")).result == "ECONNREFUSED"
    assert not suite.client.events("capture_refused")
    wait_until(lambda: len(suite.client.events("link_up")) == 1, 1, "one link, never lost")
