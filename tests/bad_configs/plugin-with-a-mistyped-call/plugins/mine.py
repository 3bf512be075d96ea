from policies import Evidence, Stage, Transaction, Verdict, policy, reject


@policy(at=Stage.END_OF_DATA)
def mine(tx: Transaction, evidence: Evidence, *, limit: int = 3) -> Verdict | None:
    if tx.message.size > limit:
        return rejekt("too-big")
    return None
