from policies import Evidence, Stage, Transaction, Verdict, policy


@policy(at=Stage.MAIL)
def picky(
    tx: Transaction,
    evidence: Evidence,
    *,
    words: frozenset[str] = frozenset(),
) -> Verdict | None:
    return None
