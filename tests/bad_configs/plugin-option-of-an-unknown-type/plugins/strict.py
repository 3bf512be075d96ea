from policies import Evidence, Stage, Transaction, Verdict, policy


@policy(at=Stage.MAIL)
def strict(tx: Transaction, evidence: Evidence, *, limit: "Limit" = 1) -> Verdict | None:
    return None
