from policies import Evidence, Stage, Transaction, Verdict, policy


@policy(at=Stage.MAIL)
def strict(tx: Transaction, evidence: Evidence, *, mode: str = "x") -> Verdict | None:
    return None
