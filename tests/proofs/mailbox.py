"""What a downstream has seen and taken, on disk before it says so: no kill makes it forget.

One JSON object a line. Content is kept as a digest of what the client sent; what stands above that
is kept as text. Every message of these proofs begins with its Message-ID, which parts the two.
"""

import hashlib
import json
import os
import threading
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from tests.fakes.mta import Attempt, suspicions

FIRST_FIELD = b"Message-ID: "


@dataclass(frozen=True)
class Delivered:
    """A message that the downstream has taken. `block` is what stands above the client's own octets."""

    identity: str
    mail: str
    recipients: list[str]
    digest: str
    block: str
    xforward: list[str]


def digest(content: bytes) -> str:
    """How a mailbox remembers content."""
    return hashlib.sha256(content).hexdigest()


def identity_of(content: bytes) -> str:
    """The Message-ID of content that begins with it."""
    return content.partition(b"\r\n")[0].removeprefix(FIRST_FIELD).decode("ascii", "replace")


class Mailbox:
    """The file, from either side."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._lock = threading.Lock()

    # The downstream's side

    def keep(self, attempt: Attempt) -> None:
        """Take a message. It is on disk when this returns."""
        block, field, rest = attempt.content.partition(FIRST_FIELD)
        content = field + rest
        delivered = Delivered(
            identity_of(content),
            attempt.mail,
            attempt.recipients,
            digest(content),
            block.decode("latin-1"),
            attempt.xforward,
        )
        self._append("message", asdict(delivered), sync=True)

    def note(self, attempt: Attempt) -> None:
        """Remember what is suspicious about content, be it taken, refused or cut off."""
        for each in suspicions(attempt):
            self._append("suspicion", f"{attempt.mail}: {each}")

    def note_command(self, line: str) -> None:
        """Remember a command that opens a transaction, or that nobody may send."""
        self._append("command", line)

    def _append(self, kind: str, value: object, *, sync: bool = False) -> None:
        with self._lock, self._file.open("ab", buffering=0) as file:
            file.write(json.dumps({kind: value}).encode() + b"\n")
            if sync:
                os.fsync(file.fileno())

    # The other side

    def messages(self, identity: str | None = None) -> list[Delivered]:
        """What was taken, or the copies of one message."""
        found = [Delivered(**value) for value in self._read("message")]
        return [each for each in found if identity in (None, each.identity)]

    def suspicions(self) -> list[str]:
        """What a lenient receiver could have misunderstood."""
        return list(self._read("suspicion"))

    def commands(self) -> list[str]:
        """Every MAIL, and every command that is none of SMTP's."""
        return list(self._read("command"))

    def _read(self, kind: str) -> Iterator:  # type: ignore[type-arg]
        with self._file.open("rb") as file:
            for line in file:
                entry = json.loads(line)
                if kind in entry:
                    yield entry[kind]
