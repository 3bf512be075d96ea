"""Where the content of a message waits while it is judged: in memory, or in a file without a name.

The file is unlinked from the start, so a crash at any instant leaves nothing behind. It is written
and read through the page cache in bounded pieces, from the event loop or from threads.
"""

import errno
import hashlib
import os
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import IO

MEMORY_LIMIT = 131_072
CHUNK = 131_072
# What all messages of a worker may have in memory before each goes to its file from the start.
MEMORY_FOR_ALL = 67_108_864
# Free space that is left to others on the disk: a part of it, and no more than so many octets.
_FREE_PART, _FREE_OCTETS = 20, 268_435_456


def content_directory(state_directory: Path) -> Path:
    """Where files without a name are made, below the state directory."""
    return state_directory / "spool" / "content"


class Store:
    """Room for the content of all messages of one worker: octets in all, memory, and the disk.

    `kept_free` are the octets that stay free on the disk; a part of the disk's size without it.
    """

    def __init__(
        self,
        directory: Path,
        octets: int = sys.maxsize,
        memory: int = MEMORY_FOR_ALL,
        kept_free: int | None = None,
    ) -> None:
        self.directory = directory
        self.in_all = 0
        self.in_memory = 0
        self._octets = octets
        self._memory = memory
        self._kept_free = kept_free
        # Content may come by threads, many messages at once.
        self._lock = threading.Lock()

    @property
    def has_memory(self) -> bool:
        """Whether content may stay in memory."""
        return self.in_memory < self._memory

    def check_octets(self, size: int) -> None:
        """Raises OSError where so many octets more are too many."""
        if self.in_all + size > self._octets:
            raise OSError(errno.ENOSPC, f"messages waiting to be judged use up {self._octets} octets")

    def take(self, size: int, in_memory: bool) -> None:
        """Count octets in. Raises OSError where there is no room for them."""
        with self._lock:
            self.check_octets(size)
            self.in_all += size
            self.in_memory += size if in_memory else 0

    def give_back(self, size: int, in_memory: int) -> None:
        """Count octets out, and those that were in memory."""
        with self._lock:
            self.in_all -= size
            self.in_memory -= in_memory

    def check_disk(self, size: int) -> None:
        """Raises OSError where so many octets more would leave too little of the disk."""
        disk = os.statvfs(self.directory)
        kept_free = self._kept_free
        if kept_free is None:
            kept_free = min(disk.f_blocks * disk.f_frsize // _FREE_PART, _FREE_OCTETS)
        if disk.f_bavail * disk.f_frsize - size < kept_free:
            raise OSError(errno.ENOSPC, f"less than {kept_free} octets would be left free")

    def refusal(self) -> str:
        """Why no further message can be taken, for the operator; empty where one can."""
        try:
            self.check_octets(1)
            self.check_disk(1)
        except OSError as error:
            return f"{self.directory}: {error.strerror}"
        return ""


class Spool:
    """Content under construction, then a `gateway.smtp.message.Content`.

    Close it when done. Who needs it for longer, like a scan that others have joined, says `hold`
    and closes it as well; the last one to close gives everything back.

    More than `limit` octets are counted but not kept; `overflowed` is then true. When the disk fails
    or the store is full nothing more is kept and `failure` says why.
    """

    def __init__(self, store: Store, limit: int) -> None:
        self.size = 0
        self.overflowed = False
        self.failure: str | None = None
        self._store = store
        self._limit = limit
        self._kept = 0
        self._memory: list[bytes] = []
        self._file: IO[bytes] | None = None
        self._hash = hashlib.sha256()
        self._holders = 1

    def append(self, chunk: bytes) -> None:
        """Add content."""
        self.size += len(chunk)
        if self.size > self._limit:
            self.overflowed = True
        if self.overflowed or self.failure:
            self._give_back()
            return
        try:
            self._keep(chunk)
        except OSError as error:
            self.failure = f"{self._store.directory}: {error.strerror}"
            self._give_back()

    def _keep(self, chunk: bytes) -> None:
        self._hash.update(chunk)
        if self._file is None and (self.size > MEMORY_LIMIT or not self._store.has_memory):
            self._move_to_file()
        if self._file is not None:
            self._store.check_disk(len(chunk))
        self._store.take(len(chunk), in_memory=self._file is None)
        self._kept += len(chunk)
        if self._file is None:
            self._memory.append(chunk)
        else:
            _write(self._file, chunk)

    @property
    def digest(self) -> str:
        """SHA-256 of the content, in hexadecimal."""
        return self._hash.hexdigest()

    def head(self, limit: int) -> bytes:
        """The first `limit` octets."""
        self._check_open()
        if self._file is not None:
            return os.pread(self._file.fileno(), limit, 0)
        return self._joined()[:limit]

    def chunks(self, start: int = 0) -> Iterator[bytes]:
        """The content from `start` on, in pieces of at most 128 KiB."""
        self._check_open()
        if self._file is None:
            if start < self.size:
                yield self._joined()[start:]
            return
        while chunk := os.pread(self._file.fileno(), CHUNK, start):
            start += len(chunk)
            yield chunk
            self._check_open()

    def hold(self) -> None:
        """Keep the content for one more, until that one closes it, too."""
        self._holders += 1

    def close(self) -> None:
        """Give memory and file back, if nobody else holds it."""
        self._holders -= 1
        if not self._holders:
            self._give_back()

    def _check_open(self) -> None:
        """No content at all must never pass for an empty message, which any scanner finds clean."""
        if self._holders <= 0:
            raise ValueError("the content was given back")

    def _give_back(self) -> None:
        self._leave_memory()
        self._store.give_back(self._kept, 0)
        self._kept = 0
        if self._file is not None:
            self._file.close()
            self._file = None

    def _joined(self) -> bytes:
        if len(self._memory) > 1:
            self._memory = [b"".join(self._memory)]
        return self._memory[0] if self._memory else b""

    def _move_to_file(self) -> None:
        # Unbuffered: reads go past the file object, straight to its descriptor.
        self._file = tempfile.TemporaryFile(dir=self._store.directory, buffering=0)  # noqa: SIM115 - closed in close
        for chunk in self._memory:
            _write(self._file, chunk)
        self._leave_memory()

    def _leave_memory(self) -> None:
        self._store.give_back(0, sum(map(len, self._memory)))
        self._memory.clear()


def _write(file: IO[bytes], chunk: bytes) -> None:
    """All of it: a disk that fills up takes a part without an error, and only then raises one."""
    rest = memoryview(chunk)
    while rest:
        rest = rest[file.write(rest) :]
