"""The topology as data: what the standard one promises, and what is refused."""

from __future__ import annotations

from ipaddress import ip_address, ip_network

import pytest

from testbed.topology import Attachment, HostSpec, Topology, standard_topology


def test_the_only_way_to_the_target_is_not_a_route() -> None:
    topology = standard_topology(second_site=True)
    server = topology.host("server")
    assert not server.forwards
    assert server.routes == ()
    reachable = [address.network for end in server.attachments for address in end.addresses]
    for target in ("target", "target2"):
        for address in topology.host(target).addresses():
            assert not any(address in network for network in reachable)


def test_the_client_has_a_default_route_of_each_family() -> None:
    destinations = {route.destination for route in standard_topology().host("client").routes}
    assert destinations == {ip_network("0.0.0.0/0"), ip_network("::/0")}


def test_only_a_gateway_forwards() -> None:
    assert not any(host.forwards for host in standard_topology(second_site=True).hosts)
    assert [host.name for host in standard_topology(lan=True).hosts if host.forwards] == ["client"]


def test_addresses_by_net_and_family() -> None:
    server = standard_topology().host("server")
    assert server.ipv4() == ip_address("10.77.1.1")
    assert server.ipv4("uplink") == ip_address("10.77.2.1")
    assert server.ipv6("uplink") == ip_address("fd77:2::1")
    with pytest.raises(LookupError, match="server has no IPv4 address on site"):
        server.ipv4("site")


def test_a_net_has_two_ends() -> None:
    alone = HostSpec("alone", (Attachment("cable", ()),))
    with pytest.raises(ValueError, match=r"net cable joins 1 hosts \(alone\), not two"):
        Topology((alone,))


def test_host_names_are_unique() -> None:
    with pytest.raises(ValueError, match="host named twice: twin"):
        Topology((HostSpec("twin", ()), HostSpec("twin", ())))


def test_an_unknown_host_is_named_with_the_known_ones() -> None:
    with pytest.raises(LookupError, match="no host prxy among client, server, proxy, target"):
        standard_topology().host("prxy")
