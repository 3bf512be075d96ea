"""Where the journal lies below the state directory. Knows names only; reads and writes nothing."""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

# How the name of a spool file ends; nothing else in the directory is looked at.
SUFFIX: Final = ".jsonl"


@dataclass(frozen=True, slots=True)
class Layout:
    """The journal's places in one state directory."""

    state_directory: Path

    @property
    def spool(self) -> Path:
        """The directory into which workers append records; they need no right to read or list it."""
        return self.state_directory / "spool" / "records"

    @property
    def index(self) -> Path:
        """The SQLite index, which only the keeper writes."""
        return self.state_directory / "journal.sqlite"
