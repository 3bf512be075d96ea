"""XFORWARD commands and xtext."""

from dataclasses import replace

import pytest

from gateway.relay.identity import xforward, xtext
from policies.testing import session

ALL = {"XFORWARD": "NAME ADDR PORT PROTO HELO SOURCE"}
SESSION = replace(session(client_address="192.0.2.1", client_port=4321, helo_name="c.example"), esmtp=True)


def test_all_attributes_where_all_are_taken():
    assert xforward(ALL, SESSION, "auto") == [
        b"XFORWARD NAME=[UNAVAILABLE] ADDR=192.0.2.1 PORT=4321 PROTO=ESMTP HELO=c.example SOURCE=REMOTE"
    ]


def test_only_what_is_offered():
    assert xforward({"XFORWARD": "addr helo"}, SESSION, "auto") == [b"XFORWARD ADDR=192.0.2.1 HELO=c.example"]
    assert xforward({"XFORWARD": ""}, SESSION, "auto") == []
    assert xforward({"XFORWARD": "IDENT"}, SESSION, "xforward") == []


def test_nothing_where_it_is_unknown_or_unwanted():
    assert xforward({}, SESSION, "auto") == []
    assert xforward(ALL, SESSION, "none") == []


def test_ipv6_and_smtp():
    plain = replace(session(client_address="2001:db8::1"), esmtp=False)
    (command,) = xforward({"XFORWARD": "ADDR PROTO"}, plain, "auto")
    assert command == b"XFORWARD ADDR=IPV6:2001:db8::1 PROTO=SMTP"


def test_long_names_are_spread_over_lines():
    long = replace(SESSION, client_name="n" * 450, helo_name="=" * 164)
    commands = xforward(ALL, long, "auto")
    assert len(commands) == 3
    assert all(len(command) <= 510 and command.startswith(b"XFORWARD ") for command in commands)


@pytest.mark.parametrize(
    ("text", "encoded"),
    [("c.example", "c.example"), ("a+b=c", "a+2Bb+3Dc"), ("a b\r\n", "a+20b+0D+0A"), ("\xe9", "+C3+A9")],
)
def test_xtext(text: str, encoded: str):
    assert xtext(text) == encoded
