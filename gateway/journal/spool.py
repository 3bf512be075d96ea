"""The reading side of the spool: files of lines, some still growing, some torn.

Trusts nothing it finds: a worker may have been killed in the middle of a line, or been taken over.
What is not a record is counted and passed over. Decides nothing about records and deletes no file
unless told to.
"""

import fcntl
import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Self

from gateway.journal.layout import SUFFIX
from gateway.journal.record import MAX_LINE, Record, decode

# O_NONBLOCK: a FIFO put into the spool must not stop its reader.
_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class Entry(NamedTuple):
    """One record in a file: where its line begins, the line without its newline, the record."""

    offset: int
    line: bytes
    record: Record


@dataclass(frozen=True, slots=True)
class Batch:
    """The records between two offsets of a file, and how many lines there were none."""

    entries: list[Entry]
    start: int
    end: int
    garbage: int

    def __bool__(self) -> bool:
        """False if there was nothing to read, not even garbage."""
        return self.end > self.start


class SpoolFile:
    """One spool file, open for reading. A context manager; closing it gives up its lock, too."""

    def __init__(self, path: Path) -> None:
        """Raises OSError (FileNotFoundError: deleted meanwhile) if the file cannot be opened."""
        self.path = path
        self._descriptor = os.open(path, _FLAGS)

    @property
    def name(self) -> str:
        """The name in the spool directory, which is never used twice."""
        return self.path.name

    @property
    def size(self) -> int:
        """Octets in the file by now; 0 for what is no regular file."""
        status = os.fstat(self._descriptor)
        return status.st_size if stat.S_ISREG(status.st_mode) else 0

    def lock(self) -> bool:
        """Take the writer's lock. False if the writer has it and is alive.

        Once taken, nothing will be written to the file any more, and it may be deleted.
        """
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def read(self, offset: int, *, is_complete: bool = False) -> Batch:
        """The lines from `offset` on, at most about 4 MiB of them.

        A last line without a newline is left for later, except where the file `is_complete`: then it
        is taken for what it is.
        """
        if self.size <= offset:
            return Batch([], offset, offset, 0)
        data = os.pread(self._descriptor, MAX_LINE, offset)
        length = data.rfind(b"\n") + 1
        if length == 0 and (is_complete or len(data) == MAX_LINE):
            length = len(data)
        return _split(data[:length], offset)

    def close(self) -> None:
        """Close the file."""
        os.close(self._descriptor)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def list_files(directory: Path) -> list[Path]:
    """The spool's files, oldest first; none if there is no such directory yet. Raises OSError."""
    try:
        names = os.listdir(directory)
    except FileNotFoundError:
        return []
    return [directory / name for name in sorted(names) if name.endswith(SUFFIX)]


def _split(data: bytes, start: int) -> Batch:
    entries, garbage, offset = [], 0, start
    for line in data.split(b"\n"):
        if line:
            try:
                entries.append(Entry(offset, line, decode(line)))
            except ValueError:
                garbage += 1
        offset += len(line) + 1
    return Batch(entries, start, start + len(data), garbage)
