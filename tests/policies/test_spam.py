"""`spam`: what a score leads to."""

import pytest

from policies import SpamReport
from policies.spam import spam
from policies.testing import Judge, transaction
from policies.verdict import Decision


@pytest.mark.parametrize(
    ("score", "decision"),
    [
        (-1000.0, None),
        (4.99, None),
        (5.0, Decision.MARK),
        (7.99, Decision.MARK),
        (8.0, Decision.REJECT),
        (1000.0, Decision.REJECT),
    ],
)
def test_the_score_decides_by_default(judge: Judge, score: float, decision: Decision | None):
    verdict = judge(spam, transaction(), SpamReport(score))
    assert (verdict and verdict.decision) == decision


@pytest.mark.parametrize(
    ("options", "decision"),
    [
        ({"reject_score": 6.1}, Decision.MARK),
        ({"reject_score": 6.0}, Decision.REJECT),
        ({"mark_score": 6.1}, None),
        ({"reject_score": float("inf"), "mark_score": float("inf")}, None),
    ],
)
def test_the_operator_moves_the_scores(judge: Judge, options: dict[str, float], decision: Decision | None):
    verdict = judge(spam, transaction(), SpamReport(6.0), **options)
    assert (verdict and verdict.decision) == decision


def test_the_scanners_own_threshold_does_not_matter(judge: Judge):
    assert judge(spam, transaction(), SpamReport(4.0, threshold=0.1)) is None


def test_the_client_is_told_nothing_about_rules_and_the_operator_everything(judge: Judge):
    verdict = judge(spam, transaction(), SpamReport(9.94, rules=("GTUBE", "URIBL_BLACK")))
    assert verdict is not None
    assert str(verdict.reply) == "550 5.7.1 Message refused: it looks like spam"
    assert (verdict.reason, verdict.detail) == ("spam-score", "9.9 GTUBE URIBL_BLACK")


def test_suspected_spam_is_marked(judge: Judge):
    verdict = judge(spam, transaction(), SpamReport(5.5))
    assert verdict is not None
    assert verdict.field == ("X-Spam-Flag", "YES")
