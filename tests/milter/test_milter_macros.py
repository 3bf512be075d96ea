"""What an MTA says of its client and of itself, by arguments and by macros that may be missing."""

import pytest

from gateway.milter.macros import (
    AT_CONNECT,
    AT_END,
    AT_HELO,
    AT_MAIL,
    AT_RCPT,
    address_meant,
    session_of,
    with_security,
    without_route,
)
from gateway.smtp.session import MTA, TLS

LISTENER = "unix:/run/milter"
ADDRESS = ("192.0.2.1", 25_000)


@pytest.mark.parametrize(
    ("name", "macros", "expected"),
    [
        ("c.example", {}, "c.example"),
        ("c.example", {"{client_resolve}": "OK"}, "c.example"),
        ("c.example", {"{client_resolve}": "FORGED"}, None),
        ("c.example", {"{client_resolve}": "FAIL"}, None),
        ("c.example", {"{client_resolve}": "TEMP"}, None),
        ("c.example", {"{client_resolve}": ""}, None),
        ("[192.0.2.1]", {}, None),
        ("[192.0.2.1]", {"{client_resolve}": "OK"}, None),
        ("[2001:db8::1]", {}, None),
        ("[IPv6:2001:db8::1]", {}, None),
        ("unknown", {}, None),
        ("unknown.example", {}, "unknown.example"),
        ("localhost", {}, "localhost"),
    ],
)
def test_a_clients_name_is_one_that_leads_back(name: str, macros: dict[str, str], expected: str | None):
    assert session_of(LISTENER, name, ADDRESS, macros.get).client_name == expected


@pytest.mark.parametrize(
    ("address", "host", "port"),
    [
        (("192.0.2.1", 25), "192.0.2.1", 25),
        (("192.0.2.1", 0), "192.0.2.1", 0),
        (("2001:db8::1", 25), "2001:db8::1", 25),
        (("::ffff:192.0.2.1", 25), "192.0.2.1", 25),
        (("fe80::1%eth0", 25), "fe80::1", 25),
        # Handed in on the MTA's own machine.
        (None, "127.0.0.1", 0),
    ],
)
def test_a_client_has_an_address(address: tuple[str, int] | None, host: str, port: int):
    session = session_of(LISTENER, "c.example", address, {}.get)
    assert (str(session.client_address), session.client_port) == (host, port)
    assert session.listener == LISTENER


@pytest.mark.parametrize("host", ["", "unknown", "192.0.2.256", "[192.0.2.1]"])
def test_what_is_no_address_is_not_taken_for_one(host: str):
    with pytest.raises(ValueError, match="does not appear to be"):
        session_of(LISTENER, "c.example", (host, 25), {}.get)


@pytest.mark.parametrize(
    ("macros", "mta"),
    [
        ({}, MTA("", "")),
        ({"j": "mx.example"}, MTA("mx.example", "")),
        ({"j": "mx.example", "{daemon_name}": "submission"}, MTA("mx.example", "submission")),
    ],
)
def test_who_asks(macros: dict[str, str], mta: MTA):
    session = session_of(LISTENER, "c.example", ADDRESS, macros.get)
    assert session.mta == mta
    assert (session.helo_name, session.tls, session.authenticated) == (None, None, None)


@pytest.mark.parametrize(
    ("macros", "tls", "login"),
    [
        ({}, None, None),
        ({"{auth_authen}": "anna@example.net"}, None, "anna@example.net"),
        ({"{auth_authen}": ""}, None, None),
        ({"{tls_version}": "TLSv1.3", "{cipher}": "X"}, TLS("TLSv1.3", "X"), None),
        ({"{tls_version}": "TLSv1.3"}, TLS("TLSv1.3", ""), None),
        ({"{cipher}": "X"}, None, None),
        ({"{tls_version}": "", "{cipher}": "X"}, None, None),
    ],
)
def test_encryption_and_login(macros: dict[str, str], tls: TLS | None, login: str | None):
    session = with_security(session_of(LISTENER, "c.example", ADDRESS, {}.get), macros.get)
    assert (session.tls, session.authenticated) == (tls, login)


def test_what_was_known_and_is_not_any_more_is_forgotten():
    plain = session_of(LISTENER, "c.example", ADDRESS, {}.get)
    known = with_security(plain, {"{auth_authen}": "anna", "{tls_version}": "TLSv1.3"}.get)
    assert with_security(known, {}.get) == plain


@pytest.mark.parametrize("names", [AT_CONNECT, AT_HELO, AT_MAIL, AT_RCPT, AT_END])
def test_libmilter_takes_as_many_names_for_a_step(names: str):
    assert 1 <= len(names.split()) <= 5


MX = MTA("mx.example", "")


@pytest.mark.parametrize(
    ("address", "known_as", "mta", "expected"),
    [
        # What is clear is taken by its word: case, quotes, tags and all.
        (b"A@Example.com", "b@example.com", MX, b"A@Example.com"),
        (b'"a b"@example.com', "a b@example.com", MX, b'"a b"@example.com'),
        (b"a@[192.0.2.1]", "a@mx.example", MX, b"a@[192.0.2.1]"),
        (b"@x.example:a@example.com", "a@example.com", MX, b"@x.example:a@example.com"),
        (b"", "MAILER-DAEMON", MX, b""),
        (b"a@ex%mple.com", "b@example.com", MX, b"a@ex%mple.com"),
        # What an MTA rewrites is what it makes of it.
        (b"a%example.com", "a@example.com", MX, b"a@example.com"),
        (b"example.com!a", "a@example.com", MX, b"a@example.com"),
        (b"a%example.com@mx.example", "a@example.com", MX, b"a@example.com"),
        (b"example.com!a@mx.example", "a@example.com", MX, b"a@example.com"),
        (b"a", "a@our.example", MX, b"a@our.example"),
        (b"j\xc3\xbcrgen", "j\xfcrgen@our.example", MX, b"j\xc3\xbcrgen@our.example"),
        (b"@x.example:a%example.com", "a@example.com", MX, b"a@example.com"),
        (b"@x.example:a", "a@our.example", MX, b"a@our.example"),
        (b"a%example.com", "a@example.com", None, b"a@example.com"),
        # It does not say so, or nothing that is an address.
        (b"a", None, MX, b"a@mx.example"),
        (b"a", "a", MX, b"a@mx.example"),
        (b"a", "a b@example.com", MX, b"a@mx.example"),
        (b"a", "", MTA("", ""), b"a@"),
        (b"a", None, None, b"a"),
        (b"a%example.com", None, MX, b"a%example.com"),
        (b"a%example.com", "a%example.com", MX, b"a%example.com"),
        (b"example.com!a", None, MX, b"example.com!a"),
        (b"a%example.com@mx.example", None, MX, b"a%example.com@mx.example"),
    ],
)
def test_an_address_is_what_the_mta_makes_of_it(
    address: bytes, known_as: str | None, mta: MTA | None, expected: bytes
):
    assert address_meant(address, known_as, mta) == expected


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        (b"a@example.com", b"a@example.com"),
        (b"@x.example:a@example.com", b"a@example.com"),
        (b"@x.example,@y.example:a@example.com", b"a@example.com"),
        (b"@x.example:a%example.com", b"a%example.com"),
        (b"a%example.com", b"a%example.com"),
        (b'"@x:a"@example.com', b'"@x:a"@example.com'),
        (b"a", b"a"),
        (b"", b""),
    ],
)
def test_an_mta_does_not_keep_a_source_route(address: bytes, expected: bytes):
    assert without_route(address) == expected
