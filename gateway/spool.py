"""Where the content of a message waits while it is judged: in memory, or in a file without a name.

The file is unlinked from the start, so a crash at any instant leaves nothing behind. It is written
and read through the page cache in bounded pieces, directly from the event loop.
"""

import hashlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO

MEMORY_LIMIT = 131_072
CHUNK = 131_072


def content_directory(state_directory: Path) -> Path:
    """Where files without a name are made, below the state directory."""
    return state_directory / "spool" / "content"


class Spool:
    """Content under construction, then a `gateway.smtp.message.Content`.

    Close it when done. Who needs it for longer, like a scan that others have joined, says `hold`
    and closes it as well; the last one to close gives everything back.

    More than `limit` octets are counted but not kept; `overflowed` is then true. When the disk fails
    nothing more is kept and `failure` says why.
    """

    def __init__(self, directory: Path, limit: int) -> None:
        self.size = 0
        self.overflowed = False
        self.failure: str | None = None
        self._directory = directory
        self._limit = limit
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
            self.failure = f"{self._directory}: {error.strerror}"

    def _keep(self, chunk: bytes) -> None:
        self._hash.update(chunk)
        if self._file is not None:
            _write(self._file, chunk)
            return
        self._memory.append(chunk)
        if self.size > MEMORY_LIMIT:
            self._move_to_file()

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
        self._memory.clear()
        if self._file is not None:
            self._file.close()
            self._file = None

    def _joined(self) -> bytes:
        if len(self._memory) > 1:
            self._memory = [b"".join(self._memory)]
        return self._memory[0] if self._memory else b""

    def _move_to_file(self) -> None:
        # Unbuffered: reads go past the file object, straight to its descriptor.
        self._file = tempfile.TemporaryFile(dir=self._directory, buffering=0)  # noqa: SIM115 - closed in close
        for chunk in self._memory:
            _write(self._file, chunk)
        self._memory.clear()


def _write(file: IO[bytes], chunk: bytes) -> None:
    """All of it: a disk that fills up takes a part without an error, and only then raises one."""
    rest = memoryview(chunk)
    while rest:
        rest = rest[file.write(rest) :]
