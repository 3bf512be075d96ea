"""Files with sets in them (`FileSet`): read when the configuration is, and again whenever they change.

A file is looked at about once a second, away from the event loop. It is read whole or not at all: what
cannot be used leaves everything as it is, and is logged once. It may not decide anything.

UTF-8, one entry on each line. Blanks around it do not count, nor do empty lines, nor what stands behind a
`#` at the beginning of a line or behind a blank.
"""

import asyncio
import os
import re
import stat
from dataclasses import dataclass
from pathlib import Path

import structlog

from gateway.smtp.entries import Entries, EntryError, FileSet

INTERVAL = 1.0
# Some million and a half addresses. Each worker has all of them in its memory.
MAX_SIZE = 64 * 1024 * 1024

_COMMENT = re.compile(r"(?:^|\s)#.*")

_log = structlog.get_logger()

# What tells that a file is another one, or has other content: device, inode, size, time of the last change.
_Mark = tuple[int, int, int, int]


class FileSetError(ValueError):
    """The file cannot be used; the text says where and why."""


@dataclass(frozen=True, slots=True)
class _Look:
    """What was seen of a file: nothing new where there are neither entries nor a problem."""

    mark: _Mark | None = None
    entries: Entries | None = None
    problem: str = ""


@dataclass(slots=True, eq=False)
class _File:
    """One file: what was last seen of it, what became of it, and what is wrong with it, if anything is."""

    path: Path
    content: FileSet
    mark: _Mark | None
    problem: str = ""


class FileSets:
    """All file sets of one configuration. Relative paths begin at `directory`."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory.absolute()
        self._files: dict[Path, _File] = {}

    def open(self, path: str) -> FileSet:
        """The set in this file, read now unless another option has it already. Raises FileSetError."""
        place = Path(os.path.normpath(self._directory / path))
        if place not in self._files:
            look = _look(place, None)
            if look.entries is None:
                raise FileSetError(look.problem)
            self._files[place] = _File(place, FileSet(look.entries), look.mark)
        return self._files[place].content

    async def keep_reloading(self) -> None:
        """Look after all files for ever; returns if there is none."""
        while self._files:
            await asyncio.sleep(INTERVAL)
            try:
                await self.reload()
            except Exception:
                # Nothing that one look meets, such as a lack of threads, may end the looking.
                _log.exception("the files of options could not be looked at")

    async def reload(self) -> None:
        """Read the files that have changed, and replace what they hold."""
        for file in self._files.values():
            look = await asyncio.to_thread(_look, file.path, file.mark)
            if look.problem:
                if look.problem != file.problem:
                    _log.error("a file keeps the entries it had", problem=look.problem)
                file.mark, file.problem = look.mark, look.problem
            elif look.entries is not None:
                file.content.replace(look.entries)
                file.mark, file.problem = look.mark, ""
                _log.info("a file was read again", file=str(file.path), entries=len(file.content))


def _look(path: Path, known: _Mark | None) -> _Look:
    """Read the file unless it is as it is known to be."""
    mark = None
    try:
        with open(path, "rb", opener=_open) as file:
            status = os.fstat(file.fileno())
            mark = (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)
            if mark == known:
                return _Look(mark)
            if not stat.S_ISREG(status.st_mode):
                return _Look(mark, problem=f"{path} is not a file")
            octets = file.read(MAX_SIZE + 1)
    except (OSError, ValueError) as error:  # ValueError: the path cannot be one
        return _Look(mark, problem=f"{path} cannot be read: {getattr(error, 'strerror', error)}")
    try:
        return _Look(mark, _entries(path, octets))
    except FileSetError as error:
        return _Look(mark, problem=str(error))


def _open(path: str, flags: int) -> int:
    """Without waiting: a named pipe may have nobody at its other end."""
    return os.open(path, flags | os.O_NONBLOCK)


def _entries(path: Path, octets: bytes) -> Entries:
    if len(octets) > MAX_SIZE:
        raise FileSetError(f"{path} is too large; allowed: up to {MAX_SIZE} octets")
    try:
        text = octets.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = octets.count(b"\n", 0, error.start) + 1
        raise FileSetError(f"{path}:{line}: is not UTF-8") from None
    lines = [_COMMENT.sub("", line).strip() for line in text.split("\n")]
    try:
        return Entries(filter(None, lines))
    except EntryError as error:
        line = [each.lower() for each in lines].index(error.entry) + 1
        raise FileSetError(f"{path}:{line}: {error}") from None
