"""The console scripts; each is a command of ``tunneler`` under a name of its own."""

from __future__ import annotations

import click

from tunneler.cli import capture as _capture
from tunneler.cli import configuration as _configuration
from tunneler.cli import gencerts as _gencerts
from tunneler.cli import pki as _pki
from tunneler.cli import roles as _roles
from tunneler.cli import sockets as _sockets
from tunneler.cli.program import Group, run, version_option

EXAMPLE = """
tunneler gencerts --server-name relay.example.org
tunneler server --config /etc/tunneler/server.yaml
"""


@click.group(cls=Group, epilog=EXAMPLE)
@version_option
def tunneler() -> None:
    """Unmodified programs on one network reach TCP services on another, behind NAT."""


for _command in (
    _roles.client,
    _roles.server,
    _roles.proxy,
    _gencerts.gencerts,
    _pki.pki,
    _configuration.check_config,
    _capture.capture,
    _sockets.take_sockets,
    _configuration.schema,
):
    tunneler.add_command(_command)


def main() -> None:
    """``tunneler``."""
    run(tunneler, "tunneler")


def client() -> None:
    """``tunneler-client``."""
    run(_roles.client, "tunneler-client")


def server() -> None:
    """``tunneler-server``."""
    run(_roles.server, "tunneler-server")


def proxy() -> None:
    """``tunneler-proxy``."""
    run(_roles.proxy, "tunneler-proxy")


def gencerts() -> None:
    """``tunneler-gencerts``."""
    run(_gencerts.gencerts, "tunneler-gencerts")
