"""`spam`: what a score leads to."""

import pytest

from policies import RspamdReport, SpamReport
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


def both(spamassassin: float, rspamd: float) -> tuple[SpamReport, RspamdReport]:
    return SpamReport(spamassassin, rules=("RULE",)), RspamdReport(rspamd, rules=("SYMBOL",))


@pytest.mark.parametrize(
    ("spamassassin", "rspamd", "decision"),
    [
        (5.0, 10.0, Decision.REJECT),
        (7.9, 10.0, Decision.REJECT),
        (5.0, 9.9, Decision.MARK),
        (7.9, 9.9, Decision.MARK),
        # Rspamd alone is not enough, whatever it says.
        (4.9, 10.0, None),
        (4.9, 100.0, None),
        (-5.0, 16.0, None),
        # It never speaks for a message.
        (8.0, 0.0, Decision.REJECT),
        (8.0, -100.0, Decision.REJECT),
        (5.0, -100.0, Decision.MARK),
    ],
)
def test_what_both_suspect_is_refused(
    judge: Judge, spamassassin: float, rspamd: float, decision: Decision | None
):
    verdict = judge(spam, transaction(), *both(spamassassin, rspamd))
    assert (verdict and verdict.decision) == decision


@pytest.mark.parametrize(
    ("options", "decision"),
    [
        ({}, Decision.MARK),
        ({"rspamd_score": 9.0}, Decision.REJECT),
        ({"rspamd_score": 9.0, "mark_score": 6.1}, None),
        ({"rspamd_score": 9.0, "mark_score": 6.1, "reject_score": 6.0}, Decision.REJECT),
        ({"rspamd_score": float("inf")}, Decision.MARK),
    ],
)
def test_the_operator_says_how_much_rspamd_must_have(
    judge: Judge, options: dict[str, float], decision: Decision | None
):
    verdict = judge(spam, transaction(), *both(6.0, 9.0), **options)
    assert (verdict and verdict.decision) == decision


@pytest.mark.parametrize(
    ("found", "detail"),
    [
        (both(7.5, 11.0), "7.5, Rspamd 11.0 RULE SYMBOL"),
        (both(9.0, 1.0), "9.0, Rspamd 1.0 RULE SYMBOL"),
        (both(5.0, 9.0), "5.0, Rspamd 9.0"),
    ],
)
def test_the_operator_is_told_what_each_scanner_said(
    judge: Judge, found: tuple[SpamReport, RspamdReport], detail: str
):
    verdict = judge(spam, transaction(), *found)
    assert verdict is not None
    assert (verdict.reason, verdict.detail) in {("spam-score", detail), ("marked", detail)}


@pytest.mark.parametrize(
    ("report", "decision"),
    [
        (RspamdReport(0.0), None),
        (RspamdReport(5.0, 15.0, "greylist"), None),
        (RspamdReport(5.0, 15.0, "soft reject"), None),
        (RspamdReport(5.0, 15.0, "an-action-of-the-operator"), None),
        (RspamdReport(6.0, 15.0, "add header"), Decision.MARK),
        (RspamdReport(8.0, 15.0, "rewrite subject"), Decision.MARK),
        (RspamdReport(15.0, 15.0, "reject"), Decision.REJECT),
        # By a rule of the operator, whatever the score.
        (RspamdReport(1.0, 15.0, "reject"), Decision.REJECT),
        # By the score, where Rspamd was told not to say so.
        (RspamdReport(15.0, 15.0, "no action"), Decision.REJECT),
    ],
)
def test_rspamd_alone_is_taken_at_its_word(judge: Judge, report: RspamdReport, decision: Decision | None):
    verdict = judge(spam, transaction(), report)
    assert (verdict and verdict.decision) == decision
    assert verdict is None or verdict.detail.startswith(f"Rspamd {report.score:.1f} of 15.0, {report.action}")


def test_without_any_scanner_there_is_no_opinion(judge: Judge):
    assert judge(spam, transaction()) is None


def test_a_filter_for_either_is_enough():
    assert (spam.needs, set(spam.wants)) == ((), {SpamReport, RspamdReport})
