"""The header section of a message: RFC 5322 section 2.2, and what real mail makes of it.

Splitting never fails. Octets that are no header field end the section, as they do in Postfix, so
that we and the downstream see the same border between header and body.
"""

import email.errors
import email.header
import re
from dataclasses import dataclass

# RFC 5322 section 4.5: white space before the colon is obsolete, and lives.
_FIELD = re.compile(rb"(?P<name>[!-9;-~]+)[ \t]*:(?P<value>[^\n]*(?:\n[ \t][^\n]*)*)(?:\n|\Z)")
# What mailbox tools put in front of the first field; Postfix takes it for a header line, too.
_MAILBOX_LINE = re.compile(rb">?From [^\n]*\n")
_FOLD = re.compile(rb"\r?\n(?=[ \t])")
# Decoding is for reading, never for relaying; nobody reads more than this of one field.
_MAX_DECODED = 16_384


@dataclass(frozen=True, slots=True)
class Field:
    """One header field: its name, its value as received (folds kept), and where it stands."""

    name: str
    value: bytes
    start: int
    end: int


def border(content_head: bytes) -> bytes:
    """What must stand between fields put on top and content that begins like this.

    Fields on top turn the first line of the content into a later one, and later lines are read in
    another way. A mailbox line becomes the field that Postfix makes of it; a line that begins with
    white space must not go on with our last field, so an empty line ends the header before it.
    """
    if _MAILBOX_LINE.match(content_head):
        return b"X-Mailbox-Line: "
    return b"\r\n" if content_head[:1] in {b" ", b"\t"} else b""


def split_fields(octets: bytes) -> tuple[Field, ...]:
    """The header fields at the beginning of a message, in order."""
    mailbox_line = _MAILBOX_LINE.match(octets)
    at = mailbox_line.end() if mailbox_line else 0
    fields = []
    while found := _FIELD.match(octets, at):
        name = found["name"].decode("ascii").lower()
        fields.append(Field(name, found["value"].rstrip(b"\r"), found.start(), found.end()))
        at = found.end()
    return tuple(fields)


def decode_value(value: bytes) -> str:
    """A field's value for people: unfolded, encoded-words decoded (RFC 2047), never an error."""
    text = _text(_FOLD.sub(b"", value)[:_MAX_DECODED]).strip()
    if "=?" not in text:
        return text
    try:
        return str(email.header.make_header(email.header.decode_header(text)))
    except (email.errors.MessageError, ValueError, LookupError):
        return text


def _text(octets: bytes) -> str:
    try:
        return octets.decode("utf-8")
    except UnicodeDecodeError:
        return octets.decode("latin-1")
