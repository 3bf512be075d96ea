"""Content on the wire: end of data, dot-stuffing, line endings (RFC 5321 sections 2.3.8, 4.5.2).

`ContentReader` turns what a client sends after 354 into the octets of the message, `ChunkReader` what
it sends in chunks (RFC 3030), and `stuffed` turns them into what goes behind DATA. Only CRLF.CRLF
ends the data; every other spelling of it is content, and as a bare CR or LF it is either refused or
rewritten before anybody scans it. Whatever is handed on has no bare CR or LF and no line of NULs and
a dot, so no receiver, however lenient, can find another end in it.
"""

import abc
import enum
import re
from collections.abc import Iterable, Iterator

_END = b"\r\n.\r\n"
_PIECE = 65_536
_BARE = re.compile(rb"\r(?!\n)|(?<!\r)\n")
# A dot alone, for whoever drops NULs before looking for the end of data. The dot is not stuffed, for
# it is not the first octet of its line.
_HIDDEN_DOT = re.compile(rb"\n\0+\.\0*\r\n")
_HIDDEN_DOT_BEGUN = re.compile(rb"\n\0+(\.\0*)?\Z")


class BareNewline(enum.Enum):
    """What becomes of a CR or LF that is not part of a CRLF."""

    REJECT = "reject"
    NORMALIZE = "normalize"


class Reader(abc.ABC):
    """Takes content in pieces of any size.

    `feed` returns the decoded content of the piece. Once the end was seen `at_end` is true and
    `rest` holds what came behind it: the client's next commands. `room` is how many octets may be
    fed at most, `None` for any number. `must_refuse` is true once there was a bare CR or LF that
    must not be rewritten, or a line of NULs and a dot, which nobody writes but for smuggling.
    """

    def __init__(self, bare_newline: BareNewline) -> None:
        self.at_end = False
        self.rest = b""
        self.room: int | None = None
        self.must_refuse = False
        self._normalize = bare_newline is BareNewline.NORMALIZE
        self._line = b"\n"

    @abc.abstractmethod
    def feed(self, octets: bytes) -> bytes:
        """The content in these octets, as far as it can be told."""

    @property
    def _at_line_start(self) -> bool:
        return self._line == b"\n"

    def _check(self, content: bytes) -> bytes:
        """The content with its line ends looked at; no piece ends between a CR and its LF."""
        pairs = content.count(b"\r\n")
        if content.count(b"\n") != pairs or content.count(b"\r") != pairs:
            if self._normalize:
                content = normalized(content)
            else:
                self.must_refuse = True
        self._look_for_hidden_dot(content)
        return content

    def _look_for_hidden_dot(self, content: bytes) -> None:
        """`_line` is what the line that a piece ends in has of a hidden dot, its NULs counted once."""
        if b"\0" in content or b"\0" in self._line:
            content = self._line + content
            if _HIDDEN_DOT.search(content):
                self.must_refuse = True
            if begun := _HIDDEN_DOT_BEGUN.search(content):
                self._line = b"\n\0." if begun[1] else b"\n\0"
                return
        if content:
            self._line = b"\n" if content.endswith(b"\n") else b""


class ContentReader(Reader):
    """Content behind DATA: ends with a dot alone in its line, dots at line starts were doubled."""

    def __init__(self, bare_newline: BareNewline) -> None:
        super().__init__(bare_newline)
        # The CRLF of the DATA command itself: a dot in the very first line is at a line start, too.
        self._held = b"\r\n"
        self._skip = len(self._held)

    def feed(self, octets: bytes) -> bytes:
        """The content in these octets, as far as it can be told from the end of data."""
        octets = self._held + octets
        end = octets.find(_END)
        if end >= 0:
            self.at_end = True
            self.rest = octets[end + len(_END) :]
            cut = end + 2
        else:
            cut = len(octets) - _undecided(octets)
        self._held = octets[cut:]
        return self._decode(octets[:cut])

    def _decode(self, octets: bytes) -> bytes:
        if not octets:
            return octets
        content = octets.replace(b"\r\n.", b"\r\n")
        if self._skip:
            content, self._skip = content[self._skip :], 0
        return self._check(content)


class ChunkReader(Reader):
    """Content behind BDAT: as many octets as were announced, all of them content.

    `begin` announces a chunk; `at_end` is true at the end of each. A message that does not end with
    a line end gets one, for behind DATA it could not do without.
    """

    def __init__(self, bare_newline: BareNewline) -> None:
        super().__init__(bare_newline)
        self._held = b""
        self._awaited = 0
        self._is_last = False

    def begin(self, size: int, is_last: bool) -> None:
        """The next `size` octets are a chunk; the message ends with it if it is the last one."""
        self.at_end = False
        self.room = self._awaited = size
        self._is_last = is_last

    def feed(self, octets: bytes) -> bytes:
        """The content in these octets, but for a CR whose LF may still come."""
        chunk, self.rest = octets[: self._awaited], octets[self._awaited :]
        self.room = self._awaited = self._awaited - len(chunk)
        self.at_end = not self._awaited
        return self._take(self._held + chunk, ends=self.at_end and self._is_last)

    def _take(self, content: bytes, ends: bool) -> bytes:
        cut = len(content) - 1 if content.endswith(b"\r") and not ends else len(content)
        self._held = content[cut:]
        content = self._check(content[:cut])
        if ends and not self._at_line_start:
            content += self._check(b"\r\n")
        return content


def normalized(octets: bytes) -> bytes:
    """Every bare CR and bare LF made a CRLF."""
    return _BARE.sub(b"\r\n", octets)


def _undecided(octets: bytes) -> int:
    """How many octets at the end may still turn out to belong to the end of data or a stuffed dot."""
    for length in range(len(_END) - 1, 0, -1):
        if octets.endswith(_END[:length]):
            return length
    return 0


def stuffed(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """The content as it goes over the wire: dots stuffed, the end of data as the last piece's end.

    Pieces are large: a small message with its end of data is one.
    """
    line_start = True
    held: list[bytes] = []
    room = _PIECE
    for chunk in chunks:
        if line_start and chunk.startswith(b"."):
            held.append(b".")
        held.append(chunk.replace(b"\n.", b"\n.."))
        line_start = chunk.endswith(b"\n") if chunk else line_start
        room -= len(chunk)
        if room <= 0:
            yield b"".join(held)
            held, room = [], _PIECE
    held.append(b".\r\n" if line_start else _END)
    yield b"".join(held)
