"""Configurations made in code, and the rules that join several keys."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network, IPv6Network
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from tunneler.addresses import HostPort, Role, Route
from tunneler.config.model import (
    MODEL_OF_ROLE,
    AdminConfig,
    ClientConfig,
    ProxyConfig,
    RoleConfig,
    ServerConfig,
    TimeoutConfig,
    TlsConfig,
)

TLS = TlsConfig(cert_file=Path("cert.pem"), key_file=Path("key.pem"), ca_file=Path("ca.pem"))
PLAINTEXT = TlsConfig(insecure=True)
LAN = IPv4Network("192.168.1.0/24")
OTHER_LAN = IPv4Network("10.9.1.0/24")
RELAY = HostPort("relay.example.org", 8081)


def proxy(**settings: Any) -> ProxyConfig:
    return ProxyConfig(tls=TLS, server_addr=(RELAY,), **settings)


def complaints(error: ValidationError) -> str:
    return "\n".join(detail["msg"] for detail in error.errors())


def test_a_client_needs_a_server_and_tls_and_has_defaults_for_the_rest() -> None:
    config = ClientConfig(tls=TLS, server_addr=(RELAY,))
    assert config.listen_port == 9999
    assert config.target_cidr == (IPv4Network("100.64.0.0/10"),)
    assert config.exclude == ()
    assert config.timeouts.open > config.timeouts.dial
    assert config.limits.memory_budget == 64 * 1024 * 1024
    assert config.capture.enabled
    assert config.capture.backend == "auto"


def test_a_server_listens_everywhere_by_default() -> None:
    assert ServerConfig(tls=TLS).listen_addr == HostPort("", 8081)


def test_every_client_gets_an_id_of_its_own() -> None:
    first, second = (ClientConfig(tls=TLS, server_addr=(RELAY,)) for _ in range(2))
    assert first.client_id
    assert first.client_id != second.client_id


def test_a_proxy_id_survives_a_restart_and_is_its_group() -> None:
    first, second = (proxy(managed_cidr=(LAN,)) for _ in range(2))
    assert first.proxy_id
    assert first.proxy_id == second.proxy_id == first.group
    assert proxy(managed_cidr=(LAN,), proxy_id="north", group="site").group == "site"
    assert proxy(managed_cidr=(LAN,), proxy_id="north").group == "north"


@pytest.mark.parametrize("wrong", ["a b", "x" * 65, "a/b", "ü", "a\n"])
def test_ids_are_names_that_a_certificate_could_have(wrong: str) -> None:
    with pytest.raises(ValidationError, match="expected up to 64 letters"):
        proxy(managed_cidr=(LAN,), proxy_id=wrong)


def test_configurations_are_immutable() -> None:
    config = ServerConfig(tls=TLS)
    with pytest.raises(ValidationError, match="frozen"):
        config.listen_addr = RELAY


@pytest.mark.parametrize(("written", "meant"), [("1.2", "1.2"), ("1.3", "1.3"), (1.2, "1.2"), (1.3, "1.3")])
def test_a_version_of_tls_as_text_or_number(written: object, meant: str) -> None:
    config = TlsConfig.model_validate({"insecure": True, "min_version": written})
    assert config.min_version == meant


@pytest.mark.parametrize("wrong", ["1.1", "TLSv1.3", "", 1, 1.35, True, None, ["1.3"]])
def test_not_a_version_of_tls(wrong: object) -> None:
    with pytest.raises(ValidationError, match=r"'1\.3' or '1\.2'"):
        TlsConfig.model_validate({"insecure": True, "min_version": wrong})


def test_no_tls_older_than_1_3_unless_somebody_says_so() -> None:
    assert TLS.min_version == "1.3"


@pytest.mark.parametrize("role", list(Role))
def test_no_model_accepts_an_unknown_key(role: Role) -> None:
    with pytest.raises(ValidationError, match="Extra inputs"):
        MODEL_OF_ROLE[role].model_validate({"tls": {"insecure": True}, "unknown": 1})


def test_one_value_a_list_or_text_with_commas() -> None:
    for one in ("192.168.1.0/24", ["192.168.1.0/24"], LAN, (LAN,)):
        assert proxy(managed_cidr=one).managed_cidr == (LAN,)
    both = proxy(managed_cidr="192.168.1.0/24, 2001:db8::/64").managed_cidr
    assert both == (LAN, IPv6Network("2001:db8::/64"))


def test_servers_are_not_repeated() -> None:
    config = ClientConfig.model_validate({"tls": TLS, "server_addr": "a:1,b:2,a:1"})
    assert config.server_addr == (HostPort("a", 1), HostPort("b", 2))


@pytest.mark.parametrize("servers", [(), "", ":8081", ["relay"], ["relay:0"], "2001:db8::1:8081", 8081])
def test_not_servers(servers: object) -> None:
    with pytest.raises(ValidationError, match="server_addr"):
        ClientConfig.model_validate({"tls": TLS, "server_addr": servers})


class TestRoutes:
    def test_the_short_form_gives_the_identity_and_a_virtual_prefix(self) -> None:
        config = proxy(managed_cidr=(LAN,))
        assert config.all_routes == (Route(LAN, LAN), Route(IPv4Network("100.64.1.0/24"), LAN))
        translated = config.all_routes[1].translate(IPv4Address("100.64.1.5"))
        assert translated == IPv4Address("192.168.1.5")

    def test_explicit_routes_come_first_and_nothing_is_repeated(self) -> None:
        explicit = Route(IPv4Network("100.64.1.0/24"), LAN)
        config = proxy(routes=(explicit, explicit), managed_cidr=(LAN, LAN))
        assert config.all_routes == (explicit, Route(LAN, LAN))

    @pytest.mark.parametrize(
        "routes",
        [
            [{"virtual": "100.65.0.0/24", "real": "192.168.1.0/24"}],
            {"virtual": "100.65.0.0/24", "real": "192.168.1.0/24"},
            "100.65.0.0/24=192.168.1.0/24",
            ["100.65.0.0/24=192.168.1.0/24"],
            '[{"virtual": "100.65.0.0/24", "real": "192.168.1.0/24"}]',
            '{"virtual": "100.65.0.0/24", "real": "192.168.1.0/24"}',
        ],
    )
    def test_ways_to_write_a_route(self, routes: object) -> None:
        assert proxy(routes=routes).routes == (Route(IPv4Network("100.65.0.0/24"), LAN),)

    @pytest.mark.parametrize(
        "routes",
        [
            "100.65.0.0/24",
            "100.65.0.0/24=192.168.1.0/25",
            "100.65.0.0/24=2001:db8::/24",
            "[",
            "[" * 100_000,
            [{"virtual": "100.65.0.0/24"}],
            [{"virtual": "100.65.0.0/24", "real": "192.168.1.0/24", "metric": 1}],
            [5],
            5,
        ],
    )
    def test_not_routes(self, routes: object) -> None:
        with pytest.raises(ValidationError, match="routes"):
            proxy(routes=routes)

    def test_none_at_all(self) -> None:
        with pytest.raises(ValidationError, match="a proxy without a route serves nothing"):
            proxy()

    def test_one_virtual_prefix_for_two_networks(self) -> None:
        with pytest.raises(
            ValidationError, match=r"100\.64\.1\.0/24 would mean both 192\.168\.1\.0/24 and 10\.9"
        ):
            proxy(managed_cidr=(LAN, OTHER_LAN))
        explicit = Route(IPv4Network("100.64.1.0/24"), OTHER_LAN)
        with pytest.raises(ValidationError, match=r"100\.64\.1\.0/24 would mean both"):
            proxy(managed_cidr=(LAN,), routes=(explicit,))

    @pytest.mark.parametrize("base", ["100.64.0.0/10", "2001:db8::/16", "100.64.0.0/17", "100.64.1.0/16", 5])
    def test_not_virtual_bases(self, base: object) -> None:
        with pytest.raises(ValidationError, match="virtual_base"):
            proxy(managed_cidr=(LAN,), virtual_base=base)

    def test_another_virtual_base(self) -> None:
        config = proxy(managed_cidr=(LAN,), virtual_base="100.70.0.0/16")
        assert config.all_routes[1].virtual == IPv4Network("100.70.1.0/24")


class TestTls:
    def test_all_three_files(self) -> None:
        with pytest.raises(ValidationError, match="not set: key_file, ca_file"):
            TlsConfig(cert_file=Path("cert.pem"))

    def test_an_empty_name_is_no_file(self) -> None:
        with pytest.raises(ValidationError, match="not set: cert_file, key_file, ca_file"):
            TlsConfig.model_validate({"cert_file": "", "key_file": "", "ca_file": ""})

    @pytest.mark.parametrize("name", ["a\0b", "\ud800"])
    def test_names_that_no_file_has(self, name: str) -> None:
        with pytest.raises(ValidationError, match="expected a path"):
            TlsConfig.model_validate({"cert_file": name, "key_file": "k", "ca_file": "a"})

    @pytest.mark.parametrize("address", ["127.0.0.1:8081", "[::1]:8081", "localhost:8081"])
    def test_plaintext_on_loopback(self, address: str) -> None:
        ServerConfig.model_validate({"tls": PLAINTEXT, "listen_addr": address})
        ClientConfig.model_validate({"tls": PLAINTEXT, "server_addr": address})

    @pytest.mark.parametrize("address", [":8081", "0.0.0.0:8081", "[::]:8081", "relay.example.org:8081"])
    def test_plaintext_elsewhere(self, address: str) -> None:
        with pytest.raises(ValidationError, match="plaintext is for loopback addresses only"):
            ServerConfig.model_validate({"tls": PLAINTEXT, "listen_addr": address})

    @pytest.mark.parametrize("model", [ClientConfig, ProxyConfig])
    def test_plaintext_with_one_server_elsewhere(self, model: type[RoleConfig]) -> None:
        settings = {"tls": PLAINTEXT, "server_addr": "127.0.0.1:1,192.0.2.1:1"}
        if model is ProxyConfig:
            settings["managed_cidr"] = "192.168.1.0/24"
        with pytest.raises(ValidationError, match=r"192\.0\.2\.1:1 is not one"):
            model.model_validate(settings)


class TestAdmin:
    @pytest.mark.parametrize("written", ["127.0.0.1:9998", "[::1]:9998", "localhost:9998"])
    def test_on_loopback(self, written: str) -> None:
        assert str(AdminConfig.model_validate({"listen": written}).listen) == written

    @pytest.mark.parametrize("written", [None, ""])
    def test_none(self, written: str | None) -> None:
        assert AdminConfig.model_validate({"listen": written}).listen is None

    @pytest.mark.parametrize("written", [":9998", "0.0.0.0:9998", "relay.example.org:9998"])
    def test_nowhere_else(self, written: str) -> None:
        with pytest.raises(ValidationError, match=r"expected a loopback address such as 127\.0\.0\.1:9998"):
            AdminConfig.model_validate({"listen": written})


class TestTimeouts:
    @pytest.mark.parametrize(("heartbeat", "silence"), [(5, 5), (15, None), (20, 10)])
    def test_silence_is_longer_than_heartbeat(self, heartbeat: float, silence: float | None) -> None:
        given = {"heartbeat": heartbeat} | ({} if silence is None else {"silence": silence})
        with pytest.raises(ValidationError, match=r"expected more than timeouts\.heartbeat"):
            TimeoutConfig.model_validate(given)

    def test_the_backoff_cap_is_not_below_its_start(self) -> None:
        with pytest.raises(ValidationError, match=r"expected at least timeouts\.backoff_start"):
            TimeoutConfig(backoff_start=5, backoff_cap=4)
        assert TimeoutConfig(backoff_start=5, backoff_cap=5).backoff_cap == 5

    def test_idle_zero_means_never_and_others_are_positive(self) -> None:
        assert TimeoutConfig(idle=0).idle == 0
        with pytest.raises(ValidationError) as caught:
            TimeoutConfig(dial=0, open=0, handshake=0, heartbeat=0, backoff_start=0)
        assert len(caught.value.errors()) >= 5


@pytest.mark.parametrize(
    ("section", "key", "value"),
    [
        ("limits", "memory_budget", "1023KiB"),
        ("limits", "max_connections", 0),
        ("limits", "max_connections", True),
        ("limits", "max_links", "many"),
        ("tcp_keepalive", "count", 128),
        ("tcp_keepalive", "idle", "500ms"),
        ("log", "level", "loud"),
        ("log", "format", "xml"),
        ("log", "output", ""),
        ("capture", "backend", "pf"),
        ("capture", "user", "no such user"),
        ("capture", "gateway", "maybe"),
    ],
)
def test_values_out_of_bounds(section: str, key: str, value: object) -> None:
    with pytest.raises(ValidationError) as caught:
        ClientConfig.model_validate({"tls": TLS, "server_addr": "relay:1", section: {key: value}})
    assert [detail["loc"] for detail in caught.value.errors()] == [(section, key)], complaints(caught.value)


@pytest.mark.parametrize("user", ["", "tunneler", "_apt", "web.front-1", "1000", "machine$"])
def test_system_users(user: str) -> None:
    config = ClientConfig.model_validate({"tls": TLS, "server_addr": "relay:1", "capture": {"user": user}})
    assert config.capture.user == user
