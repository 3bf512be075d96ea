from policies import Evidence, Stage, Transaction, Verdict, policy


@policy(at=Stage.RCPT)
def mine(tx: Transaction, evidence: Evidence) -> Verdict | None:
    return None if tx.message.size else None
