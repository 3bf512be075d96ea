"""Messages in files: one in each, many in an mbox, or one in each file of a directory.

Read one after the other and in pieces; of a mailbox of any size no more than one message is held.
"""

import re
import sys
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import IO, Final

from gateway.smtp.address import NULL_PATH, PathError, parse_address
from gateway.smtp.address import Path as Mailbox
from gateway.smtp.content import normalized
from gateway.smtp.message import Message
from gateway.spool import Spool, Store

_PIECE: Final = 65_536
_FROM: Final = b"From "
_QUOTED: Final = re.compile(rb">+From ")
# Who a mailbox says was the sender where there was none.
_NOBODY: Final = {"-", "mailer-daemon"}


class LetterError(Exception):
    """There are no messages where some were expected; the text says where."""


@dataclass(frozen=True, slots=True)
class Letter:
    """One message. Whoever gets it closes its content.

    `name` says where it is from, `from_line` is what an mbox has in front of it, else empty.
    """

    name: str
    content: Spool
    from_line: bytes = b""

    @property
    def doubt(self) -> str | None:
        """Why this is hardly a message, for whoever gave it; `None` if it may be one."""
        if self.content.size == 0:
            return "empty"
        return None if Message(self.content).fields else "no header field, so hardly a message"

    def sender(self) -> Mailbox | None:
        """The reverse-path by its header (`Return-Path`, `X-Envelope-From`), or by its mbox."""
        message = Message(self.content)
        for name in ("Return-Path", "X-Envelope-From"):
            for value in message.decoded(name):
                if (found := _mailbox(value, is_sender=True)) is not None:
                    return found
        written = self.from_line.decode("utf-8", "replace").split()[1:2]
        return _mailbox(written[0], is_sender=True) if written else None

    def recipient(self) -> Mailbox | None:
        """Whom it was delivered to last, by its header (`Delivered-To`)."""
        values = Message(self.content).decoded("Delivered-To")
        return _mailbox(values[0]) if values else None


def _mailbox(written: str, is_sender: bool = False) -> Mailbox | None:
    text = written.strip()
    if is_sender and (text == "<>" or text.lower() in _NOBODY):
        return NULL_PATH
    try:
        found = parse_address(text.removeprefix("<").removesuffix(">"))
    except PathError:
        return None
    return None if found.is_null else found


def files_of(path: Path) -> list[Path]:
    """The file, or those of a directory: a maildir's, or else all `*.eml`. Raises LetterError."""
    if not path.is_dir():
        return [path]
    folders = [folder for folder in (path / "new", path / "cur") if folder.is_dir()]
    if folders:
        return sorted(file for folder in folders for file in folder.iterdir() if file.is_file())
    found = sorted(file for file in path.glob("*.eml") if file.is_file())
    if not found:
        raise LetterError(f"{path}: neither a maildir nor a directory with *.eml files")
    return found


def read_letters(files: Sequence[Path | None], is_mbox: bool | None = None) -> Iterator[Letter]:
    """The messages in these files, in order; `None` is standard input.

    `is_mbox` says whether they are mailboxes; by default those are that begin with `From `. Line ends
    become CRLF, as they would have arrived. Raises OSError, and LetterError for what is no mailbox.
    """
    store = Store(Path(tempfile.gettempdir()))
    for path in files:
        name = "-" if path is None else str(path)
        try:
            with nullcontext(sys.stdin.buffer) if path is None else path.open("rb") as file:
                yield from _read(name, file, is_mbox, store)
        except OSError as error:
            raise OSError(f"{name}: {error.strerror or error}") from error


def _read(name: str, file: IO[bytes], is_mbox: bool | None, store: Store) -> Iterator[Letter]:
    # Read and not peeked at: a pipe may give its first octets one by one.
    beginning = file.read(len(_FROM))
    begins_so = beginning == _FROM
    if is_mbox and beginning and not begins_so:
        raise LetterError(f"{name}: no mbox, for it does not begin with 'From '")
    if is_mbox or (is_mbox is None and begins_so):
        yield from _read_mbox(name, _Mbox(file, beginning), store)
    else:
        pieces = chain([beginning], iter(lambda: file.read(_PIECE), b""))
        yield Letter(name, _spooled(pieces, store))


def _read_mbox(name: str, mbox: "_Mbox", store: Store) -> Iterator[Letter]:
    number = 0
    while from_line := mbox.next_from_line:
        number += 1
        yield Letter(f"{name}:{number}", _spooled(mbox.content(), store), from_line)


class _Mbox:
    """An mbox under way, as mboxrd has it: a line `From ` behind an empty one begins the next message.

    An empty line at the end of a message is not part of it, and a `>` before `From ` is one too many.
    """

    def __init__(self, file: IO[bytes], beginning: bytes) -> None:
        """`beginning` has been read from the file already."""
        self._file = file
        self.next_from_line = beginning + file.readline(_PIECE)

    def content(self) -> Iterator[bytes]:
        """The next message in pieces, which have to be read to the end."""
        self.next_from_line = b""
        held, is_line_start = b"", True
        while piece := self._file.readline(_PIECE):
            was_line_start, is_line_start = is_line_start, piece.endswith(b"\n")
            if was_line_start and held and piece.startswith(_FROM):
                self.next_from_line = piece
                return
            yield held
            is_empty = was_line_start and piece in {b"\n", b"\r\n"}
            held = piece if is_empty else b""
            if not is_empty:
                yield piece[1:] if was_line_start and _QUOTED.match(piece) else piece


def _spooled(pieces: Iterable[bytes], store: Store) -> Spool:
    spool = Spool(store, limit=sys.maxsize)
    waiting: list[bytes] = []
    size = 0
    for piece in _with_crlf(pieces):
        waiting.append(piece)
        size += len(piece)
        if size >= _PIECE:
            spool.append(b"".join(waiting))
            waiting, size = [], 0
    spool.append(b"".join(waiting))
    if spool.failure:
        raise OSError(spool.failure)
    return spool


def _with_crlf(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """Bare CR and LF made CRLF, also where a piece ends between the two."""
    held = b""
    for piece in pieces:
        octets = held + piece
        held = b"\r" if octets.endswith(b"\r") else b""
        yield normalized(octets[: len(octets) - len(held)])
    yield normalized(held)
