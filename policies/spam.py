"""Refuse what a content scanner is sure about, or two of them suspect; mark what one suspects.

What both have to say before a message is refused was measured (docs/effectiveness.md).
"""

from policies import (
    Evidence,
    RspamdReport,
    SpamReport,
    Stage,
    Transaction,
    Verdict,
    mark,
    policy,
    reject,
)


@policy(at=Stage.END_OF_DATA, wants=[SpamReport, RspamdReport])
def spam(
    tx: Transaction,
    evidence: Evidence,
    *,
    reject_score: float = 8.0,
    mark_score: float = 5.0,
    rspamd_score: float = 10.0,
) -> Verdict | None:
    """Reject at `reject_score` points of SpamAssassin's and above, mark at `mark_score` and above.

    What would be marked is rejected if Rspamd has `rspamd_score` points or more against it, too. Where only
    Rspamd has looked, it is marked or rejected by Rspamd's own thresholds.
    """
    spamassassin, rspamd = evidence.get(SpamReport), evidence.get(RspamdReport)
    if spamassassin is None:
        return None if rspamd is None else _by_rspamd(rspamd)
    score, detail, rules = spamassassin.score, f"{spamassassin.score:.1f}", spamassassin.rules
    agreed = False
    if rspamd is not None:
        agreed = score >= mark_score and rspamd.score >= rspamd_score
        detail += f", Rspamd {rspamd.score:.1f}"
        rules += rspamd.rules
    if score >= reject_score or agreed:
        return reject("spam-score", detail=f"{detail} {' '.join(rules)}")
    if score >= mark_score:
        return mark("X-Spam-Flag", "YES", detail=detail)
    return None


def _by_rspamd(report: RspamdReport) -> Verdict | None:
    """What Rspamd itself would have done to the message."""
    detail = f"Rspamd {report.score:.1f} of {report.threshold:.1f}, {report.action}"
    if report.action == "reject" or report.score >= report.threshold:
        return reject("spam-score", detail=f"{detail} {' '.join(report.rules)}")
    if report.is_suspicious:
        return mark("X-Spam-Flag", "YES", detail=detail)
    return None
