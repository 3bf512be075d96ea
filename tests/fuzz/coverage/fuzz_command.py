"""Invariant: a command line is refused for good, or it is one command that can be said again."""

import re

from gateway.smtp.command import (
    CommandError,
    Parameters,
    is_foreign,
    parse_command,
    parse_helo,
    parse_mail,
    parse_rcpt,
    parse_size,
)
from gateway.smtp.reply import Reply

SEEDS = [
    b"EHLO client.example.org",
    b"MAIL FROM:<s@a.example> SIZE=1000 BODY=8BITMIME",
    b"RCPT TO:<@a.example,@b.example:u1@our.example> NOTIFY=SUCCESS,FAILURE ORCPT=rfc822;u1@our.example",
    b'rcpt to: <"a\\"b c"@[IPv6:2001:db8::1]>',
    b"RCPT TO:<=?utf-8?q?a=0d=0aRCPT_TO=3a=3cx=40victim.example=3e?=@our.example>",
    b"GET / HTTP/1.1",
    b"MAIL FROM:<s@a.example> AUTH=e+3Dmc2@example.com SIZE=\xc2\xb2",
]
WORDS = [
    *(
        b"MAIL FROM:",
        b"RCPT TO:",
        b"EHLO ",
        b"<",
        b">",
        b"@",
        b'"',
        b"\\",
        b",",
        b":",
        b" ",
        b"%",
        b"[",
        b"]",
    ),
    *(b"=", b"SIZE=", b"a", b"our.example", b"victim.example", b"postmaster", b"\0", b"\r", b"\n", b"\t"),
    *(b"\x7f", b"\x80", b"\xff", b"IPv6:::1", b"-", b"."),
]

_UNSAFE = re.compile(rb"[^ -~]")
_CONTROL = re.compile(rb"[\0-\x1f\x7f]")


def fuzz(octets: bytes) -> None:
    """One line as a client may send it."""
    is_foreign(octets)
    refusal = _carry_out(octets)
    if refusal is not None:
        assert refusal.is_permanent
        assert len(refusal.encode()) <= 512


def _carry_out(line: bytes) -> Reply | None:
    try:
        command = parse_command(line)
        if command.verb in {"EHLO", "HELO"}:
            assert not _UNSAFE.search(parse_helo(command.argument).encode())
        elif command.verb in {"MAIL", "RCPT"}:
            _check_path_command(command.verb, command.argument)
    except CommandError as error:
        return error.reply
    return None


def _check_path_command(verb: str, argument: bytes) -> None:
    parse, keyword = (parse_mail, b"FROM:") if verb == "MAIL" else (parse_rcpt, b"TO:")
    path, parameters = parse(argument)
    said = keyword + b"<%s>" % path.octets + _spelled(parameters)
    assert not _CONTROL.search(said)
    said.decode("utf-8")
    # Nothing was decoded on the way: what is passed on is what was received.
    assert path.octets in argument
    assert parse(said) == (path, parameters)
    size = parse_size({"SIZE": parameters["SIZE"]}) if parameters.get("SIZE") else 0
    assert size is not None
    assert size >= 0


def _spelled(parameters: Parameters) -> bytes:
    words = [keyword if value is None else f"{keyword}={value}" for keyword, value in parameters.items()]
    return "".join(f" {word}" for word in words).encode()
