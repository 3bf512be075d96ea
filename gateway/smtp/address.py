"""Reverse-path and forward-path: RFC 5321 sections 4.1.2 and 4.1.3, RFC 6531 section 3.3.

Works on the received octets. Nothing is ever decoded on the way (RFC 2047 encoded-words, quoted
pairs), because what a decoder makes of an address and what the downstream makes of it may differ,
and the octets that were judged must be the octets that are passed on. UTF-8 is taken where it is
strictly that, and never normalised; whether a client may use it is for the caller to ask.
"""

import re
from dataclasses import dataclass

from gateway.smtp.idn import MAX_DOMAIN, UTF8, is_disguised, to_ascii

_ATOM = rb"(?:[A-Za-z0-9!#$%%&'*+/=?^_`{|}~-]|%s)+" % UTF8
_DOT_STRING = rb"%s(?:\.%s)*" % (_ATOM, _ATOM)
_QUOTED_STRING = rb'"(?:[ !#-\[\]-~]|%s|\\[ -~])*"' % UTF8
# The grammar knows no underscore in a domain; real senders do, and Postfix takes it.
_LETTER = rb"(?:[A-Za-z0-9_]|%s)" % UTF8
_LABEL = rb"%s(?:(?:-|%s){0,61}%s)?" % (_LETTER, _LETTER, _LETTER)
_DOMAIN = rb"%s(?:\.%s)*" % (_LABEL, _LABEL)
# RFC 5321 allows more in one; addresses have no more, and what ends a path elsewhere ends none here.
_ADDRESS_LITERAL = rb"\[[A-Za-z0-9:.-]{1,100}\]"
_ASCII_LABEL = rb"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
_ASCII_DOMAIN = rb"%s(?:\.%s)*" % (_ASCII_LABEL, _ASCII_LABEL)
_SOURCE_ROUTE = rb"@%s(?:,@%s)*:" % (_ASCII_DOMAIN, _ASCII_DOMAIN)

_PATH = re.compile(
    rb"<(?P<route>%s)?(?P<mailbox>(?P<local>%s|%s)@(?P<domain>%s|%s))>"
    % (_SOURCE_ROUTE, _DOT_STRING, _QUOTED_STRING, _DOMAIN, _ADDRESS_LITERAL)
)
_NULL = b"<>"
_POSTMASTER = re.compile(rb"<(?P<local>postmaster)>", re.IGNORECASE)

# RFC 5321 section 4.5.3.1 asks a server to take at least 64 and 255 octets. Real bounce addresses
# (VERP, SRS) have longer local parts, so the bound is the path's and not the local part's.
MAX_PATH = 512


class PathError(ValueError):
    """The octets are no path; the text says why, and is fit for a reply."""


@dataclass(frozen=True, slots=True)
class Path:
    """A mailbox as the envelope has it, without its angle brackets.

    `str(path)` is what was received; `local_part` keeps its quotes and its case. The null
    reverse-path is `NULL_PATH`, with `is_null` true. `<postmaster>` has an empty domain.
    """

    local_part: str
    domain: str

    @property
    def is_null(self) -> bool:
        """True for `<>`, the sender of delivery status notifications (RFC 5321 section 4.5.5)."""
        return not self.local_part

    @property
    def is_postmaster(self) -> bool:
        """True for the one local part that is never case sensitive (RFC 5321 section 4.5.1)."""
        return self.local_part.lower() == "postmaster"

    @property
    def is_ascii(self) -> bool:
        """False for an address that only SMTPUTF8 can carry (RFC 6531)."""
        return str(self).isascii()

    @property
    def octets(self) -> bytes:
        """What stood between the angle brackets."""
        return str(self).encode("utf-8")

    def __str__(self) -> str:
        return f"{self.local_part}@{self.domain}" if self.domain else self.local_part


NULL_PATH = Path("", "")


def parse_reverse_path(argument: bytes) -> tuple[Path, bytes]:
    """Split what follows `MAIL FROM:` into the path and the octets behind it.

    Raises PathError.
    """
    if argument.startswith(_NULL):
        return NULL_PATH, argument[len(_NULL) :]
    return _parse_mailbox(argument)


def parse_forward_path(argument: bytes) -> tuple[Path, bytes]:
    """Split what follows `RCPT TO:` into the path and the octets behind it.

    A source route is recognised and dropped, as RFC 5321 appendix C allows; the mailbox behind it
    is then judged like any other. Raises PathError.
    """
    if found := _POSTMASTER.match(argument):
        return Path(found["local"].decode("ascii"), ""), argument[found.end() :]
    return _parse_mailbox(argument)


def parse_address(text: str) -> Path:
    """A path as people write it: `user@example.org`, `postmaster`, or empty for the null one.

    Raises PathError.
    """
    if not text:
        return NULL_PATH
    path, rest = parse_forward_path(b"<%s>" % text.encode("utf-8", "surrogatepass"))
    if rest:
        raise PathError(f"{text!r} is not an address")
    return path


def _parse_mailbox(argument: bytes) -> tuple[Path, bytes]:
    found = _PATH.match(argument)
    if found is None:
        raise PathError(_why_not(argument))
    if len(found["domain"]) > MAX_DOMAIN or len(found["mailbox"]) > MAX_PATH:
        raise PathError("path too long")
    path = Path(found["local"].decode("utf-8"), found["domain"].decode("utf-8"))
    if not path.is_ascii:
        _check_characters(path)
    return path, argument[found.end() :]


def _check_characters(path: Path) -> None:
    """Beyond ASCII nothing may be another address to somebody else."""
    if is_disguised(str(path)):
        raise PathError("a character stands for ASCII")
    try:
        to_ascii(path.domain)
    except ValueError:
        raise PathError("the domain is none") from None


def _why_not(argument: bytes) -> str:
    if not argument.startswith(b"<"):
        return "the path must stand in angle brackets"
    return "malformed path"
