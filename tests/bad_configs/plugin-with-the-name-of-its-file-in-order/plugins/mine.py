from policies import Evidence, Stage, Transaction, Verdict, policy


@policy(at=Stage.MAIL)
def yours(tx: Transaction, evidence: Evidence) -> Verdict | None:
    return None
