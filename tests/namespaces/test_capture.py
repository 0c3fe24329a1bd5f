"""Capture, seen from the wire: who gets a connection, and what does it know about it?"""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from tests.namespaces.capture_hosts import (
    CAPTURE_PORT,
    CAPTURED,
    EXCLUDED,
    FOREIGN,
    IPV4_ONLY_CAPTURE_PORT,
    LOOPBACK,
    NETWORKS,
    NOBODY,
    SERVER,
    UNHEARD_PORT,
    Hosts,
    capture_hosts,
    captured,
    direct,
)
from tunneler.errors import CaptureError

FOREIGN_RULES = """
for command in iptables-legacy ip6tables-legacy; do
    $command -t nat -N THEIRS
    $command -t nat -A THEIRS -p udp -j RETURN
    $command -t nat -A OUTPUT -p udp --dport 53 -j THEIRS
    $command -t nat -A OUTPUT -p tcp --dport 4242 -m comment --comment "another's" -j REDIRECT --to-ports 4243
    $command -t nat -A PREROUTING -p tcp --dport 4244 -m statistic --mode random --probability 0.5 -j RETURN
    $command -t nat -A POSTROUTING -p udp -j ACCEPT
done
nft -f - <<RULES
table inet theirs {
    set theirs { type ipv4_addr; flags interval; elements = { 192.0.2.0/24 } }
    chain output { type nat hook output priority -100; ip daddr @theirs tcp dport 4242 redirect to :4243; }
}
table ip nat {
    chain OUTPUT { type nat hook output priority -100; ip daddr 192.0.2.1 counter return; }
}
RULES
"""


@pytest.fixture(scope="module")
def hosts() -> Iterator[Hosts]:
    with capture_hosts() as hosts:
        yield hosts


@pytest.fixture(autouse=True)
def clean(hosts: Hosts) -> Iterator[None]:
    yield
    hosts.clean()


@pytest.fixture(params=["iptables", "nftables"])
def backend(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture(params=[4, 6], ids=["ipv4", "ipv6"])
def version(request: pytest.FixtureRequest) -> int:
    number: int = request.param
    return number


def without_ours(rules: str) -> str:
    return re.sub(r"(?m)^.*TUNNELER.*\n", "", re.sub(r"(?ms)^table inet tunneler \{.*?^\}\n", "", rules))


def test_a_captured_connection_tells_where_it_was_going(hosts: Hosts, backend: str, version: int) -> None:
    assert hosts.client.connect(CAPTURED[version]) == direct(CAPTURED[version])
    hosts.client.call("install", backend)
    assert hosts.client.connect(CAPTURED[version]) == captured(CAPTURED[version])
    assert hosts.client.connect(CAPTURED[version], 4711) == captured(CAPTURED[version], 4711)
    hosts.client.call("remove", backend)
    assert hosts.client.connect(CAPTURED[version]) == direct(CAPTURED[version])


def test_an_ipv4_listener_can_tell_too(hosts: Hosts, backend: str) -> None:
    hosts.client.call("install", backend, listen_port=IPV4_ONLY_CAPTURE_PORT)
    assert hosts.client.connect(CAPTURED[4]) == captured(CAPTURED[4])


def test_what_is_not_captured(hosts: Hosts, backend: str, version: int) -> None:
    hosts.client.call("install", backend, user="nobody", servers=[SERVER[version]])
    assert hosts.client.connect(CAPTURED[version], uid=1) == captured(CAPTURED[version])
    assert hosts.client.connect(CAPTURED[version], uid=NOBODY) == direct(CAPTURED[version])
    assert hosts.client.connect(EXCLUDED[version]) == direct(EXCLUDED[version])
    assert hosts.client.connect(SERVER[version]) == direct(SERVER[version])
    assert hosts.client.connect(FOREIGN[version]) == direct(FOREIGN[version])


def test_only_tcp_is_captured(hosts: Hosts, backend: str, version: int) -> None:
    hosts.client.call("install", backend, gateway=True)
    for host in (hosts.client, hosts.lan):
        assert host.call("send_datagram", CAPTURED[version], 80, "hello") == "direct hello"


def test_everything_is_captured_but_loopback_and_exclusions(hosts: Hosts, backend: str, version: int) -> None:
    hosts.client.call("install", backend, networks=["0.0.0.0/0", "::/0"])
    assert hosts.client.connect(FOREIGN[version]) == captured(FOREIGN[version])
    assert hosts.client.connect(LOOPBACK[version]) == direct(LOOPBACK[version])
    assert hosts.client.connect(EXCLUDED[version]) == direct(EXCLUDED[version])


def test_only_a_gateway_captures_for_others(hosts: Hosts, backend: str, version: int) -> None:
    hosts.client.call("install", backend)
    assert hosts.lan.connect(CAPTURED[version]) == direct(CAPTURED[version])
    hosts.client.call("install", backend, gateway=True, user="root")
    assert hosts.lan.connect(CAPTURED[version]) == captured(CAPTURED[version])
    assert hosts.lan.connect(EXCLUDED[version]) == direct(EXCLUDED[version])
    assert hosts.lan.connect(FOREIGN[version]) == direct(FOREIGN[version])
    assert hosts.client.connect(CAPTURED[version]) == direct(CAPTURED[version])
    hosts.client.call("install", backend)
    assert hosts.lan.connect(CAPTURED[version]) == direct(CAPTURED[version])


def test_without_a_listener_a_captured_connection_is_refused(
    hosts: Hosts, backend: str, version: int
) -> None:
    hosts.client.call("install", backend, listen_port=UNHEARD_PORT)
    assert hosts.client.connect(CAPTURED[version]) == "ConnectionRefusedError"


def test_the_listener_is_no_open_relay(hosts: Hosts, backend: str, version: int) -> None:
    own = {4: "10.55.0.1", 6: "fd55::1"}[version]
    hosts.client.call("install", backend, networks=["0.0.0.0/0", "::/0"])
    assert "a loop" in hosts.lan.connect(own, CAPTURE_PORT)
    assert "a loop" in hosts.client.connect(LOOPBACK[version], CAPTURE_PORT)
    assert "a loop" not in hosts.client.connect(CAPTURED[version], CAPTURE_PORT)


def test_a_connection_that_nothing_redirected_is_refused(hosts: Hosts) -> None:
    assert hosts.lan.connect("10.55.0.1", CAPTURE_PORT).startswith("refused: ")


def test_install_twice_is_install_once(hosts: Hosts, backend: str) -> None:
    hosts.client.call("install", backend, gateway=True, user="nobody")
    once = hosts.rules()
    hosts.client.call("install", backend, gateway=True, user="nobody")
    assert hosts.rules() == once
    assert hosts.client.call("check", backend, gateway=True, user="nobody") == []


def test_another_plan_replaces_the_first(hosts: Hosts, backend: str) -> None:
    hosts.client.call("install", backend, gateway=True, user="nobody", listen_port=UNHEARD_PORT)
    hosts.client.call("install", backend, networks=["198.51.100.0/24"], exclude=[])
    assert hosts.client.call("check", backend, networks=["198.51.100.0/24"], exclude=[]) == []
    assert hosts.client.connect(FOREIGN[4]) == captured(FOREIGN[4])
    assert hosts.client.connect(FOREIGN[4], uid=NOBODY) == captured(FOREIGN[4])
    assert hosts.client.connect(CAPTURED[4]) == direct(CAPTURED[4])
    assert hosts.client.connect(CAPTURED[6]) == direct(CAPTURED[6])
    assert hosts.lan.connect(FOREIGN[4]) == direct(FOREIGN[4])


def test_the_rules_of_others_stay_as_they_were(hosts: Hosts, backend: str) -> None:
    hosts.shell(FOREIGN_RULES)
    before = hosts.rules()
    hosts.client.call("install", backend, gateway=True, user="nobody")
    hosts.client.call("install", backend)
    assert hosts.client.connect(CAPTURED[4]) == captured(CAPTURED[4])
    assert without_ours(hosts.rules()) == before
    hosts.client.call("remove", backend)
    assert hosts.rules() == before


def test_our_rules_decide_before_those_of_others(hosts: Hosts) -> None:
    hosts.shell("iptables-legacy -t nat -A OUTPUT -p tcp -j ACCEPT")
    hosts.client.call("install", "iptables")
    assert hosts.client.connect(CAPTURED[4]) == captured(CAPTURED[4])


def test_remove_leaves_nothing_and_needs_nothing(hosts: Hosts, backend: str) -> None:
    before = hosts.rules()
    hosts.client.call("remove", backend)
    hosts.client.call("install", backend, gateway=True, user="nobody")
    assert hosts.rules() != before
    assert hosts.client.call("installed", backend)
    hosts.client.call("remove", backend)
    hosts.client.call("remove", backend)
    assert hosts.rules() == before
    assert not hosts.client.call("installed", backend)


def test_iptables_reads_our_bytes_as_we_meant_them(hosts: Hosts) -> None:
    hosts.client.call("install", "iptables", gateway=True, user="nobody")
    comment = "-m comment --comment tunneler"
    listed = [line for line in hosts.rules().splitlines() if line.startswith("-A")]
    assert listed == [
        f"-A PREROUTING -p tcp {comment} -j TUNNELER",
        f"-A OUTPUT -p tcp {comment} -m owner ! --uid-owner {NOBODY} -j TUNNELER",
        f"-A TUNNELER -d 100.64.2.0/24 -p tcp {comment} -j RETURN",
        f"-A TUNNELER -d 127.0.0.0/8 -p tcp {comment} -j RETURN",
        f"-A TUNNELER -d 100.64.0.0/10 -p tcp {comment} -j REDIRECT --to-ports 9999",
        f"-A PREROUTING -p tcp {comment} -j TUNNELER",
        f"-A OUTPUT -p tcp {comment} -m owner ! --uid-owner {NOBODY} -j TUNNELER",
        f"-A TUNNELER -d ::1/128 -p tcp {comment} -j RETURN",
        f"-A TUNNELER -d 2001:db8:64:2::/64 -p tcp {comment} -j RETURN",
        f"-A TUNNELER -d 2001:db8:64::/48 -p tcp {comment} -j REDIRECT --to-ports 9999",
    ]


def test_a_chain_that_others_use_is_not_removed(hosts: Hosts) -> None:
    hosts.client.call("install", "iptables")
    hosts.shell(
        "iptables-legacy -t nat -A POSTROUTING -j TUNNELER 2>&1 || true; iptables-legacy -t nat -N THEIRS"
    )
    hosts.shell("iptables-legacy -t nat -A THEIRS -j TUNNELER")
    with pytest.raises(CaptureError, match="do rules other than tunneler's refer to it"):
        hosts.client.call("remove", "iptables")
    assert hosts.client.connect(CAPTURED[4]) == captured(CAPTURED[4])


def test_an_unknown_user_is_an_error_before_anything_changes(hosts: Hosts, backend: str) -> None:
    before = hosts.rules()
    with pytest.raises(CaptureError, match="no user 'nosuchuser'"):
        hosts.client.call("install", backend, user="nosuchuser")
    assert hosts.rules() == before


def test_a_plan_without_ipv6_does_not_touch_the_ipv6_table() -> None:
    with capture_hosts() as hosts:
        hosts.client.call("install", "iptables", networks=NETWORKS[:1])
        assert hosts.shell("cat /proc/net/ip_tables_names").split() == ["nat"]
        assert hosts.shell("cat /proc/net/ip6_tables_names").split() == []


def test_auto_takes_what_the_host_uses() -> None:
    with capture_hosts() as hosts:
        assert hosts.client.call("automatic") == "nftables"
        assert hosts.shell("cat /proc/net/ip_tables_names").split() == []
        hosts.shell("iptables-legacy -t filter -L")
        assert hosts.client.call("automatic") == "iptables"
        hosts.client.call("install", "nftables")
        assert hosts.client.call("automatic") == "nftables"
        hosts.client.call("remove", "nftables")
        assert hosts.client.call("automatic") == "iptables"
