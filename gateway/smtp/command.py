"""Command lines: RFC 5321 sections 4.1.1 and 4.1.2, and BDAT (RFC 3030).

Each function takes received octets and returns values, or raises `CommandError` with the reply
that says what is wrong.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from gateway.smtp.address import Path, PathError, parse_forward_path, parse_reverse_path
from gateway.smtp.idn import UTF8
from gateway.smtp.reply import Reply

# RFC 5321 section 4.5.3.1.4 asks for 512 octets with CRLF; extensions add to it. One bound for
# every command, so that no client can move it.
MAX_LINE = 2048
MAX_HELO_NAME = 255
# Beyond any message that anybody takes: who announces such a chunk will not send it.
MAX_CHUNK = 2**31 - 1

_VERB = re.compile(rb"[A-Za-z]{1,16}")
_PARAMETER = re.compile(rb"([A-Za-z0-9][A-Za-z0-9-]*)(?:=((?:[!-<>-~]|%s)+))?" % UTF8)
_HELO_NAME = re.compile(rb"[!-~]{1,%d}" % MAX_HELO_NAME)
# What browsers, proxies and mail header fields look like: never the beginning of an SMTP dialogue, but
# what an attacker makes somebody else's program send to us.
_FOREIGN = re.compile(
    rb"(?:GET|HEAD|POST|PUT|OPTIONS|CONNECT) \S+ HTTP/|[A-Za-z][A-Za-z0-9-]*:[ \t]", re.IGNORECASE
)
_CONTROL = re.compile(rb"[\x00-\x1f\x7f]")
_CHUNK = re.compile(rb"([0-9]{1,10})(?: +(LAST))?", re.IGNORECASE)

Parameters = Mapping[str, str | None]
# Keyword to what its value must look like; those of RFC 3461 section 4 are carried as they came.
KnownParameters = Mapping[str, re.Pattern[str]]
_WHEN = "(?:SUCCESS|FAILURE|DELAY)"
_XTEXT = r"(?:[!-*,-<>-~]|\+[0-9A-F]{2})"
_ORCPT = rf"[A-Za-z0-9-]{{1,40}};{_XTEXT}{{1,500}}"
MAIL_PARAMETERS: KnownParameters = {
    "SIZE": re.compile(r"[0-9]{1,20}"),
    "BODY": re.compile(r"7BIT|8BITMIME", re.IGNORECASE),
}
SMTPUTF8_PARAMETERS: KnownParameters = {"SMTPUTF8": re.compile("")}
DSN_MAIL_PARAMETERS: KnownParameters = {
    "RET": re.compile(r"FULL|HDRS", re.IGNORECASE),
    "ENVID": re.compile(rf"{_XTEXT}{{1,100}}"),
}
# draft-hall-prdr: a keyword without a value.
PRDR_MAIL_PARAMETERS: KnownParameters = {"PRDR": re.compile("")}
# RFC 4954 section 5.
AUTH_MAIL_PARAMETERS: KnownParameters = {"AUTH": re.compile(rf"<>|{_XTEXT}{{1,500}}")}
DSN_RCPT_PARAMETERS: KnownParameters = {
    "NOTIFY": re.compile(rf"NEVER|{_WHEN}(?:,{_WHEN}){{0,2}}", re.IGNORECASE),
    "ORCPT": re.compile(_ORCPT),
}
# RFC 6533 section 3: the original recipient in UTF-8, where the client said SMTPUTF8.
SMTPUTF8_RCPT_PARAMETERS: KnownParameters = {
    **DSN_RCPT_PARAMETERS,
    "ORCPT": re.compile(rf"{_ORCPT}|(?i:utf-8);(?:{_XTEXT}|[^\x00-\x7f]){{1,500}}"),
}


class CommandError(ValueError):
    """The command cannot be followed; `reply` is what to answer, `reason` its slug in the record."""

    def __init__(self, code: int, status: str, text: str, reason: str = "malformed-command") -> None:
        super().__init__(text)
        self.reply = Reply.of(code, status, text)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Command:
    """A verb in upper case and the octets behind it, without the white space around them."""

    verb: str
    argument: bytes


@dataclass(frozen=True, slots=True)
class Chunk:
    """What BDAT announces: so many octets of content, and whether the message ends with them."""

    size: int
    is_last: bool


def is_foreign(line: bytes) -> bool:
    """Whether the line belongs to another protocol, so that nothing behind it can be meant for us."""
    return _FOREIGN.match(line) is not None


def announces_chunk(line: bytes) -> bool:
    """Whether what comes behind the line is a chunk and no command, however malformed the line is."""
    return line.lstrip()[:4].upper() == b"BDAT"


def parse_command(line: bytes) -> Command:
    """Split a command line, its CRLF already removed."""
    if _CONTROL.search(line):
        raise CommandError(500, "5.5.2", "Control characters are not allowed in commands")
    verb, _, argument = line.partition(b" ")
    if not _VERB.fullmatch(verb):
        raise CommandError(500, "5.5.2", "Command not recognized")
    return Command(verb.upper().decode("ascii"), argument.strip())


def parse_helo(argument: bytes) -> str:
    """The name a client claims in HELO or EHLO; any printable one, for real clients claim anything."""
    if not _HELO_NAME.fullmatch(argument):
        raise CommandError(501, "5.5.4", "Syntax: EHLO hostname")
    return argument.decode("ascii")


def parse_mail(argument: bytes) -> tuple[Path, Parameters]:
    """The reverse-path and parameters of a MAIL command."""
    return _parse_path_command(b"FROM:", argument, parse_reverse_path, "5.1.7", "MAIL FROM:<address>")


def parse_rcpt(argument: bytes) -> tuple[Path, Parameters]:
    """The forward-path and parameters of a RCPT command."""
    return _parse_path_command(b"TO:", argument, parse_forward_path, "5.1.3", "RCPT TO:<address>")


def parse_bdat(argument: bytes) -> Chunk:
    """The chunk behind a BDAT command (RFC 3030 section 2)."""
    found = _CHUNK.fullmatch(argument)
    if found is None or int(found[1]) > MAX_CHUNK:
        raise CommandError(501, "5.5.4", "Syntax: BDAT size [LAST]")
    return Chunk(int(found[1]), found[2] is not None)


def _parse_path_command(
    keyword: bytes,
    argument: bytes,
    parse: Callable[[bytes], tuple[Path, bytes]],
    bad_address: str,
    syntax: str,
) -> tuple[Path, Parameters]:
    if argument[: len(keyword)].upper() != keyword:
        raise CommandError(501, "5.5.4", f"Syntax: {syntax}")
    try:
        path, rest = parse(argument[len(keyword) :].lstrip(b" "))
    except PathError as error:
        raise CommandError(501, bad_address, f"Bad address: {error}", "malformed-address") from None
    if rest and not rest.startswith(b" "):
        raise CommandError(501, bad_address, "Bad address: something stands behind it", "malformed-address")
    return path, _parse_parameters(rest)


def _parse_parameters(octets: bytes) -> dict[str, str | None]:
    """ESMTP parameters by upper-case keyword (RFC 5321 section 4.1.2)."""
    parameters: dict[str, str | None] = {}
    for word in filter(None, octets.split(b" ")):
        found = _PARAMETER.fullmatch(word)
        if found is None:
            raise CommandError(501, "5.5.4", "Malformed parameter")
        keyword = found[1].upper().decode("ascii")
        if keyword in parameters:
            raise CommandError(501, "5.5.4", f"Parameter {keyword} given twice")
        parameters[keyword] = found[2].decode("utf-8") if found[2] is not None else None
    return parameters


def check_known(parameters: Parameters, known: KnownParameters) -> None:
    """Raises CommandError for a parameter, or a value of one, that we could not honour."""
    for keyword, value in parameters.items():
        if keyword not in known:
            text = f"Parameter {keyword} not recognized or not implemented"
            raise CommandError(555, "5.5.4", text, "unknown-parameter")
        if not known[keyword].fullmatch(value or ""):
            raise CommandError(501, "5.5.4", f"Parameter {keyword} has no value that it may have")


def parse_size(parameters: Parameters) -> int | None:
    """The message size a client declares with SIZE= (RFC 1870 section 6), in octets."""
    if "SIZE" not in parameters:
        return None
    value = parameters["SIZE"]
    if value is None or not value.isascii() or not value.isdigit() or len(value) > 20:
        raise CommandError(501, "5.5.4", "SIZE takes a number of octets")
    return int(value)
