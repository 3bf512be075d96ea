"""What subcommands share."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

DEFAULT_CONFIG = "/etc/sluicegate/sluicegate.toml"

C = TypeVar("C", bound=Callable[..., Any])


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


def echo_table(rows: list[tuple[str, ...]]) -> None:
    """Rows as aligned text, the last column as wide as it likes."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=True)]
        click.echo("  ".join(cells).rstrip())
