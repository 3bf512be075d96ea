"""`backscatter`: bounces to addresses that never sent mail."""

import pytest

from policies import FileSet, Stage, Verdict
from policies.backscatter import backscatter
from policies.testing import evidence, transaction

SENDERS = FileSet.of("anna@example.com", "@lists.example.com")
ANNA = "anna@example.com"


def bounce(
    recipient: str, *, sender: str = "", before: tuple[str, ...] = (), **options: object
) -> Verdict | None:
    tx = transaction(stage=Stage.RCPT, reverse_path=sender, recipients=before, recipient=recipient)
    return backscatter(tx, evidence(), **options)


@pytest.mark.parametrize(
    ("recipient", "is_refused"),
    [
        (ANNA, False),
        ("Anna@Example.COM", False),
        ("anna+news@example.com", False),
        ("prvs=2123abcdef=anna@example.com", False),
        ("PRVS=2123ABCDEF=anna+news@example.com", False),
        ("owner+berta=example.org@lists.example.com", False),
        ("berta@example.com", True),
        ("prvs=2123abcdef=berta@example.com", True),
        ("prvs=2123=anna@example.com", True),
        ("prvs=2123abcdef=@example.com", True),
        ("+anna@example.com", True),
        ("postmaster@example.com", False),
        ("Postmaster", False),
        ("SRS0=ab12=XY=example.org=carl@example.com", False),
        ("srs1+ab12=example.org==xyz@example.com", False),
        ("srs0@example.com", True),
    ],
)
def test_a_bounce_is_taken_by_those_who_send(recipient: str, is_refused: bool):
    verdict = bounce(recipient, senders=SENDERS)
    assert (verdict is not None) == is_refused
    if verdict:
        assert str(verdict.reply) == "550 5.7.1 This address has sent nothing that could come back"
        assert verdict.reason == "backscatter"


def test_without_a_list_everybody_sends():
    assert bounce("berta@example.com") is None


@pytest.mark.parametrize("sender", ["carl@example.net", "MAILER-DAEMON@example.net"])
def test_other_mail_is_no_matter(sender: str):
    assert bounce("berta@example.com", sender=sender, senders=SENDERS, tagged=True, max_recipients=0) is None


@pytest.mark.parametrize(
    ("recipient", "is_refused"),
    [
        ("prvs=2123abcdef=anna@example.com", False),
        (ANNA, True),
        ("prvs=anna@example.com", True),
        ("postmaster@example.com", False),
        ("SRS0=ab12=XY=example.org=carl@example.com", False),
    ],
)
def test_where_senders_are_tagged_so_are_bounces(recipient: str, is_refused: bool):
    assert (bounce(recipient, tagged=True) is not None) == is_refused


@pytest.mark.parametrize("sender", ["MAILER-DAEMON@example.net", "mailer-daemon@example.net"])
def test_a_mailer_daemon_counts_where_the_operator_says_so(sender: str):
    verdict = bounce("berta@example.com", sender=sender, senders=SENDERS, mailer_daemons=True)
    assert verdict is not None
    assert bounce(ANNA, sender=sender, senders=SENDERS, mailer_daemons=True) is None


@pytest.mark.parametrize(("limit", "is_refused"), [(None, False), (0, True), (1, True), (2, False)])
def test_a_bounce_to_many(limit: int | None, is_refused: bool):
    verdict = bounce(ANNA, before=("berta@example.com",), max_recipients=limit)
    assert (verdict is not None) == is_refused
    assert bounce("postmaster@example.com", before=(ANNA,), max_recipients=limit) is None
