"""The sections that configurations are made of.

The docstring below a field is its documentation: it becomes the description in the JSON
Schema. How a value is read from text is :mod:`tunneler.config.fields`.
"""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationInfo,
    WithJsonSchema,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError

from tunneler.addresses import HostPort
from tunneler.config.fields import (
    BYTES,
    SECONDS,
    WHOLE_NUMBER,
    Count,
    FilePath,
    OptionalListenAddress,
    OutputPath,
    ReadBy,
    SystemUser,
)
from tunneler.config.hosts import is_loopback

MEBIBYTE = 1024 * 1024
SHORTEST = 0.01
"""Seconds. Below this a timer measures the event loop, not the peer."""
HOUR = 3600.0
DAY = 24 * HOUR


def _version_text(value: object) -> object:
    # JSON, unlike YAML as it is read here, makes a number of an unquoted 1.3.
    return str(value) if isinstance(value, float) else value


TlsVersion = Annotated[
    Literal["1.3", "1.2"],
    ReadBy(_version_text),
    WithJsonSchema({"enum": ["1.3", "1.2", 1.3, 1.2]}),  # an editor takes an unquoted one for a number
]


def fault_at(key: str, expected: str) -> PydanticCustomError:
    """An error of a whole section that belongs to one of its keys (dotted, from that section)."""
    return PydanticCustomError("section", "{expected}", {"expected": expected, "key": key})


class Section(BaseModel):
    """Base of everything here: immutable, and closed to keys that it does not know."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", validate_default=True, use_attribute_docstrings=True
    )


class TlsConfig(Section):
    """Mutual TLS: who this process is, and which authority its peers' certificates come from."""

    cert_file: FilePath = None
    """Certificate (PEM, with any intermediates) that this process shows to its peers."""
    key_file: FilePath = None
    """Private key (PEM) of cert_file."""
    ca_file: FilePath = None
    """Certificate authority (PEM) that must have issued the peers' certificates."""
    min_version: TlsVersion = "1.3"
    """The oldest version of TLS that a link may use, 1.3 or 1.2; transport grpcio cannot refuse 1.2."""
    insecure: bool = False
    """Plaintext, without any identity; accepted only if every address involved is a loopback address."""

    @model_validator(mode="after")
    def _files_or_insecure(self) -> Self:
        if self.insecure:
            return self
        missing = [name for name in ("cert_file", "key_file", "ca_file") if getattr(self, name) is None]
        if missing:
            raise fault_at(
                missing[0], f"expected cert_file, key_file and ca_file; not set: {', '.join(missing)}"
            )
        return self


class LogConfig(Section):
    """What is logged, how it is written, and where to."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    """The least important level that is still written."""
    format: Literal["auto", "json", "text", "journal"] = "auto"
    """json: one object a line; text: for people; journal: systemd's, with fields; auto: journal or json."""
    output: OutputPath = "stdout"
    """stdout, stderr, or the path of a file to append to; format journal ignores it."""


class AdminConfig(Section):
    """The admin port: health and status over HTTP, for this host alone."""

    listen: OptionalListenAddress = None
    """Loopback address of the admin port, HOST:PORT; empty: none, unless systemd passes a socket for it."""

    @field_validator("listen")
    @classmethod
    def _is_loopback(cls, listen: HostPort | None) -> HostPort | None:
        if listen is not None and not is_loopback(listen.host):
            raise ValueError(
                f"expected a loopback address such as 127.0.0.1:{listen.port}, not {listen}: nobody is asked "
                "who he is there; a .socket unit named tunneler-admin can listen elsewhere"
            )
        return listen


class TimeoutConfig(Section):
    """Durations: a number of seconds, or text with a unit (500ms, 10s, 5m, 1h)."""

    heartbeat: Annotated[float, Field(ge=0.1, le=HOUR), SECONDS] = 5.0
    """How often a link that says nothing else sends a heartbeat."""
    silence: Annotated[float, Field(ge=0.2, le=DAY), SECONDS] = 15.0
    """A peer that sends nothing for this long is dead; longer than heartbeat."""
    handshake: Annotated[float, Field(ge=SHORTEST, le=HOUR), SECONDS] = 10.0
    """Time for TCP, TLS and the first messages of a link."""
    dial: Annotated[float, Field(ge=SHORTEST, le=HOUR), SECONDS] = 10.0
    """Proxy: time for a target to accept a connection."""
    open: Annotated[float, Field(ge=SHORTEST, le=HOUR), SECONDS] = 15.0
    """Client: time until a captured connection has its answer; longer than dial at any proxy."""
    idle: Annotated[float, Field(ge=0, le=365 * DAY), SECONDS] = HOUR
    """A connection without a byte either way for this long is reset; 0 means never."""
    idle_spares_keepalive: bool = False
    """Connections watched by TCP keepalive never end by the idle timeout."""
    drain: Annotated[float, Field(ge=0, le=DAY), SECONDS] = 30.0
    """Time for open connections to finish after a request to stop; then they are reset."""
    backoff_start: Annotated[float, Field(ge=SHORTEST, le=HOUR), SECONDS] = 0.1
    """Upper bound of the random pause before the first new attempt; doubled after each failure."""
    backoff_cap: Annotated[float, Field(ge=SHORTEST, le=DAY), SECONDS] = 30.0
    """The pause before a new attempt never exceeds this; not shorter than backoff_start."""
    backoff_reset: Annotated[float, Field(ge=SHORTEST, le=DAY), SECONDS] = 60.0
    """A link that lasted this long makes the pauses start again from backoff_start."""

    @field_validator("silence")
    @classmethod
    def _silence_outlasts_heartbeat(cls, silence: float, info: ValidationInfo) -> float:
        heartbeat = info.data.get("heartbeat", 0.0)
        if silence <= heartbeat:
            raise ValueError(f"expected more than timeouts.heartbeat, which is {heartbeat:g}s")
        return silence

    @field_validator("backoff_cap")
    @classmethod
    def _cap_is_above_start(cls, cap: float, info: ValidationInfo) -> float:
        start = info.data.get("backoff_start", 0.0)
        if cap < start:
            raise ValueError(f"expected at least timeouts.backoff_start, which is {start:g}s")
        return cap


class LimitConfig(Section):
    """How much this process takes on."""

    memory_budget: Annotated[int, Field(ge=MEBIBYTE, le=MEBIBYTE**2), BYTES] = 64 * MEBIBYTE
    """Bytes that all windows together may hold (64MiB, 1GiB, or a number of bytes); at least 1MiB."""
    max_connections: Count = 10_000
    """Connections at once."""
    max_connections_per_link: Count = 5_000
    """Connections at once on one link."""
    max_links: Count = 1_000
    """Server: links at once."""
    max_routes_per_proxy: Count = 256
    """Server: routes that one proxy may announce."""


class TcpKeepaliveConfig(Section):
    """The kernel's own probes on captured connections and on those to targets (tcp(7))."""

    enabled: bool = True
    """Whether the kernel probes silent connections."""
    idle: Annotated[float, Field(ge=1, le=32767), SECONDS] = 60.0
    """Silence before the first probe; whole seconds (TCP_KEEPIDLE)."""
    interval: Annotated[float, Field(ge=1, le=32767), SECONDS] = 15.0
    """Between two probes; whole seconds (TCP_KEEPINTVL)."""
    count: Annotated[int, Field(ge=1, le=127), WHOLE_NUMBER] = 4
    """Probes without an answer after which the connection is dead (TCP_KEEPCNT)."""


class CaptureConfig(Section):
    """The packet filter rules that bring connections to the client."""

    enabled: bool = True
    """The client installs its rules when it starts and removes them when it ends; needs CAP_NET_ADMIN."""
    backend: Literal["auto", "iptables", "nftables"] = "auto"
    """Which packet filter; auto uses what the host uses."""
    gateway: bool = False
    """Capture the traffic of other hosts that is routed through this one, too."""
    user: SystemUser = ""
    """Traffic of this system user (name or number) is never captured; empty: no such user."""
    when_down: Literal["closed", "open"] = "closed"
    """New connections while the client is gone or has no link: closed refuses them, open lets them pass."""
