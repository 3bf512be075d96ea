"""Refuse what the content scanner is sure about; mark what it suspects."""

from policies import Evidence, SpamReport, Stage, Transaction, Verdict, mark, policy, reject


@policy(at=Stage.END_OF_DATA, needs=[SpamReport])
def spam(
    tx: Transaction, evidence: Evidence, *, reject_score: float = 8.0, mark_score: float = 5.0
) -> Verdict | None:
    """Reject at `reject_score` points and above, mark at `mark_score` points and above."""
    report = evidence[SpamReport]
    if report.score >= reject_score:
        return reject("spam-score", detail=f"{report.score:.1f} {' '.join(report.rules)}")
    if report.score >= mark_score:
        return mark("X-Spam-Flag", "YES", detail=f"{report.score:.1f}")
    return None
