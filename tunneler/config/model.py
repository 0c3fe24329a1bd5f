"""The configuration of each role, validated: what a running role may rely on.

The docstring below a field is its documentation: it becomes the description in the JSON
Schema. Sections that the roles share are in :mod:`tunneler.config.sections`; where values
come from is :mod:`tunneler.config.load`.
"""

from __future__ import annotations

from functools import cached_property
from ipaddress import IPv4Network
from typing import Literal, Self

from pydantic import ValidationInfo, field_validator, model_validator

from tunneler.addresses import (
    ANY_HOST,
    VIRTUAL_BASE_PREFIX_LENGTH,
    HostPort,
    Network,
    Role,
    Route,
    routes_of_managed_network,
)
from tunneler.config.fields import (
    HostPorts,
    Identifier,
    ListenAddress,
    Networks,
    Port,
    Routes,
    VirtualBase,
)
from tunneler.config.hosts import is_loopback, name_of_this_host, new_instance_name
from tunneler.config.sections import (
    AdminConfig,
    CaptureConfig,
    LimitConfig,
    LogConfig,
    Section,
    TcpKeepaliveConfig,
    TimeoutConfig,
    TlsConfig,
    fault_at,
)

__all__ = [
    "MODEL_OF_ROLE",
    "AdminConfig",
    "CaptureConfig",
    "ClientConfig",
    "DialingConfig",
    "LimitConfig",
    "LogConfig",
    "ProxyConfig",
    "RoleConfig",
    "ServerConfig",
    "TcpKeepaliveConfig",
    "TimeoutConfig",
    "TlsConfig",
]


class RoleConfig(Section):
    """What every role has."""

    tls: TlsConfig
    """Mutual TLS."""
    transport: Literal["native", "grpcio"] = "native"
    """What carries links: native, which is ours, or grpcio, the stock one; peers need not use the same."""
    log: LogConfig = LogConfig()
    """The log."""
    admin: AdminConfig = AdminConfig()
    """The admin port."""
    timeouts: TimeoutConfig = TimeoutConfig()
    """Durations."""
    limits: LimitConfig = LimitConfig()
    """Limits."""
    tcp_keepalive: TcpKeepaliveConfig = TcpKeepaliveConfig()
    """TCP keepalive."""

    @property
    def link_addresses(self) -> tuple[HostPort, ...]:
        """Where this role's links begin or end."""
        return ()

    @model_validator(mode="after")
    def _plaintext_stays_on_this_machine(self) -> Self:
        if self.tls.insecure:
            for address in self.link_addresses:
                if not is_loopback(address.host):
                    raise fault_at(
                        "tls.insecure",
                        f"plaintext is for loopback addresses only, and {address} is not one: set cert_file, "
                        "key_file and ca_file, or use 127.0.0.1, ::1 or localhost",
                    )
        return self


class DialingConfig(RoleConfig):
    """What the roles have that link to servers."""

    server_addr: HostPorts
    """Servers to link to, HOST:PORT; one or a list. A name may resolve to several addresses."""

    @field_validator("server_addr")
    @classmethod
    def _has_hosts(cls, servers: tuple[HostPort, ...]) -> tuple[HostPort, ...]:
        if not servers:
            raise ValueError("expected at least one HOST:PORT")
        for server in servers:
            if server.host == ANY_HOST:
                raise ValueError(f"expected HOST:PORT with a host to link to, not {str(server)!r}")
        return tuple(dict.fromkeys(servers))

    @property
    def link_addresses(self) -> tuple[HostPort, ...]:
        return self.server_addr


class ClientConfig(DialingConfig):
    """Configuration of a client: it captures connections and hands them to a server."""

    listen_port: Port = 9999
    """Port to which captured connections are redirected."""
    target_cidr: Networks = (IPv4Network("100.64.0.0/10"),)
    """Networks to capture; one or a list."""
    client_id: Identifier = ""
    """Names this instance under its certificate's identity; empty: host name and random digits."""
    exclude: Networks = ()
    """Networks never captured, even if inside target_cidr; one or a list."""
    capture: CaptureConfig = CaptureConfig()
    """Packet filter rules."""

    @field_validator("target_cidr")
    @classmethod
    def _captures_something(cls, networks: tuple[Network, ...]) -> tuple[Network, ...]:
        if not networks:
            raise ValueError("expected at least one network")
        return networks

    @field_validator("client_id")
    @classmethod
    def _make_client_id(cls, client_id: str) -> str:
        return client_id or new_instance_name()


class ServerConfig(RoleConfig):
    """Configuration of a server: it relays between clients and proxies."""

    listen_addr: ListenAddress = HostPort(ANY_HOST, 8081)
    """Where links arrive, HOST:PORT; :PORT means every address of this machine."""

    @property
    def link_addresses(self) -> tuple[HostPort, ...]:
        return (self.listen_addr,)


class ProxyConfig(DialingConfig):
    """Configuration of a proxy: it announces routes and dials targets."""

    proxy_id: Identifier = ""
    """Names this instance under its certificate's identity; empty: the host's name."""
    group: Identifier = ""
    """Proxies of one certificate that serve the same routes on purpose share a group; empty: proxy_id."""
    managed_cidr: Networks = ()
    """Networks served under their own addresses and, if IPv4, under virtual_base; one or a list."""
    routes: Routes = ()
    """Explicit routes: a virtual prefix and the real prefix of the same length behind it."""
    virtual_base: VirtualBase = IPv4Network("100.64.0.0/16")
    """The /16 under which managed_cidr appears: 192.168.1.0/24 is also 100.64.1.0/24."""

    @field_validator("proxy_id")
    @classmethod
    def _make_proxy_id(cls, proxy_id: str) -> str:
        # Nothing random: a restarted proxy must replace its old link, not compete with it.
        return proxy_id or name_of_this_host()

    @field_validator("group")
    @classmethod
    def _make_group(cls, group: str, info: ValidationInfo) -> str:
        return group or str(info.data.get("proxy_id", ""))

    @field_validator("virtual_base")
    @classmethod
    def _is_a_16(cls, base: IPv4Network) -> IPv4Network:
        if base.prefixlen != VIRTUAL_BASE_PREFIX_LENGTH:
            raise ValueError(f"expected a /16 such as 100.64.0.0/16, not {base}")
        return base

    @cached_property
    def all_routes(self) -> tuple[Route, ...]:
        """Explicit routes, then those of each managed network; without repeats."""
        managed = (routes_of_managed_network(network, self.virtual_base) for network in self.managed_cidr)
        return tuple(dict.fromkeys((*self.routes, *(route for routes in managed for route in routes))))

    @model_validator(mode="after")
    def _routes_are_unambiguous(self) -> Self:
        if not self.all_routes:
            raise fault_at(
                "managed_cidr", "expected managed_cidr or routes: a proxy without a route serves nothing"
            )
        real_of: dict[Network, Network] = {}
        for route in self.all_routes:
            other = real_of.setdefault(route.virtual, route.real)
            if other != route.real:
                raise fault_at(
                    "routes" if self.routes else "managed_cidr",
                    f"{route.virtual} would mean both {other} and {route.real}: "
                    "give one of them a virtual prefix of its own in routes, not in managed_cidr",
                )
        return self


MODEL_OF_ROLE: dict[Role, type[RoleConfig]] = {
    Role.CLIENT: ClientConfig,
    Role.SERVER: ServerConfig,
    Role.PROXY: ProxyConfig,
}
