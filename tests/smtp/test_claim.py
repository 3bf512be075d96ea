"""XCLIENT and XFORWARD attributes: what they make of a session, and what is not believed."""

from dataclasses import replace
from ipaddress import ip_address

import pytest

from gateway.smtp.claim import XCLIENT, XFORWARD, claimed, is_host_name, parse_xclient, parse_xforward
from gateway.smtp.command import CommandError
from policies.testing import session

PEER = session(client_address="127.0.0.1", client_port=50_000, helo_name=None, esmtp=False)


def after(argument: bytes, before=PEER, parse=parse_xclient):
    return claimed(before, PEER, parse(argument))


def test_a_whole_client():
    argument = b"NAME=c.example ADDR=203.0.113.9 PORT=1234 PROTO=ESMTP HELO=helo.example LOGIN=anna"
    assert after(argument) == replace(
        PEER,
        client_name="c.example",
        client_address=ip_address("203.0.113.9"),
        client_port=1234,
        esmtp=True,
        helo_name="helo.example",
        authenticated="anna",
    )
    assert after(argument + b" DESTADDR=192.0.2.1 DESTPORT=25") == after(argument)


@pytest.mark.parametrize(
    ("value", "address"),
    [
        (b"IPV6:2001:db8::9", "2001:db8::9"),
        (b"ipv6:2001:db8::9", "2001:db8::9"),
        (b"IPV6:::ffff:203.0.113.9", "203.0.113.9"),
        (b"[UNAVAILABLE]", "127.0.0.1"),
        (b"[tempunavail]", "127.0.0.1"),
    ],
)
def test_addresses(value: bytes, address: str):
    assert after(b"ADDR=" + value).client_address == ip_address(address)


def test_an_address_brings_another_client():
    first = after(b"ADDR=203.0.113.9 PORT=1234 NAME=c.example LOGIN=anna HELO=helo.example")
    second = after(b"ADDR=203.0.113.10", first)
    assert (second.client_port, second.client_name, second.authenticated) == (0, None, None)
    assert second.helo_name is None
    assert after(b"ADDR=[UNAVAILABLE]", first) == PEER


def test_no_address_adds_to_the_client_that_is_known():
    first = after(b"ADDR=203.0.113.9 PORT=1234 NAME=c.example LOGIN=anna")
    assert after(b"HELO=helo.example", first) == replace(first, helo_name="helo.example")
    assert after(b"LOGIN=[UNAVAILABLE]", first) == replace(first, authenticated=None)
    assert after(b"name=[UNAVAILABLE] port=[UNAVAILABLE]", first).client_name is None


@pytest.mark.parametrize(
    "name",
    [b"127.0.0.1", b"h+22)+20evil", b"-x.example", b"x..example", b"a" * 64, b"a." * 127 + b"a", b"+C3+A9"],
)
def test_what_cannot_be_a_name_is_as_good_as_none(name: bytes):
    assert after(b"NAME=" + name).client_name is None


@pytest.mark.parametrize("name", ["localhost", "a_b.example", "1.example", "x--y.example", "a." * 126 + "a"])
def test_what_is_a_host_name(name: str):
    assert is_host_name(name)


@pytest.mark.parametrize(
    "argument",
    [
        *(b"", b"NAME", b"NAME=", b"=x", b"NAME=a NAME=b", b"NAME=a  ADDR=192.0.2.1", b"FOO=1", b"NAME=a=b"),
        *(
            b"NAME=a+0D+0AMAIL",
            b"HELO=b+00c",
            b"LOGIN=+0D+0A",
            b"LOGIN=a+7F",
            b"LOGIN=+C2+85",
            b"HELO=+E2+80+A8",
        ),
        *(b"NAME=+", b"NAME=+4", b"NAME=+4a", b"NAME=\xe9", b"LOGIN=" + b"a" * 256),
        *(b"ADDR=x", b"ADDR=192.0.2", b"ADDR=192.0.2.01", b"ADDR=2001:db8::1", b"ADDR=IPV6:192.0.2.1"),
        *(b"ADDR=IPV6:fe80::1%25eth0", b"ADDR=[192.0.2.1]", b"DESTADDR=x"),
        *(b"PORT=x", b"PORT=65536", b"PORT=01", b"PORT=-1", b"PORT=+31+31+31+31+31+31", b"PROTO=HTTP"),
        *(b"SOURCE=LOCAL", b"IDENT=x"),
    ],
)
def test_what_is_malformed_counts_for_nothing(argument: bytes):
    with pytest.raises(CommandError) as refused:
        parse_xclient(b"HELO=x " + argument if argument.startswith(b"NAME") else argument)
    assert (refused.value.reply.code, refused.value.reply.status) == (501, "5.5.4")


def test_xforward_has_attributes_of_its_own():
    argument = (
        b"NAME=c.example ADDR=203.0.113.9 PORT=1234 PROTO=SMTP HELO=h+20x+C3+A9 IDENT=4c1 SOURCE=REMOTE"
    )
    client = after(argument, parse=parse_xforward)
    assert (client.esmtp, client.helo_name, client.client_port) == (False, "h?x?", 1234)
    assert after(b"PROTO=UTF8SMTP", parse=parse_xforward).esmtp is False
    assert after(b"PROTO=ESMTPSA", parse=parse_xforward).esmtp is True
    assert len(after(b"HELO=" + b"h" * 1000, parse=parse_xforward).helo_name or "") == 255
    with pytest.raises(CommandError):
        parse_xforward(b"LOGIN=anna")


def test_what_is_offered_is_what_is_taken():
    assert XCLIENT == "XCLIENT NAME ADDR PORT PROTO HELO LOGIN DESTADDR DESTPORT"
    assert XFORWARD == "XFORWARD NAME ADDR PORT PROTO HELO IDENT SOURCE"
