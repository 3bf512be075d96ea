"""Replies: RFC 5321 section 4.2, with the enhanced status codes of RFC 3463.

A reply checks itself when it is built: its class agrees with its enhanced status, its text is
printable ASCII, its lines fit. So a bad one, from a policy, a daemon or a downstream MTA, cannot
reach the wire.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Self

# RFC 5321 section 4.5.3.1.5: 512 octets with CRLF, from which code, hyphen, status and CRLF go.
MAX_TEXT = 480
# RFC 4954 section 4: a challenge may be far longer, and a part of it would be worth nothing.
MAX_CHALLENGE = 12_288
MAX_LINES = 100
_STATUS = re.compile(r"[245]\.[0-9]{1,3}\.[0-9]{1,3}")
_UNPRINTABLE = re.compile(r"[^ -~]")


def printable(text: str) -> str:
    """The text with everything but printable ASCII replaced by question marks."""
    return _UNPRINTABLE.sub("?", text)


@dataclass(frozen=True, slots=True)
class Reply:
    """One reply: a code from 200 to 599, its enhanced status (or none), and its text lines.

    Greetings, replies to EHLO and intermediate replies carry no status (RFC 2034 section 4).
    Raises ValueError for a combination that must not exist.
    """

    code: int
    status: str | None
    lines: tuple[str, ...] = field(default=("",))

    def __post_init__(self) -> None:
        if not 200 <= self.code <= 599:
            raise ValueError(f"reply code {self.code} is not between 200 and 599")
        if self.status is not None and not _STATUS.fullmatch(self.status):
            raise ValueError(f"{self.status!r} is not an enhanced status code (RFC 3463)")
        if self.status is not None and int(self.status[0]) != self.code // 100:
            raise ValueError(f"enhanced status {self.status} does not agree with reply code {self.code}")
        if not 1 <= len(self.lines) <= MAX_LINES:
            raise ValueError(f"a reply has 1 to {MAX_LINES} lines, not {len(self.lines)}")
        longest = MAX_CHALLENGE if self.code == 334 else MAX_TEXT
        object.__setattr__(self, "lines", tuple(printable(line)[:longest] for line in self.lines))

    @classmethod
    def of(cls, code: int, status: str | None, text: str) -> Self:
        """A reply of one line, or of as many as the text needs."""
        return cls(code, status, _wrap(text))

    @classmethod
    def received(cls, code: int, lines: Sequence[str]) -> Self:
        """A peer's reply, its text kept; a status that contradicts the code is left in the text."""
        status = _common_status(code, lines)
        if status is not None:
            lines = [line[len(status) :].lstrip(" ") for line in lines]
        return cls(code, status, tuple(lines))

    @property
    def is_positive(self) -> bool:
        """True for 2xx."""
        return self.code < 300

    @property
    def is_permanent(self) -> bool:
        """True for 5xx."""
        return self.code >= 500

    @property
    def text(self) -> str:
        """All lines in one."""
        return " ".join(self.lines)

    def with_reference(self, reference: str) -> Self:
        """The same reply, its last line ending in the reference that leads to the record."""
        suffix = f" (ref {reference})"
        last = self.lines[-1][: MAX_TEXT - len(suffix)] + suffix
        return type(self)(self.code, self.status, (*self.lines[:-1], last.lstrip(" ")))

    def encode(self) -> bytes:
        """The reply as it goes over the wire, CRLF included."""
        status = f"{self.status} " if self.status else ""
        last = len(self.lines) - 1
        return "".join(
            f"{self.code}{'-' if number < last else ' '}{status}{line}\r\n"
            for number, line in enumerate(self.lines)
        ).encode("ascii")

    def __str__(self) -> str:
        return f"{self.code} {self.status + ' ' if self.status else ''}{self.text}"


def _wrap(text: str) -> tuple[str, ...]:
    if len(text) <= MAX_TEXT:
        return (text,)
    return tuple(text[at : at + MAX_TEXT] for at in range(0, min(len(text), MAX_TEXT * MAX_LINES), MAX_TEXT))


def _common_status(code: int, lines: Sequence[str]) -> str | None:
    """The enhanced status that every line begins with, if it is one and fits the code."""
    statuses = {line.partition(" ")[0] for line in lines}
    status = statuses.pop()
    if statuses or not _STATUS.fullmatch(status) or int(status[0]) != code // 100:
        return None
    return status
