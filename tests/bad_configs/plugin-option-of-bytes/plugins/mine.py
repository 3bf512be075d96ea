from policies import Evidence, Stage, Transaction, Verdict, policy


@policy(at=Stage.MAIL)
def mine(tx: Transaction, evidence: Evidence, *, separator: bytes = b"2") -> Verdict | None:
    return None
