"""Replies as they come in from a downstream MTA: RFC 5321 section 4.2.1, tolerant only in text.

No I/O: octets in, replies out. Code and hyphen must be right; the text may be anything and is made
printable by `Reply`. A bare LF ends a line, for some MTAs and all test tools send one.
"""

import re

from gateway.smtp.reply import MAX_CHALLENGE, MAX_LINES, Reply

# No reply but a challenge of AUTH is as long.
MAX_LINE = MAX_CHALLENGE
_LINE = re.compile(rb"([2-5]\d\d)(?:([ -])(.*))?", re.DOTALL)


class ReplyError(ValueError):
    """The peer does not speak SMTP; the text says what it said."""


class ReplyReader:
    """Collects octets and hands out complete replies. Raises ReplyError, after which it is useless."""

    def __init__(self) -> None:
        self._held = b""
        self._lines: list[str] = []
        self._code = 0

    def feed(self, octets: bytes) -> list[Reply]:
        """The replies completed by these octets, in order."""
        *lines, self._held = (self._held + octets).split(b"\n")
        if len(self._held) > MAX_LINE:
            raise ReplyError("reply line too long")
        return [reply for line in lines if (reply := self._take(line.removesuffix(b"\r"))) is not None]

    def _take(self, line: bytes) -> Reply | None:
        found = _LINE.fullmatch(line)
        if found is None or len(line) > MAX_LINE:
            raise ReplyError(f"not a reply: {line[:100]!r}")
        code = int(found[1])
        if self._lines and code != self._code:
            raise ReplyError(f"reply codes {self._code} and {code} in one reply")
        if len(self._lines) >= MAX_LINES:
            raise ReplyError(f"reply of more than {MAX_LINES} lines")
        self._code = code
        self._lines.append((found[3] or b"").decode("latin-1"))
        if found[2] == b"-":
            return None
        lines, self._lines = self._lines, []
        return Reply.received(code, lines)
