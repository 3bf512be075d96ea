from policies import Evidence, Stage, Transaction, Verdict, policy, reject


@policy(at=Stage.END_OF_DATA)
def mine(tx: Transaction, evidence: Evidence, *, limit: int = 3) -> Verdict | None:
    return reject("too-many-links", code=554, status="4.7.1")
