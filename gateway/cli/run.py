"""`sluicegate run`: all roles in the foreground, or one of them."""

import asyncio
from pathlib import Path

import click

from gateway.child import StartError
from gateway.cli.common import config_option
from gateway.config import Config
from gateway.log import configure_logging
from gateway.roles import ROLES
from gateway.seating import listeners_of, roles_of
from gateway.supervisor import Supervisor


@click.command("run")
@click.option(
    "--role",
    "only",
    type=click.Choice(ROLES),
    help="Only this role, for one service unit per role; without it, all that the configuration needs.",
)
@config_option
def command(only: str | None, config_file: Path) -> int:
    """Run in the foreground. SIGTERM drains, SIGHUP reloads the configuration."""
    configure_logging()
    supervisor = Supervisor(config_file.absolute(), only)
    try:
        asyncio.run(supervisor.run(lambda config: _announce(config, only)))
    except StartError as error:
        click.echo(error, err=True)
        return error.status
    return 0


def _announce(config: Config, only: str | None) -> None:
    served = listeners_of(config, roles_of(config, only))
    addresses = (f"{listener.protocol}:{listener.address}" for listener in served)
    click.echo(" ".join(["ready", *addresses]), err=True)
