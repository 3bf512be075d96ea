"""Invariant: what is carried of a login is base64 on one line, and nothing the client said comes back."""

import base64
import re

from gateway.smtp.authentication import MAX_NAME, Exchange, parse_auth
from gateway.smtp.command import CommandError
from gateway.smtp.reply import Reply

SEEDS = [
    b"PLAIN AGFubmEAc2VjcmV0\n",
    b"LOGIN\nYW5uYQ==\nc2VjcmV0",
    b"CRAM-MD5\nYW5uYSA5ZTk1YWVlMDljNDBhZjJiODRhMGMyYjNiYmFlNzg2ZQ==",
    b"SCRAM-SHA-256 bixhPXgsbj1hPTJDYixyPW5vbmNl\n*",
    b"XOAUTH2 dXNlcj1hbm5hAWF1dGg9QmVhcmVyIHRva2VuAQE=",
    b"plain =\n\nAA==\r\n",
]
WORDS = [
    b"PLAIN",
    b"LOGIN",
    b"SCRAM-SHA-1",
    b" ",
    b"\n",
    b"=",
    b"*",
    b"AGEAYg==",
    b"YQ==",
    b"AA",
    b"\0",
    b"\r",
    b"\xff",
]

_CARRIED = re.compile(rb"AUTH [A-Z0-9_-]{1,20}(?: (?:=|[A-Za-z0-9+/]+={0,2}))?|\*|[A-Za-z0-9+/]*={0,2}")


def fuzz(octets: bytes) -> None:
    """An AUTH command's argument, and a line for each answer."""
    argument, *answers = octets.split(b"\n")
    try:
        mechanism, initial = parse_auth(argument)
        exchange = Exchange(mechanism)
        carried = [exchange.begin(initial), *map(exchange.take, answers)]
    except CommandError as error:
        _assert_says_nothing(str(error), octets)
        return
    assert all(_CARRIED.fullmatch(line) for line in carried), carried
    assert exchange.name.isprintable()
    assert 1 <= len(exchange.name) <= MAX_NAME
    for said in answers:
        if len(said) >= 8 and said != b"*":
            _assert_comes_back_as_nothing(exchange, said.decode())
            _assert_comes_back_as_nothing(exchange, base64.b64decode(said).decode("latin-1"))


def _assert_says_nothing(text: str, octets: bytes) -> None:
    assert text.encode() in {b"Not base64", b"Syntax: AUTH mechanism [initial-response]"}, octets


def _assert_comes_back_as_nothing(exchange: Exchange, secret: str) -> None:
    """A downstream that repeats it is not repeated."""
    if secret.strip("\0\x01 "):
        reply = exchange.conclude(Reply.of(535, "5.7.8", f"No such login: {secret}"), "Refused")
        assert reply.text in {"Refused"} or secret not in reply.text
