from policies import Evidence, Networks, Stage, Transaction, Verdict, policy


@policy(at=Stage.MAIL)
def picky(
    tx: Transaction,
    evidence: Evidence,
    *,
    trusted: Networks = Networks(),
) -> Verdict | None:
    return None
