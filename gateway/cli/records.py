"""What the subcommands that read the journal share."""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from gateway.journal.index import JournalError
from gateway.journal.layout import Layout

# In JSON, which escapes the other controls itself: DEL, and what terminals take for ESC and a letter.
_CONTROL = re.compile("[\x7f-\x9f]")


class UnreadableJournal(click.ClickException):
    """The records cannot be read."""

    exit_code = os.EX_IOERR


@contextmanager
def reading_journal(config_file: Path) -> Iterator[Layout]:
    """The places of the configured journal; if it cannot be read, that ends the command."""
    from gateway.config import load

    layout = Layout(Path(load(config_file).gateway.state_directory))
    try:
        yield layout
    except JournalError as error:
        raise UnreadableJournal(str(error)) from error


def json_line(line: bytes) -> bytes:
    """A recorded line, newline added, that means the same and cannot steer a terminal."""
    if line.isascii() and b"\x7f" not in line:
        return line + b"\n"
    text = line.decode("utf-8", "replace")
    return _CONTROL.sub(lambda found: f"\\u{ord(found[0]):04x}", text).encode("utf-8") + b"\n"
