from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network, IPv6Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunneler.addresses import Network, parse_network
from tunneler.capture.rules import LOOPBACK, CapturePlan

networks = st.lists(
    st.one_of(
        st.builds(IPv4Network, st.tuples(st.integers(0, 2**32 - 1), st.integers(4, 32)), st.just(False))
    )
).map(tuple)


def plan(*captured: str, excluded: tuple[str, ...] = ()) -> CapturePlan:
    return CapturePlan(tuple(map(parse_network, captured)), 9999, tuple(map(parse_network, excluded)))


def test_loopback_is_always_excluded() -> None:
    assert set(LOOPBACK) <= set(plan("100.64.0.0/10").excluded)
    assert IPv4Address("127.8.8.8") in plan().excluded_of(4)[0]
    assert IPv6Address("::1") in plan().excluded_of(6)[0]


def test_plans_that_capture_the_same_are_equal() -> None:
    assert plan("10.0.0.0/9", "10.128.0.0/9", "2001:db8::/32", "10.1.0.0/16") == plan(
        "2001:db8::/32", "10.0.0.0/8"
    )
    assert plan("10.0.0.0/8", excluded=("127.0.0.1", "::1")) == plan("10.0.0.0/8")
    assert plan("10.0.0.0/8") != plan("10.0.0.0/9")


def test_families_are_kept_apart() -> None:
    both = plan("10.0.0.0/8", "2001:db8::/32", excluded=("10.1.0.0/16",))
    assert both.networks_of(4) == (parse_network("10.0.0.0/8"),)
    assert both.networks_of(6) == (parse_network("2001:db8::/32"),)
    assert parse_network("10.1.0.0/16") in both.excluded_of(4)
    assert both.excluded_of(6) == (parse_network("::1"),)


@pytest.mark.parametrize("port", [0, -1, 65536])
def test_a_port_that_is_none(port: int) -> None:
    with pytest.raises(ValueError, match="from 1 to 65535"):
        CapturePlan((), port)


@given(networks, st.integers(0, 2**32 - 1).map(IPv4Address))
def test_collapsing_keeps_the_meaning(given_networks: tuple[Network, ...], address: IPv4Address) -> None:
    collapsed = CapturePlan(given_networks, 1).networks
    assert any(address in network for network in collapsed) == any(address in n for n in given_networks)
    for one in given_networks:
        assert any(one.network_address in network for network in collapsed)
    assert not any(a.overlaps(b) for a in collapsed for b in collapsed if a is not b)


def test_a_paused_plan_keeps_its_networks_and_excludes_everything() -> None:
    wanted = replace(plan("100.64.0.0/10", excluded=("100.64.7.0/24",)), gateway=True)
    paused = wanted.paused()
    assert paused.networks == wanted.networks
    assert paused.gateway
    assert set(paused.excluded) == {parse_network("0.0.0.0/0"), parse_network("::/0")}
    assert paused.paused() == paused
