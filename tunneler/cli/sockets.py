"""``tunneler take-sockets``: what a unit of systemd does for a server with ``transport: grpcio``."""

from __future__ import annotations

import click

from tunneler.cli.program import Command, version_option

EXAMPLE = """
tunneler take-sockets    # ExecStart= of a unit with Sockets= and AmbientCapabilities=CAP_CHOWN
"""


@click.command(
    "take-sockets", cls=Command, epilog=EXAMPLE, short_help="Make sockets of systemd belong to this user."
)
@version_option
def take_sockets() -> None:
    """Make the sockets that systemd passes to this program belong to the user who runs it.

    gRPC listens beside a socket of systemd's, which the kernel allows to sockets of one user only.
    Needs CAP_CHOWN, so that the server itself need not have it.
    """
    from tunneler.systemd.activation import own_passed_sockets

    for name in own_passed_sockets():
        click.echo(f"{name}: taken")
