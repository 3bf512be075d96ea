"""`blocked_*` and `allowed_*`: who is on a list, and what that means for whom."""

import pytest

from policies import FileSet, Networks, Policy, Stage, Transaction, Verdict
from policies.allowed_clients import allowed_clients
from policies.allowed_recipients import allowed_recipients
from policies.allowed_senders import allowed_senders
from policies.blocked_clients import blocked_clients
from policies.blocked_recipients import blocked_recipients
from policies.blocked_senders import blocked_senders
from policies.testing import evidence, session, transaction
from policies.verdict import Decision


def sent_by(sender: str, client: str = "192.0.2.1", login: str | None = None) -> Transaction:
    return transaction(
        stage=Stage.MAIL,
        session=session(client_address=client, authenticated=login),
        reverse_path=sender,
    )


def sent_to(recipient: str) -> Transaction:
    return transaction(stage=Stage.RCPT, recipient=recipient)


def connected(client: str) -> Transaction:
    return transaction(stage=Stage.CONNECT, session=session(client_address=client))


ADDRESSES = [
    ("anna@example.net", "anna@example.net", True),
    ("anna@example.net", "ANNA@Example.NET", True),
    ("Anna@Example.net", "anna@example.net", True),
    ("anna@example.net", "berta@example.net", False),
    ("@example.net", "anna@example.net", True),
    ("example.net", "anna@example.net", True),
    ("@example.net", "anna@sub.example.net", False),
    ("example.net", "anna@sub.example.net", False),
    ("@.example.net", "anna@sub.example.net", True),
    (".example.net", "anna@a.b.example.net", True),
    ("@.example.net", "anna@example.net", False),
    ("@example.net", "anna@notexample.net", False),
    ("@bücher.example", "anna@xn--bcher-kva.example", True),
    ("anna", "anna@example.net", False),
]
CLIENTS = [
    ("192.0.2.1", "192.0.2.1", True),
    ("192.0.2.1", "192.0.2.2", False),
    ("192.0.2.0/24", "192.0.2.200", True),
    ("192.0.2.0/24", "::ffff:192.0.2.200", True),
    ("192.0.2.0/24", "192.0.3.1", False),
    ("2001:db8::/32", "2001:db8::1", True),
    ("192.0.2.0/24", "2001:db8::1", False),
]


@pytest.mark.parametrize(("entry", "address", "is_listed"), ADDRESSES)
@pytest.mark.parametrize(
    ("policy", "option", "tx"),
    [
        (blocked_senders, "senders", sent_by),
        (allowed_senders, "senders", sent_by),
        (blocked_recipients, "recipients", sent_to),
        (allowed_recipients, "recipients", sent_to),
    ],
    ids=["blocked_senders", "allowed_senders", "blocked_recipients", "allowed_recipients"],
)
def test_mailboxes_and_domains(policy: Policy, option: str, tx, entry: str, address: str, is_listed: bool):
    verdict = policy(tx(address), evidence(), **{option: FileSet.of("other@example.org", entry)})
    assert (verdict is not None) == is_listed
    assert policy(tx(address), evidence()) is None
    if verdict:
        assert verdict.detail == f"{address} is in {option} by {entry.lower()}"


@pytest.mark.parametrize(("entry", "address", "is_listed"), CLIENTS)
@pytest.mark.parametrize("policy", [blocked_clients, allowed_clients], ids=["blocked", "allowed"])
def test_clients(policy: Policy, entry: str, address: str, is_listed: bool):
    verdict = policy(connected(address), evidence(), clients=FileSet.of("198.51.100.1", entry))
    assert (verdict is not None) == is_listed
    assert policy(connected(address), evidence()) is None


def said(verdict: Verdict | None) -> str:
    assert verdict is not None
    return f"{verdict.reason}: {verdict.reply}"


def test_what_those_who_are_blocked_hear():
    assert said(blocked_clients(connected("192.0.2.1"), evidence(), clients=FileSet.of("192.0.2.1"))) == (
        "client-blocked: 550 5.7.1 Refused: no mail is accepted from your address"
    )
    assert said(blocked_senders(sent_by("a@b.example"), evidence(), senders=FileSet.of("@b.example"))) == (
        "sender-blocked: 550 5.7.1 Refused: no mail is accepted from this sender"
    )
    listed = FileSet.of("@b.example")
    assert said(blocked_recipients(sent_to("a@b.example"), evidence(), recipients=listed)) == (
        "recipient-blocked: 550 5.2.1 No mail is accepted for this recipient"
    )


def test_a_bounce_has_no_sender_to_be_listed():
    for policy in (blocked_senders, allowed_senders):
        assert policy(sent_by(""), evidence(), senders=FileSet.of("@example.net", "")) is None


@pytest.mark.parametrize("address", ["postmaster", "postmaster@example.com", "Postmaster@example.com"])
def test_postmaster_is_always_reachable(address: str):
    listed = FileSet.of("@example.com", "postmaster@example.com", "postmaster")
    assert blocked_recipients(sent_to(address), evidence(), recipients=listed) is None


def test_who_is_allowed_is_spared_what_guesses_and_nothing_else():
    verdicts = [
        allowed_clients(connected("192.0.2.1"), evidence(), clients=FileSet.of("192.0.2.1")),
        allowed_senders(sent_by("a@b.example"), evidence(), senders=FileSet.of("@b.example")),
        allowed_recipients(sent_to("a@b.example"), evidence(), recipients=FileSet.of("@b.example")),
    ]
    assert [verdict and verdict.reason for verdict in verdicts] == [
        "client-allowed",
        "sender-allowed",
        "recipient-allowed",
    ]
    for verdict in verdicts:
        assert verdict is not None
        assert verdict.decision == Decision.ACCEPT
        assert not verdict.ends_judging
        assert {"spam", "bulk", "header_sanity"} < verdict.exempt_from
        assert not {"virus", "attachments", "recipients", "blocked_recipients"} & verdict.exempt_from


@pytest.mark.parametrize(
    ("policy", "tx", "listed"),
    [
        (allowed_clients, connected("192.0.2.1"), {"clients": FileSet.of("192.0.2.1")}),
        (allowed_senders, sent_by("a@b.example"), {"senders": FileSet.of("@b.example")}),
        (allowed_recipients, sent_to("a@b.example"), {"recipients": FileSet.of("@b.example")}),
    ],
    ids=["clients", "senders", "recipients"],
)
def test_what_they_are_spared_is_the_operators_choice(
    policy: Policy, tx: Transaction, listed: dict[str, FileSet]
):
    verdict = policy(tx, evidence(), exempt_from=frozenset({"mine"}), **listed)
    assert verdict is not None
    assert verdict.exempt_from == {"mine"}
    # No names would mean all policies.
    assert policy(tx, evidence(), exempt_from=frozenset(), **listed) is None


@pytest.mark.parametrize(
    ("client", "login", "is_believed"),
    [
        ("192.0.2.1", None, True),
        ("198.51.100.1", None, False),
        ("2001:db8::1", None, False),
        ("198.51.100.1", "anna", True),
    ],
)
def test_a_sender_is_believed_from_where_the_operator_says(client: str, login: str | None, is_believed: bool):
    tx = sent_by("anna@example.net", client, login)
    options = {"senders": FileSet.of("anna@example.net"), "clients": Networks.of("192.0.2.0/24")}
    assert (allowed_senders(tx, evidence(), **options) is not None) == is_believed


@pytest.mark.parametrize("client", ["192.0.2.1", "2001:db8::1", "::ffff:192.0.2.1"])
def test_without_that_it_is_believed_from_anywhere(client: str):
    tx = sent_by("anna@example.net", client)
    assert allowed_senders(tx, evidence(), senders=FileSet.of("anna@example.net")) is not None
