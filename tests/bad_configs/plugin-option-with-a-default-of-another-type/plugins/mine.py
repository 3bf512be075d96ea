from policies import Evidence, Stage, Transaction, Verdict, policy


@policy(at=Stage.MAIL)
def mine(tx: Transaction, evidence: Evidence, *, limit: int = 1.5) -> Verdict | None:
    return None
