"""`bulk`: what is bulk mail, and what is a way out of it."""

import pytest

from policies import Verdict
from policies.bulk import bulk
from policies.testing import evidence, message, transaction
from policies.verdict import Decision

BULK = {"Precedence": "bulk"}
OUT = {"List-Unsubscribe": "<https://example.net/out>"}
ONE_CLICK = {"List-Unsubscribe-Post": "List-Unsubscribe=One-Click"}


def judged(fields: dict[str, str], sender: str = "news@example.net", **options: object) -> Verdict | None:
    tx = transaction(reverse_path=sender, message=message(header={"From": "news@example.net", **fields}))
    return bulk(tx, evidence(), **options)


@pytest.mark.parametrize(
    ("fields", "is_bulk"),
    [
        (BULK, True),
        ({"Precedence": "List"}, True),
        ({"precedence": "junk"}, True),
        ({"Precedence": "first-class"}, False),
        ({"Precedence": ""}, False),
        ({"List-Id": "<news.example.net>"}, True),
        ({"LIST-POST": "NO"}, True),
        ({"Feedback-ID": "1:2:3:sender"}, True),
        ({"List-Unsubscribe": "yes"}, True),
        ({"Listing": "of things"}, False),
        ({"X-List-Id": "<news.example.net>"}, False),
        ({}, False),
        ({**BULK, "Auto-Submitted": "auto-replied"}, False),
        ({**BULK, "Auto-Submitted": "no"}, True),
    ],
)
def test_bulk_says_so_itself(fields: dict[str, str], is_bulk: bool):
    verdict = judged(fields)
    assert (verdict is not None) == is_bulk
    if verdict:
        assert verdict.field == ("X-Bulk", "YES")
    assert judged({**fields, **OUT}) is None


def test_a_bounce_is_not_bulk():
    assert judged(BULK, sender="") is None


@pytest.mark.parametrize(
    ("field", "is_way_out"),
    [
        ("<https://example.net/out?x=1>", True),
        ("<http://example.net/out>", True),
        ("<mailto:out@example.net?subject=out>", True),
        ("<ftp://example.net/>, < MAILTO:out@example.net >", True),
        ("", False),
        ("<>", False),
        ("<mailto:>", False),
        ("https://example.net/out", False),
        ("NO", False),
    ],
)
def test_a_way_out_can_be_followed(field: str, is_way_out: bool):
    assert (judged({**BULK, "List-Unsubscribe": field}) is None) == is_way_out


@pytest.mark.parametrize(
    ("fields", "is_way_out"),
    [
        ({**OUT, **ONE_CLICK}, True),
        ({**OUT, "List-Unsubscribe-Post": "list-unsubscribe = one-click"}, True),
        (OUT, False),
        (ONE_CLICK, False),
        ({"List-Unsubscribe": "<mailto:out@example.net>", **ONE_CLICK}, False),
        ({"List-Unsubscribe": "<http://example.net/out>", **ONE_CLICK}, False),
        ({**OUT, "List-Unsubscribe-Post": "yes"}, False),
    ],
)
def test_one_click_can_be_asked_for(fields: dict[str, str], is_way_out: bool):
    assert (judged({**BULK, **fields}, one_click=True) is None) == is_way_out


@pytest.mark.parametrize(
    ("options", "decision", "reason"),
    [
        ({}, Decision.MARK, "marked"),
        ({"subject_prefix": "[Bulk]"}, Decision.MARK, "marked"),
        ({"action": "quarantine"}, Decision.QUARANTINE, "bulk-without-unsubscribe"),
        ({"action": "reject"}, Decision.REJECT, "bulk-without-unsubscribe"),
    ],
)
def test_it_is_marked_unless_the_operator_wants_more(
    options: dict[str, str], decision: Decision, reason: str
):
    verdict = judged(BULK, **options)
    assert verdict is not None
    assert (verdict.decision, verdict.reason, verdict.detail) == (decision, reason, "has Precedence: bulk")
    assert len(verdict.effects) == {"[Bulk]": 2}.get(options.get("subject_prefix", ""), int(not options))


def test_a_client_that_is_refused_is_told_what_is_missing():
    verdict = judged(BULK, action="reject")
    assert verdict is not None
    assert (
        str(verdict.reply) == "550 5.7.1 Message refused: bulk mail needs a List-Unsubscribe field (RFC 2369)"
    )
