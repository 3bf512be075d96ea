"""A raw SMTP client: sends octets as they are, and keeps every reply with the time it took.

smtplib will not do here: it rewrites line endings, and hides replies.
"""

import re
import socket
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from .daemons import LOOPBACK

_REFERENCE = re.compile(r"\(ref ([0-9A-Z-]+)\)")
_QUEUE_ID = re.compile(r"queued as (\w+)")
_LINE_START_DOT = re.compile(rb"(?m)^\.")


@dataclass(frozen=True)
class Reply:
    """One reply: `text` without the code, lines joined by newlines; `seconds` since the command was sent."""

    code: int
    text: str
    seconds: float

    @property
    def accepted(self) -> bool:
        """2xx or 3xx."""
        return 200 <= self.code < 400

    @property
    def reference(self) -> str | None:
        """The gateway's reference, which ends a refusal."""
        found = _REFERENCE.search(self.text)
        return found[1] if found else None

    @property
    def queue_id(self) -> str | None:
        """Under which name the downstream Postfix took it."""
        found = _QUEUE_ID.search(self.text)
        return found[1] if found else None


class Client:
    """One connection, from a loopback address of choice."""

    def __init__(self, port: int, source: str = LOOPBACK, timeout: float = 120.0) -> None:
        self._socket = socket.create_connection((LOOPBACK, port), timeout, (source, 0))
        self._lines = self._socket.makefile("rb")
        self.banner = self._reply()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self._lines.close()
        self._socket.close()

    def say(self, octets: bytes) -> Reply:
        """Send these octets and wait for one reply. Raises OSError if the connection ends instead."""
        self._socket.sendall(octets)
        return self._reply()

    def send(
        self, content: bytes, recipients: Sequence[str], sender: str = "anna@example.org"
    ) -> list[Reply]:
        """A whole transaction, up to the first refusal or the reply after end of data."""
        commands = ["EHLO client.example.org", f"MAIL FROM:<{sender}>"]
        commands += [f"RCPT TO:<{recipient}>" for recipient in recipients]
        replies = []
        for octets in [*(f"{c}\r\n".encode() for c in [*commands, "DATA"]), on_the_wire(content)]:
            replies.append(self.say(octets))
            if not replies[-1].accepted:
                break
        return replies

    def _reply(self) -> Reply:
        started = time.monotonic()
        lines: list[str] = []
        while True:
            line = self._lines.readline().decode("latin-1")
            if not line:
                raise ConnectionResetError(f"connection closed after {lines}")
            lines.append(line[4:].rstrip("\r\n"))
            if line[3:4] != "-":
                return Reply(int(line[:3]), "\n".join(lines), time.monotonic() - started)


def on_the_wire(content: bytes) -> bytes:
    """Content that ends in CRLF, dots stuffed, with the end of data behind."""
    return _LINE_START_DOT.sub(b"..", content) + b".\r\n"
