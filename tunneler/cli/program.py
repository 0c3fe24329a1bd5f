"""What every command has in common: its name, ``--version``, ``-h``, and how it reports errors.

``tunneler client`` and ``tunneler-client`` are one command under two names. Both call
themselves ``tunneler-client`` in what they print.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Any, NoReturn

import click

from tunneler import __version__
from tunneler.errors import ConfigError, ExitStatus, TunnelerError
from tunneler.observability.complaint import CONFIGURATION_REFUSED, EVENT_OF_STATUS, complain

INTERRUPTED = 130
"""Exit status of a program ended by SIGINT, as shells report it: 128 and the number of the signal."""

HELP_FLAGS = ["-h", "--help"]
HELP_WIDTH = 110


def program_of(context: click.Context | None) -> str:
    """The name under which a command speaks, in the log too: ``tunneler capture run`` is tunneler-capture."""
    return context.command_path.removesuffix(" run").replace(" ", "-") if context is not None else "tunneler"


def _tell_manager(reason: str) -> None:
    """systemctl status shows it, whatever the journal may have lost. Nobody is told where nobody listens."""
    from tunneler.systemd.notify import Notifier

    with suppress(ConfigError), Notifier.of_environment(lambda *_, **__: None) as notifier:
        notifier.status(reason)


class _WithExample(click.Command):
    """Prints the epilog as it stands, under a heading; click would wrap a shell command's lines."""

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        if self.epilog:
            with formatter.section("Example"):
                for line in self.epilog.strip().splitlines():
                    formatter.write(f"{'':>{formatter.current_indent}}{line}\n")


class Command(_WithExample):
    """A command whose :class:`TunnelerError` is a line on standard error and an exit status."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except TunnelerError as error:
            _tell_manager(str(error))
            complain(program_of(ctx), str(error), EVENT_OF_STATUS[error.exit_status])
            return error.exit_status


class Group(_WithExample, click.Group):
    """A group of such commands."""

    command_class = Command
    group_class = type

    def list_commands(self, ctx: click.Context) -> list[str]:
        """In the order in which they were added, which is that of importance."""
        return list(self.commands)


def version_option(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add ``--version``, which prints the program's name and version."""

    def show(context: click.Context, _: click.Parameter, wanted: bool) -> None:
        if wanted and not context.resilient_parsing:
            click.echo(f"{program_of(context)} {__version__}")
            context.exit()

    return click.option(
        "--version", is_flag=True, is_eager=True, expose_value=False, callback=show, help="Print the version."
    )(function)


def run(command: click.Command, program: str) -> NoReturn:
    """Run a command as this process's program, and end the process with its exit status."""
    try:
        status = command.main(
            prog_name=program,
            standalone_mode=False,
            help_option_names=HELP_FLAGS,
            max_content_width=HELP_WIDTH,
        )
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message(), err=True)
        sys.exit(ExitStatus.USAGE)
    except click.ClickException as error:
        context = getattr(error, "ctx", None)
        name = program_of(context) if context is not None else program
        message = error.format_message()
        if isinstance(error, click.UsageError):
            message += f"\nsee {context.command_path if context is not None else program} --help"
        complain(name, message, CONFIGURATION_REFUSED)
        sys.exit(ExitStatus.USAGE)
    except click.Abort:
        sys.exit(INTERRUPTED)
    sys.exit(status if status is not None else ExitStatus.OK)
