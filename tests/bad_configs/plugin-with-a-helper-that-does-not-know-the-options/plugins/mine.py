from policies import Evidence, Stage, Transaction, Verdict, policy, reject


def _is_long(tx: Transaction) -> bool:
    return tx.message.size > limit


@policy(at=Stage.END_OF_DATA)
def mine(tx: Transaction, evidence: Evidence, *, limit: int = 3) -> Verdict | None:
    return reject("too-long") if _is_long(tx) else None
