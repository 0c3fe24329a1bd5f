import click
from tunneler.cli.program import Command, Group


@click.group(cls=Group)
def capture() -> None:
    pass
