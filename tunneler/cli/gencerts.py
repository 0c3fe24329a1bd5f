"""``tunneler gencerts``: a certificate authority, and a certificate for each role."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import click

from tunneler.cli.program import Command, version_option

EXAMPLE = """
tunneler-gencerts --dir certs --server-name relay.example.org --server-name 203.0.113.7
"""


@click.command(cls=Command, epilog=EXAMPLE, short_help="Make the certificates of all roles.")
@click.option(
    "--dir",
    "directory",
    default="certs",
    show_default=True,
    metavar="DIRECTORY",
    type=click.Path(path_type=Path),
    help="Where {ca,server,client,proxy}/{cert,key}.pem go.",
)
@click.option(
    "--server-name",
    "server_names",
    multiple=True,
    metavar="NAME_OR_ADDRESS",
    help="Name or address by which servers are dialled; repeatable; the loopback ones if not given.",
)
@click.option("--force", is_flag=True, help="Replace everything; what the old authority signed is worthless.")
@version_option
def gencerts(directory: Path, server_names: tuple[str, ...], force: bool) -> None:
    """Make a certificate authority and a certificate for each role, or what is missing of them."""
    from tunneler.pki.store import generate

    written = generate(directory, server_names, force=force, now=datetime.now(UTC))
    for path in written:
        click.echo(f"wrote {path}")
    if not written:
        click.echo(f"{directory}: everything is there; nothing written")
