from policies import Evidence, SpamReport, Stage, Transaction, Verdict, policy


@policy(at=Stage.RCPT, wants=[SpamReport])
def hasty(tx: Transaction, evidence: Evidence) -> Verdict | None:
    return None
