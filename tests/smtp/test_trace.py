"""The Received field: whatever a client claims, it says who really came."""

import re
from datetime import UTC, datetime, timedelta, timezone
from email import message_from_bytes, policy
from email.utils import parsedate_to_datetime
from ipaddress import IPv6Address, ip_address
from types import MappingProxyType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.smtp.address import NULL_PATH, Path, PathError, parse_address
from gateway.smtp.command import Parameters
from gateway.smtp.envelope import Envelope
from gateway.smtp.header import split_fields
from gateway.smtp.session import TLS, Session
from gateway.smtp.trace import received_field
from policies.testing import session

WHEN = datetime(2026, 11, 24, 9, 30, tzinfo=UTC)
ANNA = Path("anna", "our.example")
UTF8 = {"SMTPUTF8": None}

# RFC 5321 section 4.4, as far as we write it.
RECEIVED = re.compile(
    r"Received: from (?P<helo>[!-~]+) \((?P<name>[!-~]+) \[(?P<address>[0-9a-fA-F:.IPv]+)\]\)"
    r" by (?P<by>\S+) \(Sluicegate\) with (?P<protocol>(?:E|UTF8)?SMTPS?A?) id (?P<id>[0-9A-Z-]+)"
    r"(?: for <(?P<recipient>.+)>)?; (?P<date>[^;]+)\r\n"
)


def field(
    sender: Session,
    *recipients: Path,
    hostname: str = "mx.our.example",
    when: datetime = WHEN,
    parameters: Parameters = MappingProxyType({}),
) -> bytes:
    envelope = Envelope(NULL_PATH, recipients, parameters=parameters)
    return received_field(sender, hostname, "7K3F-Q2MD", envelope, when)


def parts(octets: bytes) -> dict[str, str]:
    found = RECEIVED.fullmatch(octets.decode().replace("\r\n\t", " "))
    assert found is not None, octets
    return found.groupdict()


def test_the_whole_field():
    assert field(session(client_name="client.example.net"), ANNA) == (
        b"Received: from client.example.net (client.example.net [192.0.2.1])\r\n"
        b"\tby mx.our.example (Sluicegate) with ESMTP id 7K3F-Q2MD\r\n"
        b"\tfor <anna@our.example>;\r\n"
        b"\tTue, 24 Nov 2026 09:30:00 +0000\r\n"
    )


@pytest.mark.parametrize(
    ("esmtp", "tls", "authenticated", "protocol"),
    [
        (False, None, None, "SMTP"),
        (True, None, None, "ESMTP"),
        (True, TLS("TLSv1.3", "x"), None, "ESMTPS"),
        (True, None, "anna", "ESMTPA"),
        (True, TLS("TLSv1.3", "x"), "anna", "ESMTPSA"),
    ],
)
def test_the_protocol_has_the_name_of_rfc_3848(
    esmtp: bool, tls: TLS | None, authenticated: str | None, protocol: str
):
    assert parts(field(session(esmtp=esmtp, tls=tls, authenticated=authenticated)))["protocol"] == protocol


@pytest.mark.parametrize(
    ("esmtp", "tls", "authenticated", "protocol"),
    [
        (True, None, None, "UTF8SMTP"),
        (True, TLS("TLSv1.3", "x"), None, "UTF8SMTPS"),
        (True, None, "anna", "UTF8SMTPA"),
        (True, TLS("TLSv1.3", "x"), "anna", "UTF8SMTPSA"),
        (False, None, None, "SMTP"),
    ],
)
def test_with_smtputf8_it_has_the_name_of_rfc_6531(
    esmtp: bool, tls: TLS | None, authenticated: str | None, protocol: str
):
    octets = field(session(esmtp=esmtp, tls=tls, authenticated=authenticated), parameters=UTF8)
    assert parts(octets)["protocol"] == protocol


def test_an_address_beyond_ascii_is_named_where_utf_8_was_agreed_on():
    recipient = Path("jürgen", "bücher.example")
    assert b"\r\n\tfor <j\xc3\xbcrgen@b\xc3\xbccher.example>;" in field(session(), recipient, parameters=UTF8)
    assert parts(field(session(), recipient))["recipient"] is None


@pytest.mark.parametrize(
    ("address", "literal"),
    [("192.0.2.1", "192.0.2.1"), ("2001:db8::1", "IPv6:2001:db8::1")],
)
def test_the_address_is_a_literal(address: str, literal: str):
    assert parts(field(session(client_address=address)))["address"] == literal


def test_who_did_not_say_a_name_is_unknown():
    found = parts(field(session(helo_name=None)))
    assert (found["helo"], found["name"]) == ("unknown", "unknown")


@pytest.mark.parametrize("recipients", [(), (ANNA, Path("ben", "our.example")), (Path("postmaster", ""),)])
def test_one_recipient_is_named_and_several_are_not(recipients: tuple[Path, ...]):
    assert parts(field(session(), *recipients))["recipient"] is None


@pytest.mark.parametrize(
    "claimed",
    [
        "x)(y;z (h [203.0.113.1]) by evil",
        "[203.0.113.1]",
        "a\x0bX-Inj: 1",
        "a\x1cX-Inj: 1",
        "a\r\nX-Inj: 1\r\n\r\nbody",
        "a\x85X: 1",
        "a\u2028X: 1",
        'h") evil',
        "\\",
        "a" * 255,
        "",
    ],
)
def test_no_name_can_say_more_than_a_name(claimed: str):
    for sender in (session(helo_name=claimed), session(client_name=claimed)):
        octets = field(sender, ANNA)
        assert parts(octets)["address"] == "192.0.2.1"
        assert_is_one_field(octets)


def test_the_time_is_local_time_with_its_offset():
    when = datetime(2026, 7, 1, 12, 0, tzinfo=timezone(timedelta(hours=2)))
    assert parts(field(session(), when=when))["date"] == "Wed, 01 Jul 2026 12:00:00 +0200"


# Invariants

addresses = st.one_of(st.ip_addresses(v=4), st.ip_addresses(v=6))
names = st.one_of(st.none(), st.text(max_size=255), st.text(alphabet=' ()[];<>\\"\r\n\t@,.:by', max_size=40))
offsets = st.integers(-14 * 60, 14 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes)))
times = st.integers(0, 4_000_000_000).flatmap(
    lambda seconds: offsets.map(lambda offset: datetime.fromtimestamp(seconds, offset))
)


@given(addresses, names, names, times)
def test_the_field_parses_back_to_what_happened(address, helo_name, client_name, when):
    sender = Session(address, 25, "x", client_name, helo_name)
    octets = field(sender, ANNA, when=when)
    found = parts(octets)
    said = found["address"].removeprefix("IPv6:")
    assert ip_address(said) == address
    assert found["address"].startswith("IPv6:") is isinstance(address, IPv6Address)
    assert found["recipient"] == "anna@our.example"
    assert parsedate_to_datetime(found["date"]) == when
    assert_is_one_field(octets)


@given(
    st.from_regex(rb'\A"(?:[ !#-\[\]-~]|\\[ -~]){0,60}"\Z').map(
        lambda quoted: Path(quoted.decode(), "our.example")
    )
)
def test_any_recipient_stays_in_its_place(recipient: Path):
    octets = field(session(), recipient)
    assert parts(octets)["recipient"] == str(recipient)
    assert_is_one_field(octets)


@given(st.text(max_size=30))
def test_no_address_beyond_ascii_ends_its_line(local_part: str):
    try:
        recipient = parse_address(f"{local_part}@our.example")
    except PathError:
        return
    octets = field(session(), recipient, parameters=UTF8)
    assert parts(octets)["recipient"] == str(recipient)
    assert_is_one_field(octets)


def assert_is_one_field(octets: bytes) -> None:
    """By our parser, by Python's two, and for whoever splits lines."""
    assert [(each.name, each.end) for each in split_fields(octets + b"\r\n")] == [("received", len(octets))]
    for reader in (policy.compat32, policy.SMTP):
        assert message_from_bytes(octets + b"\r\nbody", policy=reader).keys() == ["Received"]
    first, *others = octets.decode().splitlines()
    assert first.startswith("Received: ")
    assert all(line.startswith("\t") for line in others)
