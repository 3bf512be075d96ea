"""The writing side of the journal: one record, one line, one `write`, before the reply is sent.

Runs inside the SMTP workers, so it may never wait and never fail for a disk's sake: what cannot be
written is kept in memory, in order, and written later. It only ever appends; the directory may be
one that this process can neither list nor read. It is for one process and one thread.
"""

import errno
import fcntl
import os
import secrets
import time
from collections import deque
from contextlib import suppress
from pathlib import Path

import structlog

from gateway.journal.layout import SUFFIX
from gateway.journal.record import Record, encode

# The group may read: the keeper runs under another UID.
_MODE = 0o640
_FLAGS = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_ATTEMPTS = 3

_log = structlog.get_logger(__name__)


class JournalFull(Exception):
    """The record can be neither written nor kept; its verdict must not be spoken."""


class JournalWriter:
    """Appends records to a spool file of its own.

    The file stays locked (`flock`) for as long as it is written to, so the keeper can tell a file
    that still grows from one whose writer is gone, however it went. After `rotate_at` octets a new
    file is begun, so that the old one can be deleted. `buffer_limit` bounds the records in memory.
    """

    def __init__(self, directory: Path, *, buffer_limit: int = 1000, rotate_at: int = 8_388_608) -> None:
        self._directory = directory
        self._limit = buffer_limit
        self._rotate_at = rotate_at
        self._waiting: deque[bytes] = deque()
        self._torn = 0  # octets of the first waiting line that are in the file already
        self._descriptor: int | None = None
        self._size = 0
        self._failing = False

    @property
    def waiting(self) -> int:
        """Records that are only in memory yet."""
        return len(self._waiting)

    @property
    def is_full(self) -> bool:
        """Whether new work should be turned away (452 4.3.1).

        True while a quarter of the limit is still free: that is for the transactions under way.
        """
        return len(self._waiting) >= self._limit - self._limit // 4

    def write(self, record: Record) -> None:
        """Append one record, or keep it until the disk takes it.

        Raises JournalFull, and has not taken the record, if `buffer_limit` records wait already.
        """
        if len(self._waiting) >= self._limit:
            self._drain()
        if len(self._waiting) >= self._limit:
            raise JournalFull(f"{len(self._waiting)} records wait for {self._directory} to take them")
        self._waiting.append(encode(record))
        self._drain()

    def flush(self) -> bool:
        """Write what waits. True if nothing waits any more. To be called now and then, and at exit."""
        self._leave_deleted_file()
        self._drain()
        return not self._waiting

    def close(self) -> None:
        """Write what can be written and let the file go."""
        self.flush()
        self._close_file()

    def _drain(self) -> None:
        try:
            while self._waiting:
                self._append(self._waiting[0])
                self._waiting.popleft()
        except OSError as error:
            self._note_failure(error)
        else:
            self._note_success()

    def _append(self, line: bytes) -> None:
        """Write one line, or the rest of it. What a failed call has written is not written again."""
        descriptor = self._open() if self._descriptor is None else self._descriptor
        while self._torn < len(line):
            self._torn += os.write(descriptor, line[self._torn :])
        self._torn = 0
        self._size += len(line)
        if self._size >= self._rotate_at:
            self._close_file()

    def _open(self) -> int:
        for _ in range(_ATTEMPTS):
            name = f"{time.time_ns():020d}-{os.getpid()}-{secrets.token_hex(4)}{SUFFIX}"
            descriptor = os.open(self._directory / name, _FLAGS, _MODE)
            if _claim(descriptor):
                self._descriptor, self._size = descriptor, 0
                return descriptor
            os.close(descriptor)
        raise OSError(errno.EAGAIN, "new spool files are taken away before they can be locked")

    def _leave_deleted_file(self) -> None:
        """Begin a new file if somebody deleted ours: what we write there, nobody will ever read."""
        if self._descriptor is not None and os.fstat(self._descriptor).st_nlink == 0:
            self._close_file()
            self._torn = 0

    def _close_file(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def _note_failure(self, error: OSError) -> None:
        if not self._failing:
            self._failing = True
            with suppress(OSError):  # the log may be on the same full disk
                _log.error("records are kept in memory", spool=str(self._directory), error=str(error))

    def _note_success(self) -> None:
        if self._failing:
            self._failing = False
            with suppress(OSError):
                _log.info("records are written again", spool=str(self._directory))


def _claim(descriptor: int) -> bool:
    """Lock a new file; False if the keeper, finding it empty and unlocked, was faster and deleted it."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return os.fstat(descriptor).st_nlink > 0
