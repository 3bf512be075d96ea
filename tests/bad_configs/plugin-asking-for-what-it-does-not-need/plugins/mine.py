from policies import Evidence, SpamReport, Stage, Transaction, Verdict, policy


@policy(at=Stage.END_OF_DATA)
def mine(tx: Transaction, evidence: Evidence) -> Verdict | None:
    return None if evidence[SpamReport].score else None
