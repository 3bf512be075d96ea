from policies import Evidence, Stage, Transaction, Verdict, policy


@policy
def bare(tx: Transaction, evidence: Evidence) -> Verdict | None:
    return None
