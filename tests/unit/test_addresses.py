"""Names, addresses, prefixes and their translation."""

from __future__ import annotations

import hashlib
from ipaddress import IPv4Network, IPv6Network, ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunneler.addresses import (
    CONNECTION_ID_BYTES,
    Address,
    Endpoint,
    FourTuple,
    HostPort,
    Identity,
    Network,
    PrefixTable,
    Role,
    Route,
    parse_network,
    routes_of_managed_network,
)

BASE = IPv4Network("100.64.0.0/16")
PORTS = st.integers(1, 65535)


class TestIdentity:
    @pytest.mark.parametrize("role", list(Role))
    def test_there_and_back(self, role: Role) -> None:
        identity = Identity(role, "site-B.host_2")
        assert Identity.parse(identity.uri) == identity
        assert identity.uri == f"spiffe://tunneler/{role.value}/site-B.host_2"
        assert str(identity) == f"{role.value}/site-B.host_2"

    @pytest.mark.parametrize(
        "uri",
        [
            "",
            "spiffe://tunneler/client/",
            "spiffe://tunneler/admin/x",
            "spiffe://tunneler/Client/x",
            "spiffe://elsewhere/client/x",
            "https://tunneler/client/x",
            "spiffe://tunneler/client/a/b",
            "spiffe://tunneler/client/a b",
            "spiffe://tunneler/client/x\n",
            "spiffe://tunneler/client/n\u00e4me",
            "spiffe://tunneler/client/" + "x" * 65,
            " spiffe://tunneler/client/x",
        ],
    )
    def test_anything_else(self, uri: str) -> None:
        with pytest.raises(ValueError, match="expected spiffe://tunneler/"):
            Identity.parse(uri)


class TestEndpoint:
    @pytest.mark.parametrize(
        ("address", "text"),
        [
            ("192.0.2.1", "192.0.2.1:80"),
            ("2001:DB8:0::1", "[2001:db8::1]:80"),
            ("fe80::1%eth0", "[fe80::1%eth0]:80"),
        ],
    )
    def test_text(self, address: str, text: str) -> None:
        assert str(Endpoint.of(address, 80)) == text

    def test_not_an_address(self) -> None:
        with pytest.raises(ValueError, match="localhost"):
            Endpoint.of("localhost", 80)


class TestHostPort:
    @pytest.mark.parametrize(
        ("text", "host", "port"),
        [
            ("relay.example.net:8081", "relay.example.net", 8081),
            ("192.0.2.1:1", "192.0.2.1", 1),
            ("[2001:DB8::0:1]:65535", "2001:db8::1", 65535),
            (":8081", "", 8081),
        ],
    )
    def test_what_operators_write(self, text: str, host: str, port: int) -> None:
        assert HostPort.parse(text) == HostPort(host, port)

    @pytest.mark.parametrize(
        ("text", "reason"),
        [
            ("", "expected HOST:PORT"),
            ("host", "expected HOST:PORT"),
            ("host:", "port from 1 to 65535"),
            ("host:http", "port from 1 to 65535"),
            ("host:0", "port from 1 to 65535"),
            ("host:65536", "port from 1 to 65535"),
            ("host:-1", "port from 1 to 65535"),
            ("host:\u0661", "port from 1 to 65535"),
            ("2001:db8::1:8081", "in brackets"),
            ("https://host:443", "in brackets"),
            ("user@host:22", "expected HOST:PORT"),
            ("host/path:22", "expected HOST:PORT"),
            ("two words:22", "expected HOST:PORT"),
            ("[host:22", "expected HOST:PORT"),
            ("[host]:22", "host"),
            ("[]:22", "in the brackets"),
        ],
    )
    def test_anything_else(self, text: str, reason: str) -> None:
        with pytest.raises(ValueError, match=reason):
            HostPort.parse(text)

    @given(st.ip_addresses(), PORTS)
    def test_there_and_back(self, address: Address, port: int) -> None:
        meant = HostPort(str(address), port)
        assert HostPort.parse(str(meant)) == meant


class TestConnectionId:
    FOUR = FourTuple(Endpoint.of("192.0.2.7", 40000), Endpoint.of("100.64.1.5", 80))

    def test_without_salt_is_the_plain_hash(self) -> None:
        plain = hashlib.sha256(b"192.0.2.7:40000->100.64.1.5:80").digest()
        assert self.FOUR.connection_id() == plain[:CONNECTION_ID_BYTES]
        assert self.FOUR.connection_id().hex() == "3c7d865c6de486d0bd1795c6ca618df6"

    def test_ipv6_is_written_without_brackets(self) -> None:
        four = FourTuple(Endpoint.of("2001:db8::7", 1), Endpoint.of("2001:db8::5", 2))
        assert four.connection_id() == hashlib.sha256(b"2001:db8::7:1->2001:db8::5:2").digest()[:16]

    def test_salt_keeps_two_uses_apart(self) -> None:
        ids = {self.FOUR.connection_id(salt) for salt in (b"", b"client-1/1", b"client-1/2", b"client-2/1")}
        assert len(ids) == 4

    def test_direction_matters(self) -> None:
        assert FourTuple(*reversed(self.FOUR)).connection_id() != self.FOUR.connection_id()


class TestRoute:
    def test_host_bits_are_kept(self) -> None:
        route = Route(parse_network("100.64.1.0/24"), parse_network("192.168.1.0/24"))
        assert route.translate(ip_address("100.64.1.5")) == ip_address("192.168.1.5")
        assert str(route) == "100.64.1.0/24 -> 192.168.1.0/24"

    def test_identity(self) -> None:
        network = parse_network("192.168.1.0/24")
        assert str(Route(network, network)) == "192.168.1.0/24"
        assert Route(network, network).translate(ip_address("192.168.1.9")) == ip_address("192.168.1.9")

    def test_ipv6(self) -> None:
        route = Route(parse_network("2001:db8::/64"), parse_network("fd00:1::/64"))
        assert route.translate(ip_address("2001:db8::ab")) == ip_address("fd00:1::ab")

    @pytest.mark.parametrize("address", ["100.64.2.0", "100.64.0.255", "2001:db8::1"])
    def test_outside(self, address: str) -> None:
        route = Route(parse_network("100.64.1.0/24"), parse_network("192.168.1.0/24"))
        with pytest.raises(ValueError, match=f"{address} is not in 100.64.1.0/24"):
            route.translate(ip_address(address))

    @pytest.mark.parametrize(
        ("virtual", "real", "reason"),
        [
            ("100.64.1.0/24", "192.168.0.0/16", "differ in prefix length"),
            ("100.64.1.0/24", "fd00::/24", "different address families"),
        ],
    )
    def test_unlike_halves(self, virtual: str, real: str, reason: str) -> None:
        with pytest.raises(ValueError, match=reason):
            Route(parse_network(virtual), parse_network(real))

    @given(
        st.integers(0, 32), st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1)
    )
    def test_there_and_back(self, length: int, virtual: int, real: int, address: int) -> None:
        shift = 32 - length
        route = Route(
            IPv4Network((virtual >> shift << shift, length)), IPv4Network((real >> shift << shift, length))
        )
        inside = route.virtual[address & int(route.virtual.hostmask)]
        translated = route.translate(inside)
        assert translated in route.real
        assert Route(route.real, route.virtual).translate(translated) == inside


class TestShortForm:
    """One managed network, under its own addresses and under a virtual base."""

    def translate(self, managed: str, virtual: str) -> str:
        (_, route) = routes_of_managed_network(parse_network(managed), BASE)
        return str(route.translate(ip_address(virtual)))

    def test_small_network_keeps_its_low_sixteen_bits(self) -> None:
        assert self.translate("192.168.1.0/24", "100.64.1.5") == "192.168.1.5"

    def test_large_network_shows_its_first_slice(self) -> None:
        assert self.translate("10.0.0.0/8", "100.64.10.5") == "10.0.10.5"

    @pytest.mark.parametrize(
        ("managed", "expected"),
        [
            ("192.168.1.0/24", ["192.168.1.0/24", "100.64.1.0/24 -> 192.168.1.0/24"]),
            ("10.0.0.0/8", ["10.0.0.0/8", "100.64.0.0/16 -> 10.0.0.0/16"]),
            ("172.16.0.0/12", ["172.16.0.0/12", "100.64.0.0/16 -> 172.16.0.0/16"]),
            ("192.168.7.9/32", ["192.168.7.9/32", "100.64.7.9/32 -> 192.168.7.9/32"]),
            ("100.64.3.0/24", ["100.64.3.0/24"]),
            ("100.64.0.0/16", ["100.64.0.0/16"]),
            ("0.0.0.0/0", ["0.0.0.0/0", "100.64.0.0/16 -> 0.0.0.0/16"]),
            ("2001:db8::/32", ["2001:db8::/32"]),
        ],
    )
    def test_routes(self, managed: str, expected: list[str]) -> None:
        routes = routes_of_managed_network(parse_network(managed), BASE)
        assert [str(route) for route in routes] == expected

    def test_base_of_another_size(self) -> None:
        with pytest.raises(ValueError, match=r"virtual_base is a /16, not 100\.64\.0\.0/10"):
            routes_of_managed_network(parse_network("10.0.0.0/8"), IPv4Network("100.64.0.0/10"))


class TestParseNetwork:
    @pytest.mark.parametrize(
        ("text", "network"),
        [
            ("192.168.1.0/24", IPv4Network("192.168.1.0/24")),
            ("192.168.1.5", IPv4Network("192.168.1.5/32")),
            ("0.0.0.0/0", IPv4Network("0.0.0.0/0")),
            ("2001:db8::/32", IPv6Network("2001:db8::/32")),
            ("2001:db8::1", IPv6Network("2001:db8::1/128")),
        ],
    )
    def test_networks(self, text: str, network: Network) -> None:
        assert parse_network(text) == network

    def test_host_bits(self) -> None:
        with pytest.raises(ValueError, match=r"did you mean 192\.168\.1\.0/24\?"):
            parse_network("192.168.1.5/24")

    @pytest.mark.parametrize("text", ["", "lan", "192.168.1.0/33", "192.168.1/24", "10.0.0.0-10.0.0.9"])
    def test_anything_else(self, text: str) -> None:
        with pytest.raises(ValueError, match="expected a network such as"):
            parse_network(text)


class TestPrefixTable:
    def test_exact_and_longest(self) -> None:
        table = PrefixTable[str]()
        table[parse_network("10.0.0.0/8")] = "wide"
        table[parse_network("10.1.0.0/16")] = "narrow"
        assert table.get(parse_network("10.1.0.0/16")) == "narrow"
        assert table.get(parse_network("10.0.0.0/16")) is None
        assert table.longest_match(ip_address("10.1.2.3")) == "narrow"
        assert table.longest_match(ip_address("10.2.2.3")) == "wide"
        assert table.longest_match(ip_address("11.0.0.1")) is None
        assert table.longest_match(ip_address("::a01:203")) is None
        del table[parse_network("10.1.0.0/16")]
        assert table.longest_match(ip_address("10.1.2.3")) == "wide"

    def test_deleting_what_is_not_there(self) -> None:
        table = PrefixTable[str]()
        with pytest.raises(KeyError):
            del table[parse_network("10.0.0.0/8")]

    networks = st.one_of(
        st.builds(
            lambda length, number: IPv4Network((number >> 32 - length << 32 - length, length)),
            st.integers(0, 32),
            st.sampled_from((0, 0x0A010203, 0x0A01FF00, 0xFFFFFFFF)),
        ),
        st.builds(
            lambda length, number: IPv6Network((number >> 128 - length << 128 - length, length)),
            st.integers(0, 128),
            st.sampled_from((0, 1, 0x20010DB8 << 96, 2**128 - 1)),
        ),
    )

    @given(st.lists(st.tuples(networks, st.integers(1, 3))))
    def test_agrees_with_a_naive_model(self, script: list[tuple[Network, int]]) -> None:
        """The value 3 deletes."""
        table = PrefixTable[int]()
        naive: dict[Network, int] = {}
        for network, value in script:
            if value < 3:
                table[network] = naive[network] = value
            elif network in naive:
                del table[network]
                del naive[network]
            for address in (network.network_address, network.broadcast_address):
                fits = [candidate for candidate in naive if address in candidate]
                longest = max(fits, key=lambda each: each.prefixlen, default=None)
                assert table.longest_match(address) == (naive[longest] if longest else None)
            assert table.get(network) == naive.get(network)
