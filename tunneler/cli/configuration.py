"""``tunneler check-config`` and ``tunneler schema``: what a configuration is, without running a role."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from tunneler.addresses import Role
from tunneler.cli.program import Command, Group, program_of, version_option
from tunneler.cli.settings import load, options_of
from tunneler.errors import PkiError
from tunneler.observability.complaint import complain

if TYPE_CHECKING:
    from tunneler.config.load import Loaded
    from tunneler.config.model import RoleConfig

CHECK_EXAMPLE = """
tunneler check-config client --config /etc/tunneler/client.yaml
"""
SCHEMA_EXAMPLE = """
tunneler schema client > client.schema.json
"""


@click.group(
    "check-config", cls=Group, epilog=CHECK_EXAMPLE, short_help="Print the configuration that is in force."
)
@version_option
def check_config() -> None:
    """Print the configuration that is in force and where each value comes from, or what is wrong.

    Takes the flags of the role. The output is YAML that the role accepts. Certificates that
    cannot be used give a warning, as the role may run as another user or on another machine.
    """


def _checker(role: Role) -> click.Command:
    @options_of(role)
    def check(**parameters: Any) -> None:
        from tunneler.cli.render import configuration_text
        from tunneler.config.model import MODEL_OF_ROLE

        loaded: Loaded[RoleConfig] = load(MODEL_OF_ROLE[role], parameters)
        click.echo(configuration_text(loaded), nl=False)
        _warn_of_credentials(role, loaded.config)

    example = f"tunneler check-config {role} --config {role}.yaml"
    return click.command(
        role.value, cls=Command, help=f"Check the configuration of a {role}.", epilog=example
    )(check)


def _warn_of_credentials(role: Role, config: RoleConfig) -> None:
    from tunneler.pki.credentials import load_credentials

    tls = config.tls
    if tls.cert_file is None or tls.key_file is None or tls.ca_file is None:
        return
    try:
        load_credentials(tls.cert_file, tls.key_file, tls.ca_file, role, now=datetime.now(UTC))
    except PkiError as error:
        complain(program_of(click.get_current_context()), f"warning: {error}")


for _role in Role:
    check_config.add_command(_checker(_role))


@click.command("schema", cls=Command, epilog=SCHEMA_EXAMPLE)
@click.argument("role", type=click.Choice([role.value for role in Role]))
@version_option
def schema(role: str) -> None:
    """Print the JSON Schema of a role's configuration file."""
    from tunneler.config.schema import schema_text

    click.echo(schema_text(Role(role)), nl=False)
