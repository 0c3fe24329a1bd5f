"""``tunneler client``, ``tunneler server``, ``tunneler proxy``: load, set up the log, run.

Whatever is heavy is imported when a role runs, so that ``--help`` and ``--version`` are quick.
"""

from __future__ import annotations

import signal
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, cast

import click

from tunneler.addresses import Role
from tunneler.cli.program import Command, version_option
from tunneler.cli.settings import load_apart, options_of

if TYPE_CHECKING:
    from tunneler.config.model import ClientConfig, ProxyConfig, RoleConfig, ServerConfig
    from tunneler.errors import ExitStatus

CLIENT_EXAMPLE = """
tunneler-client --server relay.example.org:8081 --cidr 100.64.0.0/10 \\
    --tls-cert certs/client/cert.pem --tls-key certs/client/key.pem --tls-ca certs/ca/cert.pem
"""
SERVER_EXAMPLE = """
tunneler-server --listen :8081 \\
    --tls-cert certs/server/cert.pem --tls-key certs/server/key.pem --tls-ca certs/ca/cert.pem
"""
PROXY_EXAMPLE = """
tunneler-proxy --server relay.example.org:8081 --proxy-id proxy-1 --managed-cidr 192.168.1.0/24 \\
    --tls-cert certs/proxy/cert.pem --tls-key certs/proxy/key.pem --tls-ca certs/ca/cert.pem
"""


@click.command(cls=Command, epilog=CLIENT_EXAMPLE)
@options_of(Role.CLIENT)
@version_option
def client(**parameters: Any) -> ExitStatus:
    """Capture connections on this host and hand them to a server."""
    with hangups_kept():
        config, reread = _prepared(Role.CLIENT, parameters)
        from tunneler.roles.client import run

        return run(cast("ClientConfig", config), reread)


@click.command(cls=Command, epilog=SERVER_EXAMPLE)
@options_of(Role.SERVER)
@version_option
def server(**parameters: Any) -> ExitStatus:
    """Relay connections between clients and proxies."""
    with hangups_kept():
        config, reread = _prepared(Role.SERVER, parameters)
        from tunneler.roles.server import run

        return run(cast("ServerConfig", config), reread)


@click.command(cls=Command, epilog=PROXY_EXAMPLE)
@options_of(Role.PROXY)
@version_option
def proxy(**parameters: Any) -> ExitStatus:
    """Announce routes to servers and dial the targets behind them."""
    with hangups_kept():
        config, reread = _prepared(Role.PROXY, parameters)
        from tunneler.roles.proxy import run

        return run(cast("ProxyConfig", config), reread)


def _prepared(role: Role, parameters: dict[str, Any]) -> tuple[RoleConfig, Callable[[], Awaitable[Any]]]:
    """The configuration in force, and how to read it again; from here on, the log is where it says."""
    loaded = load_apart(role, parameters)
    from tunneler.cli.rereading import reread
    from tunneler.observability import log

    config = loaded.config
    log.configure(role, config.log.level, config.log.format, config.log.output)
    return config, partial(reread, role, parameters, loaded)


@contextmanager
def hangups_kept() -> Iterator[None]:
    """Have a SIGHUP wait until the role can act on it; before that, it would end the process."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGHUP})
