from policies import Evidence, Stage, Transaction, Verdict, policy


@policy(at=Stage.MAIL)
def order(tx: Transaction, evidence: Evidence) -> Verdict | None:
    return None
