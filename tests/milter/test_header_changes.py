"""What an MTA is asked to change in a header section: the same that the proxy changes itself."""

import pytest

from gateway.casefile import CaseFile
from gateway.milter.changes import ChangeField, Field, InsertField, header_changes
from policies.effects import SubjectPrefix

REFERENCE = InsertField(0, "X-Sluicegate-Reference", b" AAAA-AAAA")
PREFIXED = b" [Check] one"


def changes(fields: list[Field], prefix: str = "") -> list[InsertField | ChangeField]:
    case = CaseFile(effects=[SubjectPrefix(prefix)] if prefix else [])
    return list(header_changes(case, fields, "AAAA-AAAA", "mx.our.example"))


@pytest.mark.parametrize(
    ("fields", "changed"),
    [
        ([("Subject", b" one")], [ChangeField("Subject", 1, PREFIXED)]),
        # The name as the proxy writes it; whoever looks for the field finds it in any case.
        ([("SUBJECT", b" one")], [ChangeField("Subject", 1, PREFIXED)]),
        ([("A", b" 1"), ("subject", b" one"), ("Subject", b" two")], [ChangeField("Subject", 1, PREFIXED)]),
        ([("Subject", b"one")], [ChangeField("Subject", 1, PREFIXED)]),
        ([("Subject", b" \xff\r\n\t\x80")], [ChangeField("Subject", 1, b" [Check] \xff\r\n\t\x80")]),
        ([("Subject", b"")], [ChangeField("Subject", 1, b" [Check]")]),
    ],
)
def test_words_come_before_the_first_subject(fields: list[Field], changed: list[ChangeField]):
    assert changes(fields, "[Check]") == [*changed, REFERENCE]


def test_a_subject_that_is_missing_comes_below_our_fields():
    assert changes([("A", b" 1")], "[Check]") == [REFERENCE, InsertField(1, "Subject", b" [Check]")]


def test_forgeries_go_from_the_end_and_before_anything_is_inserted():
    fields = [
        ("X-Spam-Flag", b" NO"),
        ("A", b" 1"),
        ("x-spam-FLAG", b" NO"),
        ("Authentication-Results", b" mx.other.example; spf=pass"),
        ("Authentication-Results", b" mx.our.example; spf=pass"),
    ]
    assert changes(fields) == [
        ChangeField("Authentication-Results", 2, None),
        ChangeField("x-spam-FLAG", 2, None),
        ChangeField("X-Spam-Flag", 1, None),
        REFERENCE,
    ]
