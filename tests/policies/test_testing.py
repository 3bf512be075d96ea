"""The builders that policy authors test with: they build what the gateway would pass."""

import pytest

from gateway.smtp.address import NULL_PATH, PathError
from gateway.smtp.envelope import Envelope
from gateway.smtp.message import Content
from gateway.smtp.transaction import Transaction
from policies import Listings, SpamReport, Stage, VirusReport
from policies.testing import MemoryContent, evidence, message, session, transaction


@pytest.mark.parametrize("stage", Stage)
def test_what_comes_later_in_the_dialogue_is_not_there(stage: Stage):
    tx = transaction(stage=stage)
    assert tx.stage is stage
    assert (tx.envelope is None) is stage.is_before(Stage.MAIL)
    assert (tx.message is None) is stage.is_before(Stage.END_OF_DATA)


def test_only_rcpt_has_a_recipient_in_question():
    assert str(transaction(stage=Stage.RCPT, recipient="a@b.example").envelope.recipient) == "a@b.example"
    assert transaction(stage=Stage.END_OF_DATA).envelope.recipient is None


def test_mail_has_no_recipients_yet():
    assert transaction(stage=Stage.MAIL).envelope.recipients == ()


def test_every_fact_can_be_given():
    tx = transaction(
        session=session(client_address="2001:db8::1", helo_name=None, authenticated="anna"),
        reverse_path="",
        recipients=["postmaster", "a@b.example"],
        parameters={"SIZE": "10"},
        message=message(header={"Subject": "Grüße"}, body="x"),
        trace=b"Received: x\r\n",
    )
    assert (tx.session.client_address.version, tx.session.authenticated) == (6, "anna")
    assert tx.envelope.reverse_path is NULL_PATH
    assert [str(each) for each in tx.envelope.recipients] == ["postmaster", "a@b.example"]
    assert tx.envelope.parameters == {"SIZE": "10"}
    assert (tx.message.header("subject"), tx.message.header("from")) == ("Grüße", None)
    assert tx.trace == b"Received: x\r\n"


def test_an_address_may_be_beyond_ascii():
    tx = transaction(reverse_path="jürgen@bücher.example", recipients=["ü@example.com"])
    assert (tx.envelope.reverse_path.local_part, tx.envelope.reverse_path.domain) == (
        "jürgen",
        "bücher.example",
    )
    assert [str(recipient) for recipient in tx.envelope.recipients] == ["ü@example.com"]


@pytest.mark.parametrize("text", ["a", "a@b@c", "a@b> x", "a\r\n@b", "ü＠b"])
def test_what_is_no_address_is_refused(text: str):
    with pytest.raises(PathError):
        transaction(recipients=[text])
    with pytest.raises(PathError):
        transaction(reverse_path=text)


def test_content_can_be_any_octets():
    octets = bytes(range(256)) * 1000
    built = message(content=octets)
    content: Content = MemoryContent(octets)
    assert (built.size, built.digest) == (256_000, content.digest)
    assert (content.head(3), b"".join(content.chunks(255_999))) == (b"\x00\x01\x02", b"\xff")
    assert max(map(len, content.chunks())) == 65_536
    assert b"".join(content.chunks()) == octets


def test_evidence_holds_the_findings_by_type():
    found = evidence(SpamReport(3.0), VirusReport("x"))
    assert (found[SpamReport].score, found[VirusReport].signature) == (3.0, "x")
    assert Listings not in found


def test_what_is_built_is_what_the_gateway_builds():
    assert transaction(stage=Stage.CONNECT) == Transaction(Stage.CONNECT, session())
    path = transaction(stage=Stage.MAIL).envelope
    assert path == Envelope(path.reverse_path)
