import re

from policies import Evidence, Stage, Transaction, Verdict, policy


@policy(at=Stage.MAIL)
def picky(
    tx: Transaction,
    evidence: Evidence,
    *,
    subject: tuple[re.Pattern[str], int] | None = None,
) -> Verdict | None:
    return None
