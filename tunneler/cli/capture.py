"""``tunneler capture``: the packet filter rules of a client, kept, installed, removed or checked.

This is for whoever separates privileges: these commands need CAP_NET_ADMIN and take no input
from the network; the client then runs with ``capture.enabled: false`` and without any
capability.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import click

from tunneler.addresses import Role
from tunneler.cli.program import Group, program_of, version_option
from tunneler.cli.settings import load, load_apart, options_of
from tunneler.errors import CaptureError, CaptureUnavailable, ConfigError, ExitStatus
from tunneler.observability.complaint import complain

if TYPE_CHECKING:
    from tunneler.config.model import ClientConfig

SUCCESS = "success"
"""What systemd says of a service that ended as it was asked to (SERVICE_RESULT, systemd.exec(5))."""

EXAMPLE = """
tunneler capture install --config /etc/tunneler/client.yaml
tunneler capture check --config /etc/tunneler/client.yaml
tunneler capture run --config /etc/tunneler/client.yaml
tunneler capture remove
"""


@click.group(
    cls=Group, epilog=EXAMPLE, short_help="Keep, install, remove or check a client's packet filter rules."
)
@version_option
def capture() -> None:
    """Keep, install, remove or check the packet filter rules of a client. Takes the client's flags."""


@capture.command(epilog="tunneler capture install --config /etc/tunneler/client.yaml")
@options_of(Role.CLIENT)
def install(**parameters: Any) -> None:
    """Make the rules be what the configuration says, whatever they were before."""
    from tunneler.capture.select import backend
    from tunneler.roles.setup import capture_plan_of

    config = _configuration(parameters)
    chosen = backend(config.capture.backend)
    chosen.install(capture_plan_of(config))
    click.echo(f"{chosen.name}: the rules are in force")


@capture.command(epilog="tunneler capture check --config /etc/tunneler/client.yaml")
@options_of(Role.CLIENT)
def check(**parameters: Any) -> ExitStatus:
    """Compare the rules with the configuration; exit status 1 and the differences if there are any."""
    from tunneler.capture.select import backend
    from tunneler.roles.setup import capture_plan_of

    config = _configuration(parameters)
    chosen = backend(config.capture.backend)
    differences = chosen.check(capture_plan_of(config))
    for difference in differences:
        click.echo(f"{chosen.name}: {difference}")
    if differences:
        return ExitStatus.FAILURE
    click.echo(f"{chosen.name}: the rules are as wanted")
    return ExitStatus.OK


@capture.command(epilog="tunneler capture run --config /etc/tunneler/client.yaml")
@options_of(Role.CLIENT)
@click.option(
    "--clients",
    default="/run/tunneler-client",
    show_default=True,
    metavar="DIRECTORY",
    type=click.Path(path_type=Path),
    help="Where the client says whether it lives.",
)
def run(clients: Path, **parameters: Any) -> ExitStatus:
    """Keep the rules as the configuration wants them until stopped; SIGHUP reads it anew.

    Whoever else changes them, they are mended within about a second; at the end they are removed.
    Whether they capture while the client is down is capture.when_down.
    """
    from tunneler.roles.capture import run as keep_rules

    return keep_rules(lambda: _in_force(parameters), clients)


@capture.command(epilog="tunneler capture remove")
@options_of(Role.CLIENT)
@click.option("--quiet", is_flag=True, help="Say nothing if there was nothing to remove.")
@click.option(
    "--after",
    "result",
    default=SUCCESS,
    metavar="RESULT",
    help="$SERVICE_RESULT; if it tells of a crash, connections that are open live on.",
)
def remove(quiet: bool, result: str, **parameters: Any) -> None:
    """Remove every rule of tunneler, from every packet filter; harmless if there is none.

    The configuration is not needed: it may have changed since the rules were installed.
    """
    from tunneler.capture.select import BACKENDS

    wanted = _wanted_backend(parameters)
    failures: dict[str, CaptureError] = {}
    removed = False
    for name, make in BACKENDS.items():
        try:
            chosen = make()
            if chosen.installed():
                chosen.remove(sparing=result != SUCCESS)
                removed = True
                click.echo(f"{name}: the rules are removed")
        except CaptureError as error:
            failures[name] = error
    # A filter that this host lacks holds no rules; one that was asked for must answer.
    if wanted in failures:
        raise failures[wanted]
    absent = all(isinstance(error, CaptureUnavailable) for error in failures.values())
    if len(failures) == len(BACKENDS) and not absent:
        raise CaptureError("\n".join(f"{name}: {error}" for name, error in failures.items()))
    if not removed and not quiet:
        click.echo("there were no rules")


def _wanted_backend(parameters: dict[str, Any]) -> str:
    """The backend that the configuration names; one that is broken must not keep rules in force."""
    if not parameters["config_files"]:
        return "auto"
    try:
        return _configuration(parameters).capture.backend
    except ConfigError as error:
        complain(program_of(click.get_current_context()), f"warning: {error}")
        return "auto"


def _in_force(parameters: dict[str, Any]) -> ClientConfig:
    """The values alone, as for a role that runs; from here on, the log is where they say."""
    from tunneler.observability import log

    config = cast("ClientConfig", load_apart(Role.CLIENT, parameters).config)
    log.configure("capture", config.log.level, config.log.format, config.log.output)
    return config


def _configuration(parameters: dict[str, Any]) -> ClientConfig:
    from tunneler.config.model import ClientConfig

    return load(ClientConfig, parameters).config
