"""The quarantine: messages that a policy has had us keep, on disk, until the operator decides.

One message is two files below the state directory: `REFERENCE.eml`, as it would have been relayed, and
`REFERENCE.json`, its envelope and why it is there. The second is written last, so a message is there
whole or not at all. Workers add; only the operator's commands read and delete.
"""

import asyncio
import contextlib
import fcntl
import os
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO

import msgspec

from gateway.casefile import Judgement
from gateway.journal.record import is_reference, timestamp
from gateway.recorder import Event, first_value
from gateway.smtp.address import Path as Mailbox
from policies.verdict import Decision

_MODE = 0o640
_MAX_ENTRY = 4_194_304
# Seconds in which a worker that lives has written the next piece of a message, or the last.
_LONGEST_KEEPING = 3600.0


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """One message in quarantine: its envelope, and why it is here.

    `recipients` are those it would have reached, after all redirections; whom the client named is in the
    record. `time` is RFC 3339 in UTC; `reverse_path` is empty for the null one; `parameters` are MAIL's.
    `is_copy` says that the message itself was delivered or refused.
    """

    reference: str
    time: str
    reason: str
    policy: str | None
    client: str
    reverse_path: str
    recipients: list[str]
    parameters: dict[str, str | None] = {}
    subject: str | None = None
    is_copy: bool = False


def entry_for(
    event: Event, reference: str, judgement: Judgement | None, recipients: Iterable[Mailbox]
) -> Entry:
    """The entry of a message at the end of data, or of a copy of it, where `judgement` does not keep it."""
    envelope = event.envelope
    assert envelope is not None
    is_copy = judgement is None or not judgement.verdict.is_taking
    policy, reason = next(iter(event.case.copies.items()), (None, ""))
    if judgement is not None and judgement.verdict.decision is Decision.QUARANTINE:
        policy, reason = judgement.policy, judgement.verdict.reason
    return Entry(
        reference=reference,
        time=timestamp(),
        reason=reason,
        policy=policy,
        client=event.session.client_address.compressed,
        reverse_path=str(envelope.reverse_path),
        recipients=[str(recipient) for recipient in recipients],
        parameters=dict(envelope.parameters),
        subject=first_value(event.message, "Subject") if event.message else None,
        is_copy=is_copy,
    )


def quarantine_directory(state_directory: Path) -> Path:
    """Where the quarantine lies below the state directory."""
    return state_directory / "quarantine"


class CannotKeep(Exception):
    """A message could not be put on disk; the text says why."""


class Quarantine:
    """The quarantine in one directory, which exists."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    async def keep(self, entry: Entry, chunks: Iterable[bytes]) -> None:
        """Return when the message is on disk, as safe as a mail server's queue. Raises CannotKeep."""
        try:
            await self._keep(entry, chunks)
        except OSError as error:
            raise CannotKeep(f"{self._directory}: {error.strerror or error}") from error

    async def _keep(self, entry: Entry, chunks: Iterable[bytes]) -> None:
        content, about = self._content(entry.reference), self._about(entry.reference)
        descriptor = _create(content)
        try:
            await _write(descriptor, chunks)
            await _write(_create(about.with_suffix(".new")), [msgspec.json.encode(entry)])
            about.with_suffix(".new").rename(about)
            await asyncio.to_thread(_sync_directory, self._directory)
        except BaseException:
            self.delete(entry.reference)
            raise

    def rewrite(self, entry: Entry) -> None:
        """Change what is said about a message that is here. Raises OSError."""
        about = self._about(entry.reference)
        new = about.with_suffix(".new")
        with open(new, "wb", opener=_with_mode) as file:
            file.write(msgspec.json.encode(entry))
            file.flush()
            # A name that is on disk before the content would be an entry that nobody can read.
            os.fsync(file.fileno())
        new.rename(about)

    def entries(self) -> Iterator[Entry]:
        """What is in quarantine, the oldest first. A file that is no entry is passed over."""
        found = [self.find(path.stem) for path in self._directory.glob("*.json")]
        return iter(sorted((entry for entry in found if entry is not None), key=lambda entry: entry.time))

    def find(self, reference: str) -> Entry | None:
        """The entry of this reference, if there is one."""
        if not is_reference(reference):
            return None
        try:
            with self._about(reference).open("rb") as file:
                return msgspec.json.decode(file.read(_MAX_ENTRY), type=Entry)
        except (FileNotFoundError, msgspec.DecodeError):
            return None

    def open(self, reference: str) -> IO[bytes]:
        """The message, for reading. Raises OSError."""
        return self._content(reference).open("rb")

    @contextlib.contextmanager
    def claimed(self, reference: str) -> Iterator[Entry]:
        """The entry as it is now, for one who hands it on: nobody else can at the same time.

        Raises FileNotFoundError without it, and BlockingIOError where somebody else has claimed it.
        """
        with self.open(reference) as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            entry = self.find(reference)
            if entry is None:
                raise FileNotFoundError
            yield entry

    def delete(self, reference: str) -> None:
        """Remove the message, or what there is of it."""
        about = self._about(reference)
        for path in (about, about.with_suffix(".new"), self._content(reference)):
            path.unlink(missing_ok=True)

    def sweep(self, before: float) -> None:
        """Remove what a killed process left of messages it had not taken, if older than this (seconds).

        Never what may be a message on its way in: its client would hear that it was taken.
        """
        before = min(before, time.time() - _LONGEST_KEEPING)
        for path in self._directory.glob("*.eml"):
            with contextlib.suppress(FileNotFoundError):  # its client has left meanwhile
                if not self._about(path.stem).exists() and path.stat().st_mtime < before:
                    self.delete(path.stem)

    def _content(self, reference: str) -> Path:
        return self._directory / f"{reference}.eml"

    def _about(self, reference: str) -> Path:
        return self._directory / f"{reference}.json"


def _create(path: Path) -> int:
    """A descriptor to write a file with that was not there before. Raises FileExistsError."""
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, _MODE)


def _with_mode(path: str, flags: int) -> int:
    return os.open(path, flags, _MODE)


async def _write(descriptor: int, chunks: Iterable[bytes]) -> None:
    """Put these octets on disk, and close the file. Other sessions get their turn between them."""
    try:
        for chunk in chunks:
            _write_all(descriptor, chunk)
            await asyncio.sleep(0)
        await asyncio.to_thread(os.fsync, descriptor)
    finally:
        os.close(descriptor)


def _write_all(descriptor: int, chunk: bytes) -> None:
    rest = memoryview(chunk)
    while rest:
        rest = rest[os.write(descriptor, rest) :]


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
