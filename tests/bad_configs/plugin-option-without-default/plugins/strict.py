from policies import Evidence, Stage, Transaction, Verdict, policy


@policy(at=Stage.MAIL)
def strict(tx: Transaction, evidence: Evidence, *, limit: float) -> Verdict | None:
    return None
