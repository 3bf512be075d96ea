"""`sluicegate run`: all roles in the foreground, or one of them."""

import asyncio
from pathlib import Path

import click

from gateway.child import StartError
from gateway.cli.common import config_option
from gateway.config import Config
from gateway.log import configure_logging
from gateway.supervisor import Supervisor

ROLES = ("smtp", "journal")


@click.command("run")
@click.option("--role", type=click.Choice(ROLES), help="Only this role, for one service unit per role.")
@config_option
def command(role: str | None, config_file: Path) -> int:
    """Run in the foreground. SIGTERM drains, SIGHUP reloads the configuration."""
    configure_logging()
    supervisor = Supervisor(config_file.absolute(), [role] if role else ROLES)
    try:
        asyncio.run(supervisor.run(_announce))
    except StartError as error:
        click.echo(error, err=True)
        return error.status
    return 0


def _announce(config: Config) -> None:
    addresses = " ".join(f"{listener.protocol}:{listener.address}" for listener in config.listener)
    click.echo(f"ready {addresses}", err=True)
