"""The journal process: moves records from the spool into the index, and deletes what is moved.

Nothing waits for it. It may be stopped or killed at any time, for any length of time, and whatever
goes wrong with the index, it stays, says so once, and tries again: the spool keeps the records.
"""

import sqlite3
import threading
import time
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import structlog

from gateway.journal.index import Index, JournalError
from gateway.journal.record import timestamp
from gateway.journal.spool import Batch, SpoolFile, list_files

POLL_SECONDS = 0.2
MAX_PAUSE = 30.0
_SWEEP_SECONDS = 60.0
_EXPIRE_BATCH = 2000

_log = structlog.get_logger(__name__)


class Keeper:
    """Keeps the index up to date with the spool. `retention` is the age in seconds at which records go."""

    def __init__(self, spool_directory: Path, index_path: Path, retention: float) -> None:
        self._spool_directory = spool_directory
        self._index_path = index_path
        self._retention = timedelta(seconds=retention)
        self._index: Index | None = None
        self._next_sweep = 0.0
        self._troubled: set[str] = set()
        self._failure = ""

    def poll(self) -> int:
        """Move everything that is there, delete what is done with; the number of records moved.

        Raises OSError, sqlite3.Error or JournalError; nothing is lost then, and the next call goes on.
        """
        index = self._open_index()
        offsets = index.offsets()
        moved = 0
        for path in list_files(self._spool_directory):
            moved += self._take(index, path, offsets.get(path.name, 0))
        self._sweep(index)
        return moved

    def run(self, stop: threading.Event) -> None:
        """Poll until `stop` is set, and once more. Never raises for what is wrong with index or spool."""
        pause = POLL_SECONDS
        while not stop.wait(pause):
            pause = POLL_SECONDS if self._attempt() else min(pause * 2, MAX_PAUSE)
        self._attempt()
        self.close()

    def _attempt(self) -> bool:
        try:
            self.poll()
        except (OSError, sqlite3.Error, JournalError) as error:
            self.close()
            failure = str(error)
        else:
            failure = ""
        if failure != self._failure:
            self._failure = failure
            with suppress(OSError):  # the log may be on the same full disk
                self._report(failure)
        return not failure

    def _report(self, failure: str) -> None:
        if failure:
            _log.error("records stay in the spool", index=str(self._index_path), error=failure)
        else:
            _log.info("records are indexed again", index=str(self._index_path))

    def close(self) -> None:
        """Close the index. A later `poll` opens it again."""
        if self._index is not None:
            self._index.close()
            self._index = None

    def _open_index(self) -> Index:
        if self._index is not None and not self._index.is_current:
            _log.warning("the index was deleted or replaced", index=str(self._index_path))
            self.close()
        if self._index is None:
            self._index = Index(self._index_path)
        return self._index

    def _take(self, index: Index, path: Path, offset: int) -> int:
        """Move one file's records. What is wrong with one file does not hold up the others."""
        try:
            with SpoolFile(path) as file:
                return self._move(index, file, offset)
        except FileNotFoundError:
            return 0
        except OSError as error:
            if path.name not in self._troubled:
                self._troubled.add(path.name)
                _log.error("spool file cannot be read or deleted", file=str(path), error=str(error))
            return 0

    def _move(self, index: Index, file: SpoolFile, offset: int) -> int:
        # Asked before reading: what a writer that is gone has written is all there.
        is_complete = file.lock()
        moved = 0
        while batch := file.read(offset, is_complete=is_complete):
            if not index.append(file.name, batch):
                return moved
            self._report_garbage(file, batch)
            moved += len(batch.entries)
            offset = batch.end
        if is_complete:
            if offset:
                index.settle()
            file.path.unlink()
        return moved

    def _report_garbage(self, file: SpoolFile, batch: Batch) -> None:
        if batch.garbage:
            _log.warning(
                "lines that are no records were passed over",
                file=str(file.path),
                lines=batch.garbage,
                between=f"{batch.start} and {batch.end}",
            )

    def _sweep(self, index: Index) -> None:
        """Delete what is too old, a bounded number of records at a time, more often if there are more."""
        if time.monotonic() < self._next_sweep:
            return
        oldest = timestamp(datetime.now(UTC) - self._retention)
        if index.expire(oldest, _EXPIRE_BATCH) == _EXPIRE_BATCH:
            return
        files = {path.name for path in list_files(self._spool_directory)}
        index.forget(files)
        self._troubled &= files
        self._next_sweep = time.monotonic() + _SWEEP_SECONDS
