from policies import Evidence, Stage, Transaction, Verdict, policy, tempfail


@policy(at=Stage.END_OF_DATA)
def mine(tx: Transaction, evidence: Evidence, *, limit: int = 3) -> Verdict | None:
    return tempfail("too-many-links", code=550, status="5.7.1")
