from datetime import timedelta

from policies import Evidence, Stage, Transaction, Verdict, policy


@policy(at=Stage.MAIL)
def picky(
    tx: Transaction,
    evidence: Evidence,
    *,
    delay: timedelta = timedelta(minutes=5),
) -> Verdict | None:
    return None
