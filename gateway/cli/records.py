"""What the subcommands that read the journal share."""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import click

from gateway.journal.index import JournalError
from gateway.journal.layout import Layout

# In JSON, which escapes the other controls itself: DEL, and what terminals take for ESC and a letter.
_CONTROL = re.compile("[\x7f-\x9f]")

_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
_AGE = re.compile(r"(\d+)([smhdw])")


class Since(click.ParamType[datetime]):
    """An age such as 7d, or a point in time; the value is a time in UTC."""

    name = "age or time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        """From the command line's text."""
        if isinstance(value, datetime):
            return value
        try:
            if found := _AGE.fullmatch(value):
                return datetime.now(UTC) - timedelta(**{_UNITS[found[2]]: int(found[1])})
            return datetime.fromisoformat(value).astimezone(UTC)
        except (ValueError, OverflowError):
            self.fail(f"{value!r} is neither an age such as 30m, 2h or 7d nor an ISO 8601 time", param, ctx)


class UnreadableJournal(click.ClickException):
    """The records cannot be read."""

    exit_code = os.EX_IOERR


@contextmanager
def reading_journal(config_file: Path) -> Iterator[Layout]:
    """The places of the configured journal; if it cannot be read, that ends the command."""
    from gateway.config import load

    layout = Layout(Path(load(config_file).gateway.state_directory))
    try:
        _check_directory(layout.state_directory)
        yield layout
    except JournalError as error:
        raise UnreadableJournal(str(error)) from error


def _check_directory(directory: Path) -> None:
    """Raises JournalError: without it, no gateway has ever written here, or another file was meant."""
    try:
        directory.stat()
    except OSError as error:
        raise JournalError(f"state_directory {directory} cannot be read: {error.strerror}") from None


def json_line(line: bytes) -> bytes:
    """A recorded line, newline added, that means the same and cannot steer a terminal."""
    if line.isascii() and b"\x7f" not in line:
        return line + b"\n"
    text = line.decode("utf-8", "replace")
    return _CONTROL.sub(lambda found: f"\\u{ord(found[0]):04x}", text).encode("utf-8") + b"\n"
