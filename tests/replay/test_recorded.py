"""What is rebuilt from a record, and what is not there."""

from dataclasses import dataclass
from ipaddress import IPv4Address, ip_address
from typing import Any

import pytest

from filters.evidence import Finding, Listings, Skipped, SpamReport, Unavailable, VirusReport
from gateway.journal.record import ClientRecord, MessageRecord, decode, encode
from gateway.replay.recorded import NotRecorded, Rebuilt, RecordedMessage, outcome
from gateway.smtp.address import parse_address
from gateway.smtp.session import TLS
from gateway.smtp.transaction import Stage
from tests.replay.judging import record

FIELDS: dict[str, list[str] | None] = {"list-id": ["one", "two"], "x-none": [], "x-long": None}


@dataclass(frozen=True, slots=True)
class Origin(Finding):
    """Plain and not so plain values."""

    address: IPv4Address
    ports: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Sourced(Finding):
    """A field that a record has for something else."""

    source: str = "somewhere"


def message(**known: Any) -> RecordedMessage:
    return RecordedMessage(MessageRecord(**{"size": 10, "digest": "ab", "fields": FIELDS, **known}))


def test_a_message_has_what_is_recorded_of_it():
    found = message(subject="Hello", from_="A <a@example.net>", message_id="<1@example.net>")
    assert (found.size, found.digest) == (10, "ab")
    assert [found.header(name) for name in ("Subject", "FROM", "message-id")] == [
        "Hello",
        "A <a@example.net>",
        "<1@example.net>",
    ]
    assert (found.header("List-ID"), found.headers("list-id")) == ("one", ("one", "two"))
    assert (found.header("X-None"), found.headers("X-None"), found.raw_header("x-none")) == (None, (), None)
    assert (message().header("Subject"), message().headers("Subject")) == (None, ())


def test_a_message_has_nothing_else():
    found = message(subject="a" * 1000, from_="a")
    for ask in (
        lambda: found.header("X-Other"),
        lambda: found.header("X-Long"),
        lambda: found.raw_header("List-Id"),
        lambda: found.header("Subject"),  # as long as a record has it, so perhaps longer
        lambda: found.headers("From"),  # the record has the first one
        lambda: found.fields,
        lambda: found.content,
        lambda: found.border,
        lambda: found.is_all_header,
    ):
        with pytest.raises(NotRecorded):
            ask()


def test_more_than_the_first_field_is_known_where_it_was_asked_for():
    found = message(subject="one", fields={"subject": ["one", "two"]})
    assert found.headers("Subject") == ("one", "two")


@pytest.mark.parametrize(
    ("kind", "recorded", "found"),
    [
        (SpamReport, {"score": 9, "threshold": 5.0, "rules": ["A"]}, SpamReport(9.0, 5.0, ("A",))),
        (VirusReport, {"signature": None}, VirusReport()),
        (VirusReport, {"signature": "Eicar", "age": 3.5, "joined": True}, VirusReport("Eicar")),
        (Listings, {"total": 1.0, "zones": {"z": ["127.0.0.2"]}}, Listings(1.0, {"z": ("127.0.0.2",)})),
        (Origin, {"address": "192.0.2.9", "ports": [1, 2]}, Origin(IPv4Address("192.0.2.9"), (1, 2))),
        (VirusReport, {"unavailable": "refused"}, Unavailable("it", "refused")),
        (VirusReport, {"skipped": "too large"}, Skipped("it", "too large")),
        (VirusReport, {"signature": None, "of_later": 1}, VirusReport()),
    ],
)
def test_evidence_is_what_it_was(kind: type[Finding], recorded: dict[str, Any], found: object):
    assert outcome(kind, {kind.__name__: {**recorded, "source": "it", "elapsed": 0.1}}) == found


@pytest.mark.parametrize(
    ("kind", "evidence", "cause"),
    [
        (VirusReport, {}, "VirusReport: no filter was asked for it"),
        (SpamReport, {"score": 1.0, "threshold": 5.0}, "SpamReport: the record has no rules"),
        (SpamReport, {"score": "1", "threshold": 5.0, "rules": []}, "SpamReport: Expected `float`"),
        (Origin, {"address": "nowhere", "ports": []}, "Origin: Expected 4 octets"),
        (Sourced, {"source": "it"}, "Sourced: its fields have names"),
    ],
)
def test_evidence_that_is_not_all_there_is_none(kind: type[Finding], evidence: dict[str, Any], cause: str):
    with pytest.raises(NotRecorded, match=cause):
        outcome(kind, {kind.__name__: evidence} if evidence else {})


def test_the_session_is_what_it_was_at_each_stage():
    client = ClientRecord(
        "2001:db8::1", 25, "mail.example.net", "helo.example.net", "TLSv1.3", None, "A-CIPHER", "ESMTP"
    )
    rebuilt = Rebuilt(record(client=client))
    connect, helo, mail = (
        rebuilt.transaction(stage).session for stage in (Stage.CONNECT, Stage.HELO, Stage.MAIL)
    )
    assert (connect.client_address, connect.client_name) == (ip_address("2001:db8::1"), "mail.example.net")
    assert (connect.helo_name, connect.esmtp) == (None, False)
    with pytest.raises(NotRecorded):
        _ = connect.tls
    assert (helo.helo_name, helo.esmtp, helo.tls) == ("helo.example.net", True, TLS("TLSv1.3", "A-CIPHER"))
    assert helo == mail


def test_a_login_is_known_from_mail_on():
    client = ClientRecord("192.0.2.1", 25, helo="a.example.net", authenticated="anna", protocol="SMTP")
    rebuilt = Rebuilt(record(client=client))
    assert rebuilt.transaction(Stage.MAIL).session.authenticated == "anna"
    with pytest.raises(NotRecorded):
        _ = rebuilt.transaction(Stage.HELO).session.authenticated


def test_what_older_records_do_not_have_is_not_there():
    client = ClientRecord("192.0.2.1", 25, helo="a.example.net", tls="TLSv1.2")
    tx = Rebuilt(record(client=client, parameters=None)).transaction(Stage.MAIL)
    assert tx.session.tls is not None
    assert (tx.session.helo_name, tx.session.tls.version) == ("a.example.net", "TLSv1.2")
    for ask in (
        lambda: tx.session.esmtp,
        lambda: tx.session.lmtp,
        lambda: tx.session.tls.cipher,
        lambda: tx.envelope.parameters,
        lambda: tx.envelope.is_internationalized,
    ):
        with pytest.raises(NotRecorded):
            ask()


def test_the_envelope_is_what_it_was_at_each_stage():
    rebuilt = Rebuilt(record(reverse_path="<>", parameters={"SIZE": "1", "SMTPUTF8": None}))
    mail = rebuilt.transaction(Stage.MAIL).envelope
    assert (mail.reverse_path.is_null, mail.parameters["SIZE"], mail.recipients) == (True, "1", ())
    assert mail.is_internationalized
    [recipient] = rebuilt.recipients
    rcpt = rebuilt.transaction(Stage.RCPT, recipient, None).envelope
    assert rcpt.recipient == parse_address("b@example.com")
    for ask in (lambda: rcpt.recipients, lambda: rcpt.recipient_parameters):
        with pytest.raises(NotRecorded):
            ask()
    end = rebuilt.transaction(Stage.END_OF_DATA, None, rebuilt.recipients)
    assert (end.envelope.recipients, end.envelope.recipient) == (rebuilt.recipients, None)
    with pytest.raises(NotRecorded):
        _ = end.trace


def test_a_record_that_had_to_be_cut_says_so():
    unsayable = record(detail="\udc80")
    assert decode(encode(unsayable)).cut
    assert not decode(encode(record())).cut
