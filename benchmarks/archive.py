"""A mail archive with classes, such as the SpamAssassin public corpus, as transactions.

A directory of directories, each of which is a class by its name: `spam` in it is spam, `hard` is hard
ham, any other `ham` is easy ham. One file is one message. What is not in an archive any more, who sent it
to whom by which client, is taken from what the receiving hosts wrote down, as far as that can be believed.
Only reads files; sends nothing and asks nobody.
"""

import functools
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from email.utils import parseaddr
from ipaddress import ip_address
from pathlib import Path

from gateway.smtp.address import NULL_PATH, PathError, parse_address
from gateway.smtp.envelope import Envelope
from gateway.smtp.message import Message
from gateway.smtp.trace import received_field
from gateway.smtp.transaction import Transaction
from policies.testing import message, session, transaction

CLASSES = ("easy ham", "hard ham", "spam")
# What an archive has beside messages.
_OTHER_FILES = frozenset({"cmds"})
_OTHER_SUFFIXES = frozenset({".json", ".js", ".md"})
_MAILBOX_LINE = re.compile(rb"From (\S*)[^\n]*\n")
# RFC 5321 section 4.4, as MTAs write it: from NAME (NAME [ADDRESS]) by ...
_FROM_PART = re.compile(r"from\s+(\S+)(.*?)\sby\s", re.DOTALL | re.IGNORECASE)
_ADDRESS = re.compile(r"[\[(](?:::ffff:)?(\d{1,3}(?:\.\d{1,3}){3})[\])]")
_HELO = re.compile(r"helo[= ]([^\s()\[\]]+)", re.IGNORECASE)
# A program that fetches mail from a mailbox is no client: by then the message had been accepted.
_FETCHED = re.compile(r"with\s+(?:imap|pop3)|fetchmail", re.IGNORECASE)
# RFC 5737: an address that is nobody's, and that no scanner takes for one of its own network.
_REFERENCE = "AAAA-AAAA"
_NOBODY = "192.0.2.1"


@dataclass(frozen=True, slots=True)
class Sample:
    """One message of an archive, by its class and its place below the archive's directory."""

    kind: str
    name: str
    file: Path

    def transaction(self) -> Transaction:
        """The message at the end of data, with lines that end as they do in SMTP.

        The sender is what the receiving host wrote down, else the author. There are no recipients: archives
        have them replaced. The trace field says that the message came from this machine, as it does: who
        reads trace fields goes on to those of the archive, and who does not is told of the same client. Its
        name is left out, because the gateway does not look up names.
        """
        octets = self.file.read_bytes()
        mailbox_line = _MAILBOX_LINE.match(octets)
        if mailbox_line:
            octets = octets[mailbox_line.end() :]
        received = message(content=re.sub(rb"\r*\n", b"\r\n", octets))
        envelope_sender = mailbox_line[1].decode("latin-1") if mailbox_line else ""
        author = parseaddr(received.header("From") or "")[1]
        senders = (_path(text) for text in (received.header("Return-Path") or "", envelope_sender, author))
        address, helo = client(received)
        return transaction(
            session=session(client_address=address, helo_name=helo),
            reverse_path=next(filter(None, senders), ""),
            recipients=(),
            message=received,
            trace=_trace() + received.border,
        )


@functools.cache
def _trace() -> bytes:
    here = session(client_address="127.0.0.1", helo_name=None)
    return received_field(
        here, "gateway.example.org", _REFERENCE, Envelope(NULL_PATH), datetime.now().astimezone()
    )


def client(received: Message) -> tuple[str, str | None]:
    """Address and greeting of the host that handed the message to the receiving site.

    By the first Received field from a public address. Without one it is an address that is nobody's, and
    a greeting that is not known.
    """
    for field in received.headers("Received"):
        part = _FROM_PART.match(field)
        address = part and _ADDRESS.search(part[0])
        if part is None or address is None or _FETCHED.search(field):
            continue
        if _is_public(address[1]):
            helo = _HELO.search(part[0])
            return address[1], (helo[1] if helo else part[1].strip("[]()"))
    return _NOBODY, None


def _is_public(text: str) -> bool:
    try:
        return ip_address(text).is_global
    except ValueError:
        return False


def _path(text: str) -> str:
    """A reverse-path in a form that can be one; else the null one."""
    address = text.strip().removeprefix("<").removesuffix(">")
    try:
        parse_address(address)
    except PathError:
        return ""
    return address


def read(directory: Path, limit: int | None = None) -> list[Sample]:
    """The messages below `directory`, at most the first `limit` of each of its directories.

    Raises ValueError where there is none.
    """
    samples = list(_samples(directory, limit))
    if not samples:
        raise ValueError(f"{directory} has no directory of ham or spam with messages in it")
    return samples


def _samples(directory: Path, limit: int | None) -> Iterator[Sample]:
    for folder in sorted(each for each in directory.rglob("*") if each.is_dir()):
        kind = _kind(folder.name)
        if kind is not None:
            files = sorted(file for file in folder.iterdir() if _is_message(file))
            for file in files[:limit]:
                yield Sample(kind, f"{folder.name}/{file.name.removesuffix('.txt')}", file)


def _kind(name: str) -> str | None:
    if "spam" in name:
        return "spam"
    if "ham" in name:
        return "hard ham" if "hard" in name else "easy ham"
    return None


def _is_message(file: Path) -> bool:
    return file.is_file() and file.suffix not in _OTHER_SUFFIXES and file.name not in _OTHER_FILES
