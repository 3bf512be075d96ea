"""What the recorder writes so that a record can be judged again."""

from gateway.casefile import CaseFile
from gateway.journal.record import Record, decode, encode
from gateway.recorder import Event, Recorder
from gateway.scanning import RecordCatcher
from gateway.smtp.message import Message
from gateway.smtp.reply import Reply
from gateway.smtp.session import TLS
from gateway.smtp.transaction import Stage, Transaction
from policies.testing import message, session, transaction


def recorded(tx: Transaction) -> Record:
    """The record of an accepted message, as it comes back from the journal."""
    catcher = RecordCatcher()
    event = Event(
        session=tx.session, case=CaseFile(), spoken="end-of-data", envelope=tx.envelope, message=tx.message
    )
    Recorder(catcher, "mx.test").accepted(event, "7K3F-Q2MD", Reply.of(250, "2.0.0", "Ok"))
    [record] = catcher.records
    return decode(encode(record))


def fields_of(asked: Message) -> dict[str, list[str] | None]:
    record = recorded(transaction(message=asked))
    assert record.message is not None
    return record.message.fields


def test_header_fields_that_were_asked_for_are_kept():
    header = b"Subject: a\r\nList-Id: 1\r\nList-ID:\r\n =?utf-8?q?=C3=BC?=\r\nX-More: b\r\n"
    asked = message(content=header + b"\r\n")
    assert fields_of(asked) == {}
    asked.header("LIST-ID")
    asked.raw_header("X-None")
    assert fields_of(asked) == {"list-id": ["1", "ü"], "x-none": []}


def test_a_field_is_kept_wholly_or_not_at_all():
    lines = [f"A: {'x' * 1000}", f"B: {'x' * 1001}", *["C: 1"] * 16, *["D: 1"] * 17]
    asked = message(content="\r\n".join(lines).encode())
    for name in "abcd":
        asked.header(name)
    assert fields_of(asked) == {"a": ["x" * 1000], "b": None, "c": ["1"] * 16, "d": None}


def test_no_more_than_some_names_are_kept():
    asked = message(content=b"")
    asked.header("n" * 101)
    for number in range(100):
        asked.header(f"X-{number}")
    assert list(fields_of(asked)) == [f"x-{number}" for number in range(32)]


def test_what_the_client_said_is_kept():
    client = session(tls=TLS("TLSv1.3", "A-CIPHER"), esmtp=False)
    record = recorded(transaction(session=client, parameters={"SIZE": "1", "SMTPUTF8": None}))
    assert (record.client.tls, record.client.cipher) == ("TLSv1.3", "A-CIPHER")
    assert record.client.protocol == "SMTP"
    assert record.parameters == {"SIZE": "1", "SMTPUTF8": None}
    early = recorded(Transaction(Stage.CONNECT, session(helo_name=None)))
    assert (early.client.cipher, early.client.protocol, early.parameters) == (None, None, None)
