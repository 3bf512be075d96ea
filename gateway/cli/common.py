"""What subcommands share."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from gateway.config import Config, ConfigError
from gateway.journal.text import padded, visible, width
from gateway.smtp.address import Path as Mailbox
from gateway.smtp.address import PathError, parse_address

DEFAULT_CONFIG = "/etc/sluicegate/sluicegate.toml"

C = TypeVar("C", bound=Callable[..., Any])


class MailboxType(click.ParamType[Mailbox]):
    """An address as people write it; empty for the null reverse-path."""

    name = "mailbox"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Mailbox:
        """From the command line's text."""
        try:
            return value if isinstance(value, Mailbox) else parse_address(value)
        except PathError as error:
            self.fail(f"{value!r}: {error}", param, ctx)


def config_option(command: C) -> C:
    """`--config FILE`, which every subcommand takes."""
    option = click.option(
        "--config",
        "config_file",
        type=click.Path(readable=False, path_type=Path),  # what is wrong with it, `load` says
        default=DEFAULT_CONFIG,
        show_default=True,
        help="The configuration file.",
    )
    return option(command)


def policy_directory(config: Config) -> Path:
    """`[policies] directory`, which is there. Raises ConfigError."""
    directory = Path(config.policies.directory)
    if not config.policies.directory:
        raise ConfigError("[policies]", "directory", "is not set, and policies live there", config.file)
    if not directory.is_dir():
        raise ConfigError("[policies]", "directory", f"{directory}: no such directory", config.file)
    return directory


def echo_table(rows: list[tuple[str, ...]]) -> None:
    """Rows as aligned text, the last column as wide as it likes; nothing in them steers a terminal."""
    shown = [[visible(cell) for cell in row] for row in rows]
    widths = [max(map(width, column)) for column in zip(*shown, strict=True)][:-1]
    for row in shown:
        line = "  ".join([*map(padded, row[:-1], widths), row[-1]]).rstrip()
        click.echo(line.encode())
