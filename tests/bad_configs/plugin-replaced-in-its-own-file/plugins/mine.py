from policies import Evidence, Stage, Transaction, Verdict, policy


@policy(at=Stage.MAIL)
def mine(tx: Transaction, evidence: Evidence) -> Verdict | None:
    return None


@policy(at=Stage.MAIL)
def mine(tx: Transaction, evidence: Evidence) -> Verdict | None:
    return None
