"""The header section of a message: RFC 5322 section 2.2, and what real mail makes of it.

Splitting never fails. Octets that are no header field end the section, as they do in Postfix, so
that we and the downstream see the same border between header and body.
"""

import base64
import binascii
import itertools
import re
from dataclasses import dataclass

# RFC 5322 section 4.5: white space before the colon is obsolete, and lives.
_FIELD = re.compile(rb"(?P<name>[!-9;-~]+)[ \t]*:(?P<value>[^\n]*(?:\n[ \t][^\n]*)*)(?:\n|\Z)")
# What mailbox tools put in front of the first field; Postfix takes it for a header line, too, and one
# that can be folded.
_MAILBOX_LINE = re.compile(rb">?From [^\n]*\n(?:[ \t][^\n]*\n)*")
_MAILBOX_LINE_BEGUN = re.compile(rb">?From ")
_FOLD = re.compile(rb"\r?\n(?=[ \t])")
# No mail has as many; a message that has is refused, for a field takes more memory than octets.
MAX_FIELDS = 30_000
# Decoding is for reading, never for relaying; nobody reads more than this of one field.
_MAX_DECODED = 16_384
# RFC 2047 section 2, with the language of RFC 2231 section 5. What ends a part is in none, so that a
# search passes over each character once, whatever it is given.
_WORD = r"=\?([^?*\s]{1,40})(?:\*[^?\s]*)?\?([QqBb])\?([^?]*)\?="
_ENCODED_WORD = re.compile(_WORD)
# Only white space between them, which is then no part of the text (section 6.2).
_ENCODED_WORDS = re.compile(rf"{_WORD}(?:\s*{_WORD})*")
# What mail is written in. Python's other codecs do things to octets that no charset does, some of them
# slowly (CVE-2022-45061).
_CHARSET = re.compile(
    r"utf-?8|us-ascii|iso-?8859-\d{1,2}|windows-\d{3,4}|cp\d{3,4}|koi8-[rtu]|macintosh|tis-620|big5(?:-hkscs)?"
    r"|gb2312|gbk|gb18030|euc-(?:jp|kr)|iso-2022-(?:jp|kr)|shift[_-]jis|ks_c_5601-1987"
)


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
    if _MAILBOX_LINE_BEGUN.match(content_head):
        return b"X-Mailbox-Line: "
    return b"\r\n" if content_head[:1] in {b" ", b"\t"} else b""


def split_fields(octets: bytes) -> tuple[Field, ...]:
    """The header fields at the beginning of a message, in order, up to `MAX_FIELDS`."""
    mailbox_line = _MAILBOX_LINE.match(octets)
    at = mailbox_line.end() if mailbox_line else 0
    fields: list[Field] = []
    while len(fields) < MAX_FIELDS and (found := _FIELD.match(octets, at)):
        name = found["name"].decode("ascii").lower()
        fields.append(Field(name, found["value"].rstrip(b"\r"), found.start(), found.end()))
        at = found.end()
    return tuple(fields)


def decode_value(value: bytes) -> str:
    """A field's value for people: unfolded, encoded-words decoded (RFC 2047), never an error.

    What cannot be decoded stays as it is written.
    """
    return decode_words(unfold(value))


def unfold(value: bytes) -> str:
    """A field's value on one line, octets beyond ASCII decoded by guess, encoded-words left as they are."""
    return octets_to_text(_FOLD.sub(b"", value)[:_MAX_DECODED]).strip()


def decode_words(text: str) -> str:
    """The text with its encoded-words decoded, as far as that can be done."""
    return _ENCODED_WORDS.sub(_decode_words, text)


def _decode_words(found: re.Match[str]) -> str:
    """Words of one charset are one piece: senders part them in the middle of a character."""
    words = _ENCODED_WORD.findall(found[0])
    try:
        return "".join(
            _decode(charset, b"".join(_octets(encoding, text) for _, encoding, text in group))
            for charset, group in itertools.groupby(words, key=lambda word: word[0].lower())
        )
    except (ValueError, LookupError):
        return found[0]


def _octets(encoding: str, text: str) -> bytes:
    if encoding in "Bb":
        return base64.b64decode(text + "==")
    return binascii.a2b_qp(text.encode("utf-8"), header=True)


def _decode(charset: str, octets: bytes) -> str:
    if not _CHARSET.fullmatch(charset):
        raise LookupError(charset)
    return octets.decode(charset)


def octets_to_text(octets: bytes, charset: str = "utf-8") -> str:
    """The octets as text, by that charset if they are in it, else by the likeliest; never an error."""
    for name in (charset, "utf-8"):
        try:
            return _decode(name.lower(), octets)
        except (ValueError, LookupError):
            continue
    return octets.decode("latin-1")
