"""The source files of `[policies] directory`, read once, and a look whether they have changed.

Whoever judges mail compiles what was read here and never opens a file again, so a worker that is
started again later runs what was validated. It reads and looks; it loads nothing.
"""

import os
import re
import stat
from pathlib import Path

import msgspec

# A thousand files, each longer than anybody reads, are a mistake in `directory` and no policies.
MAX_FILES = 1000
MAX_FILE_SIZE = 1 << 20
MAX_TOTAL_SIZE = 16 << 20

# What pytest takes for tests, and what the file system or an editor hides.
_NO_PLUGIN = re.compile(r"test_.*|.*_test\.py|conftest\.py|\..*", re.DOTALL)


class SourcesError(Exception):
    """The directory or a file in it cannot be read; the text says which and why."""


class Source(msgspec.Struct, frozen=True):
    """One file: its absolute path, as in tracebacks, and its octets."""

    path: str
    octets: bytes

    @property
    def name(self) -> str:
        """What another plugin imports it by."""
        return Path(self.path).stem


class State(msgspec.Struct, frozen=True):
    """What the file system says about the files of a directory; `None` where it says nothing.

    Equal states are taken for equal content: name, inode, size in octets and time of the last change
    in nanoseconds of each file.
    """

    files: tuple[tuple[str, int, int, int], ...] | None


def read_sources(directory: Path) -> tuple[Source, ...]:
    """The plugins in `directory`, sorted by name. Raises SourcesError.

    Subdirectories are not looked into. Tests (`test_*.py`, `*_test.py`, `conftest.py`) and hidden
    files are no plugins.
    """
    try:
        names = _names(directory)
    except (FileNotFoundError, NotADirectoryError):
        raise SourcesError(f"{directory}: no such directory") from None
    except OSError as error:
        raise SourcesError(f"{directory}: cannot be read: {error.strerror}") from None
    if len(names) > MAX_FILES:
        raise SourcesError(f"{directory}: {len(names)} files, more than {MAX_FILES}")
    # Absolute, as the file names in tracebacks are.
    sources = tuple(_read(directory.absolute() / name) for name in names)
    if sum(len(source.octets) for source in sources) > MAX_TOTAL_SIZE:
        raise SourcesError(f"{directory}: more than {MAX_TOTAL_SIZE} octets in all files together")
    return sources


def is_for_tests(name: str) -> bool:
    """Whether a file of this name is left alone, as a part of tests or hidden."""
    return _NO_PLUGIN.fullmatch(name) is not None


def _names(directory: Path) -> list[str]:
    """The files that may be plugins. A subdirectory called `x.py` is none."""
    with os.scandir(directory) as entries:
        return sorted(
            entry.name
            for entry in entries
            if entry.name.endswith(".py") and not is_for_tests(entry.name) and not entry.is_dir()
        )


def _read(file: Path) -> Source:
    try:
        # Whoever has a FIFO there does not keep us waiting for its other end.
        descriptor = os.open(file, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with open(descriptor, "rb") as stream:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise SourcesError(f"{file}: is no regular file")
            octets = stream.read(MAX_FILE_SIZE + 1)
    except OSError as error:
        raise SourcesError(f"{file}: cannot be read: {error.strerror}") from None
    if len(octets) > MAX_FILE_SIZE:
        raise SourcesError(f"{file}: more than {MAX_FILE_SIZE} octets")
    if not str(file).isprintable():
        raise SourcesError(f"{file}: the name has characters that cannot be shown")
    return Source(str(file), octets)


def look(directory: Path) -> State:
    """The state of the directory's plugins, without opening one of them."""
    try:
        return State(tuple(_facts(directory / name) for name in _names(directory)))
    except OSError:
        return State(None)


def _facts(file: Path) -> tuple[str, int, int, int]:
    try:
        facts = file.stat()
    except OSError:  # a link that leads nowhere
        return file.name, 0, 0, 0
    return file.name, facts.st_ino, facts.st_size, facts.st_mtime_ns


class Watch:
    """Whether a directory has changed since it was made, or since it last said so."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._known = self._last = look(directory)

    def has_changed(self) -> bool:
        """True once for each change, when it has settled.

        That is when two looks see the same, so that a file is not taken while it is being written: look
        at an interval in which an editor is done.
        """
        now = look(self._directory)
        is_settled = now == self._last
        self._last = now
        if not is_settled or now == self._known:
            return False
        self._known = now
        return True
