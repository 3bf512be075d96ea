"""The `sluicegate` command. One module for each subcommand, imported when it is called.

Exit statuses are those of sysexits.h; human output is aligned text, coloured only on a terminal.
"""

import importlib
import os
import sys

import click

from gateway import __version__

_COMMANDS = {
    "run": "run",
    "check-config": "check_config",
    "scan": "scan",
    "log": "log",
    "explain": "explain",
    "policies": "policies",
    "quarantine": "quarantine",
    "replay": "replay",
}


class _Commands(click.Group):
    """Subcommands that cost nothing until they are called."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        if cmd_name not in _COMMANDS:
            return None
        module = importlib.import_module(f"gateway.cli.{_COMMANDS[cmd_name]}")
        command: click.Command = module.command
        return command


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="sluicegate")
def sluicegate() -> None:
    """Judges mail while the sender is still connected."""


def main() -> None:
    """Entry point: what goes wrong is one line on standard error and a status of sysexits.h."""
    from gateway.config.schema import ConfigError

    try:
        status = sluicegate.main(standalone_mode=False)
    except click.exceptions.Abort:
        status = 130
    except click.ClickException as error:
        error.show()
        status = os.EX_USAGE if isinstance(error, click.UsageError) else error.exit_code
    except ConfigError as error:
        click.echo(str(error), err=True)
        status = os.EX_CONFIG
    sys.exit(status or 0)
