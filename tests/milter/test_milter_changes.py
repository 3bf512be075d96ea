"""From a case file to what an MTA is asked for, and the order of it."""

import pytest

from filters.evidence import SpamReport
from gateway.casefile import CaseFile, Gathered
from gateway.milter.changes import (
    Add,
    ChangeField,
    Delete,
    Field,
    InsertField,
    Recipient,
    header_changes,
    recipient_changes,
    recipients_of,
)
from gateway.smtp.address import Path, parse_address
from gateway.smtp.transaction import Stage
from policies.effects import AddRecipient, Effect, HeaderField, Redirect, SubjectPrefix

HOSTNAME = "mx.our.example"
REFERENCE = InsertField(0, "X-Sluicegate-Reference", b" AAAA-AAAA")
BULK = SubjectPrefix("[Bulk]")


def changes(fields: list[Field], *effects: Effect) -> list[InsertField | ChangeField]:
    return list(header_changes(CaseFile(effects=list(effects)), fields, "AAAA-AAAA", HOSTNAME))


@pytest.mark.parametrize(
    ("fields", "deleted"),
    [
        ([], []),
        ([("From", b" x"), ("Subject", b" x")], []),
        ([("X-Spam-Flag", b" NO")], [("X-Spam-Flag", 1)]),
        ([("x-SPAM-flag", b"")], [("x-SPAM-flag", 1)]),
        # From the end: each number counts what is still there.
        (
            [("X-Spam-Flag", b" 1"), ("From", b" x"), ("X-Spam-FLAG", b" 2"), ("x-spam-score", b" 1")],
            [("x-spam-score", 1), ("X-Spam-FLAG", 2), ("X-Spam-Flag", 1)],
        ),
        (
            [("X-Sluicegate-Whatever", b" 1"), ("X-Virus-Scanned", b"")],
            [("X-Virus-Scanned", 1), ("X-Sluicegate-Whatever", 1)],
        ),
        # Those of others count, and stay.
        (
            [
                ("Authentication-Results", b" b.example; spf=pass"),
                ("Authentication-results", b" mx.our.example; spf=pass"),
                ("Authentication-Results", b" c.example; spf=pass"),
                ("AUTHENTICATION-RESULTS", b"\r\n\tMX.our.example;\r\n\tspf=pass"),
            ],
            [("AUTHENTICATION-RESULTS", 4), ("Authentication-results", 2)],
        ),
        ([("Authentication-Results", b" mx.our.example.evil; spf=pass")], []),
        ([("X-Spam-Report", b" x"), ("XX-Spam-Flag", b" x"), ("X-Sluicegate", b" x")], []),
    ],
)
def test_forged_fields_go(fields: list[Field], deleted: list[tuple[str, int]]):
    assert changes(fields) == [*(ChangeField(name, number, None) for name, number in deleted), REFERENCE]


@pytest.mark.parametrize(
    ("fields", "changed"),
    [
        ([("Subject", b" x")], ChangeField("Subject", 1, b" [Bulk] x")),
        ([("SUBJECT", b"x")], ChangeField("Subject", 1, b" [Bulk] x")),
        ([("subject", b" 1"), ("Subject", b" 2")], ChangeField("Subject", 1, b" [Bulk] 1")),
        ([("Subject", b"")], ChangeField("Subject", 1, b" [Bulk]")),
        ([("Subject", b" x\r\n\ty")], ChangeField("Subject", 1, b" [Bulk] x\r\n\ty")),
        ([("Subject", b" \xff\x80")], ChangeField("Subject", 1, b" [Bulk] \xff\x80")),
        ([("Subject", b" " + b"x" * 72)], ChangeField("Subject", 1, b" [Bulk]\r\n " + b"x" * 72)),
    ],
)
def test_words_before_a_subject_change_the_first_one(fields: list[Field], changed: ChangeField):
    assert changes(fields, BULK) == [changed, REFERENCE]


def test_words_before_a_subject_that_is_not_there_make_one_below_our_fields():
    assert changes([("From", b" x")], HeaderField("X-One", "1"), BULK) == [
        REFERENCE,
        InsertField(1, "X-One", b" 1"),
        InsertField(2, "Subject", b" [Bulk]"),
    ]


def test_deletions_come_before_changes_and_insertions_last():
    fields = [("X-Spam-Flag", b" NO"), ("Subject", b" x"), ("X-Spam-Score", b" 1")]
    case = CaseFile(effects=[HeaderField("X-Spam-Flag", "YES"), BULK, HeaderField("X-One", "1")])
    report = SpamReport(7.0, 5.0, ("A",))
    case.remember(SpamReport, Gathered(report, "spamassassin", 0.1, Stage.END_OF_DATA))
    assert list(header_changes(case, fields, "AAAA-AAAA", HOSTNAME)) == [
        ChangeField("X-Spam-Score", 1, None),
        ChangeField("X-Spam-Flag", 1, None),
        ChangeField("Subject", 1, b" [Bulk] x"),
        InsertField(0, "X-Spam-Flag", b" YES"),
        InsertField(1, "X-Spam-Score", b" 7.0"),
        InsertField(2, "X-Spam-Status", b" Yes, score=7.0 required=5.0 tests=A"),
        InsertField(3, "X-Sluicegate-Reference", b" AAAA-AAAA"),
        InsertField(4, "X-One", b" 1"),
    ]


# Recipients

B, C, D = (parse_address(f"{each}@our.example") for each in "bcd")
LOCAL = parse_address("postmaster@mx.example")


def named(*paths: Path) -> list[Recipient]:
    return [Recipient(path, path, str(path)) for path in paths]


@pytest.mark.parametrize(
    ("effects", "recipients", "wanted"),
    [
        ([], named(B, C), (B, C)),
        ([], named(B, B), (B,)),
        ([], [Recipient(B, D, str(B)), *named(C)], (D, C)),
        ([], [Recipient(B, D, str(B)), Recipient(C, D, str(C))], (D,)),
        ([Redirect(D)], named(B, C), (D,)),
        ([Redirect(B), Redirect(D)], named(C), (D,)),
        ([Redirect(D)], [Recipient(B, C, str(B))], (D,)),
        ([AddRecipient(D)], named(B), (B, D)),
        ([AddRecipient(B)], named(B), (B,)),
        ([AddRecipient(C), Redirect(D), AddRecipient(C)], named(B), (D, C)),
    ],
)
def test_whom_a_message_is_to_reach(
    effects: list[Effect], recipients: list[Recipient], wanted: tuple[Path, ...]
):
    assert recipients_of(CaseFile(effects=effects), recipients) == wanted


@pytest.mark.parametrize(
    ("recipients", "wanted", "expected"),
    [
        (named(B, C), [B, C], []),
        (named(B, C), [C, B], []),
        (named(B), [B, D], [Add("<d@our.example>")]),
        (named(B, C), [C], [Delete("<b@our.example>")]),
        (named(B, C), [D], [Add("<d@our.example>"), Delete("<b@our.example>"), Delete("<c@our.example>")]),
        (named(B, B), [D], [Add("<d@our.example>"), Delete("<b@our.example>")]),
        ([Recipient(LOCAL, LOCAL, "Postmaster")], [D], [Add("<d@our.example>"), Delete("<Postmaster>")]),
        ([Recipient(LOCAL, LOCAL, "postmaster")], [LOCAL], []),
        (
            [Recipient(LOCAL, LOCAL, "postmaster"), *named(LOCAL)],
            [D],
            [Add("<d@our.example>"), Delete("<postmaster>"), Delete("<postmaster@mx.example>")],
        ),
        (named(parse_address("ä@öur.example")), [B], [Add("<b@our.example>"), Delete("<ä@öur.example>")]),
        (
            named(parse_address('"a b"@our.example')),
            [B],
            [Add("<b@our.example>"), Delete('<"a b"@our.example>')],
        ),
    ],
)
def test_changes_from_those_named_to_those_wanted(
    recipients: list[Recipient], wanted: list[Path], expected: list[Add | Delete]
):
    assert list(recipient_changes(recipients, wanted)) == expected
