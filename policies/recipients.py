"""Take mail only for the domains we relay for: the rule that keeps this from being an open relay."""

from policies import Evidence, Route, Stage, Transaction, Verdict, policy, reject


@policy(at=Stage.RCPT, needs=[Route])
def recipients(tx: Transaction, evidence: Evidence) -> Verdict | None:
    """Reject a recipient whose domain no `[[relay]]` entry names."""
    if evidence[Route].domain is not None:
        return None
    return reject("relay-denied", detail=f"no [[relay]] entry for {tx.envelope.recipient}")
