"""The flags of each role, and the way from them to a configuration in force."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar, cast

import click

from tunneler.addresses import Role
from tunneler.cli.apart import apart
from tunneler.cli.program import program_of
from tunneler.config.flags import FLAG_OF_KEY
from tunneler.observability.complaint import complain

if TYPE_CHECKING:
    from tunneler.config.load import Loaded
    from tunneler.config.model import RoleConfig

Model = TypeVar("Model", bound="RoleConfig")
Function = Callable[..., Any]
Decorator = Callable[[Function], Function]


def _setting(key: str, **attributes: Any) -> Decorator:
    """An option that sets a key; its parameter is the key, with ``__`` for the dot."""
    return click.option(FLAG_OF_KEY[key], key.replace(".", "__"), default=None, **attributes)


def _switch(key: str, value: bool, text: str) -> Decorator:
    """A flag without a value: given, it sets the key to ``value``; not given, it sets nothing."""
    return _setting(key, is_flag=True, flag_value=value, help=text)


CONFIG_FILE = click.option(
    "--config",
    "config_files",
    multiple=True,
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="Configuration file (.yaml, .json or .env); repeatable.",
)
SERVER = _setting("server_addr", multiple=True, metavar="HOST:PORT", help="Server to link to; repeatable.")
COMMON = (
    _setting("tls.cert_file", metavar="FILE", help="Certificate (PEM)."),
    _setting("tls.key_file", metavar="FILE", help="Private key (PEM)."),
    _setting("tls.ca_file", metavar="FILE", help="Certificate authority (PEM) of the peers."),
    _setting("tls.min_version", metavar="VERSION", help="Oldest version of TLS: 1.3 or 1.2."),
    _switch("tls.insecure", True, "Plaintext; loopback addresses only."),
    _setting("transport", metavar="NAME", help="What carries links: native or grpcio."),
    CONFIG_FILE,
    _setting("log.level", metavar="LEVEL", help="debug, info, warning or error."),
    _setting("log.format", metavar="FORMAT", help="auto, json, text or journal."),
)
OPTIONS_OF_ROLE: dict[Role, tuple[Decorator, ...]] = {
    Role.CLIENT: (
        SERVER,
        _setting("target_cidr", multiple=True, metavar="CIDR", help="Network to capture; repeatable."),
        _setting("listen_port", metavar="PORT", help="Port to which connections are redirected."),
        _setting("exclude", multiple=True, metavar="CIDR", help="Network never captured; repeatable."),
        _switch("capture.gateway", True, "Capture traffic routed through this host, too."),
        _switch("capture.enabled", False, "Leave the packet filter rules to somebody else."),
        _setting("client_id", metavar="ID", help="Name of this instance; made if not given."),
        *COMMON,
    ),
    Role.SERVER: (
        _setting("listen_addr", metavar="[HOST]:PORT", help="Where links arrive; :8081 if not given."),
        *COMMON,
    ),
    Role.PROXY: (
        SERVER,
        _setting("proxy_id", metavar="ID", help="Name of this instance; the host's if not given."),
        _setting("managed_cidr", multiple=True, metavar="CIDR", help="Network to serve; repeatable."),
        _setting("routes", multiple=True, metavar="VIRTUAL=REAL", help="Explicit route; repeatable."),
        *COMMON,
    ),
}


def options_of(role: Role) -> Decorator:
    """All flags of a role, in the order of its help."""

    def decorate(function: Function) -> Function:
        for option in reversed(OPTIONS_OF_ROLE[role]):
            function = option(function)
        return function

    return decorate


def load(model: type[Model], parameters: dict[str, Any]) -> Loaded[Model]:
    """Load a configuration from the parameters of a command, and print the warnings.

    Raises:
        ConfigError: it cannot be used.
    """
    loaded = _loaded(model, parameters)
    print_warnings(program_of(click.get_current_context()), loaded.warnings)
    return loaded


class Values(NamedTuple):
    """A configuration in force, for a role that runs.

    Attributes:
        config: the values alone, see :mod:`tunneler.config.plain`.
        warnings: one line each, for the operator.
        given: the dotted keys that were set somewhere; all others have defaults.
    """

    config: RoleConfig
    warnings: tuple[str, ...]
    given: frozenset[str]


def load_apart(role: Role, parameters: dict[str, Any]) -> Values:
    """As :func:`load`, for a role that is to run; what validates it does not stay in this process.

    Raises:
        TunnelerError: it cannot be used; what a ConfigError says.
    """
    values = apart(lambda: load_values(role, parameters))
    print_warnings(program_of(click.get_current_context()), values.warnings)
    return values


def load_values(role: Role, parameters: dict[str, Any]) -> Values:
    """Raises ConfigError: it cannot be used."""
    from tunneler.config.model import MODEL_OF_ROLE
    from tunneler.config.plain import plain_copy

    loaded = _loaded(MODEL_OF_ROLE[role], parameters)
    config = cast("RoleConfig", plain_copy(loaded.config))
    return Values(config, loaded.warnings, frozenset(loaded.sources))


def _loaded(model: type[Model], parameters: dict[str, Any]) -> Loaded[Model]:
    from tunneler.config import load

    flags = {name.replace("__", "."): value for name, value in parameters.items() if name != "config_files"}
    return load.load(model, parameters["config_files"], os.environ, flags)


def print_warnings(program: str, warnings: Iterable[str]) -> None:
    """Say what is valid and yet probably not meant."""
    for warning in warnings:
        complain(program, f"warning: {warning}")
