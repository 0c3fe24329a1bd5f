"""``tunneler pki``: certificates for keys that stay on the host that made them."""

from __future__ import annotations

import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import click

from tunneler.addresses import Identity, Role
from tunneler.cli.program import Command, Group, version_option
from tunneler.errors import PkiError

REQUEST_EXAMPLE = """
tunneler pki request --key /etc/tunneler/tls/proxy/key.pem > request.pem
"""
SIGN_EXAMPLE = """
tunneler pki sign proxy --name site-1 --dir certs --cert site-1.pem < request.pem
"""
EXAMPLE = f"{REQUEST_EXAMPLE.strip()}\n{SIGN_EXAMPLE.strip()}"
MAX_REQUEST_BYTES = 1 << 16
FILE = click.Path(path_type=Path)


@click.group(
    "pki", cls=Group, epilog=EXAMPLE, short_help="Certificates for keys that never leave their host."
)
@version_option
def pki() -> None:
    """Certificates for keys that never leave their host: `request` there, `sign` where the authority is."""


@click.command("authority", cls=Command, epilog="tunneler pki authority --dir certs")
@click.option(
    "--dir", "directory", required=True, metavar="DIRECTORY", type=FILE, help="Where ca/ is, or goes."
)
@version_option
def authority(directory: Path) -> None:
    """Make a certificate authority, or check the one that is there."""
    from tunneler.pki.store import generate

    written = generate(directory, force=False, now=datetime.now(UTC), names={})
    for path in written:
        click.echo(f"wrote {path}")
    if not written:
        click.echo(f"{directory}: everything is there; nothing written")


@click.command(
    "request", cls=Command, epilog=REQUEST_EXAMPLE, short_help="Print a request for a certificate."
)
@click.option("--key", "key_file", required=True, metavar="FILE", type=FILE, help="Made if it is not there.")
@version_option
def request(key_file: Path) -> None:
    """Print a request for a certificate; the key is made if it does not exist."""
    from tunneler.pki.requests import request as make

    click.echo(make(key_file), nl=False)


@click.command(
    "sign", cls=Command, epilog=SIGN_EXAMPLE, short_help="Certify the key of a request on standard input."
)
@click.argument("role", type=click.Choice([role.value for role in Role]))
@click.option("--name", required=True, help="Name of the holder in its identity.")
@click.option("--dir", "directory", default="certs", show_default=True, type=FILE, help="Where ca/ is.")
@click.option("--ca-cert", type=FILE, help="The authority's certificate; ca/cert.pem in --dir if not given.")
@click.option("--ca-key", type=FILE, help="The authority's key; ca/key.pem in --dir if not given.")
@click.option("--cert", "cert_file", required=True, metavar="FILE", type=FILE, help="Where it goes.")
@click.option("--server-name", "server_names", multiple=True, help="As for gencerts; a server's only.")
@click.option("--renew-within", default=30, show_default=True, metavar="DAYS", type=click.IntRange(0))
@click.option("--dry-run", is_flag=True, help="Only say what would be done.")
@version_option
def sign(
    role: str,
    name: str,
    directory: Path,
    ca_cert: Path | None,
    ca_key: Path | None,
    cert_file: Path,
    server_names: tuple[str, ...],
    renew_within: int,
    dry_run: bool,
) -> None:
    """Certify the key of a request on standard input, unless the certificate that is there will still do."""
    from tunneler.pki.requests import sign as certify

    if server_names and role != Role.SERVER:
        raise click.UsageError("--server-name is for a server's certificate; leave it out")
    try:
        identity = Identity.parse(Identity(Role(role), name).uri)
    except ValueError as error:
        raise PkiError(f"name {name!r}: {error}") from error
    written = certify(
        (ca_cert or directory / "ca/cert.pem", ca_key or directory / "ca/key.pem"),
        identity,
        sys.stdin.buffer.read(MAX_REQUEST_BYTES),
        cert_file,
        server_names=server_names,
        renew_within=timedelta(days=renew_within),
        now=datetime.now(UTC),
        dry_run=dry_run,
    )
    click.echo(f"{'would write' if dry_run else 'wrote'} {cert_file}" if written else f"kept {cert_file}")


for _command in (authority, request, sign):
    pki.add_command(_command)
