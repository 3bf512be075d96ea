import re

from policies import Evidence, Stage, Transaction, Verdict, policy


@policy(at=Stage.MAIL)
def picky(
    tx: Transaction,
    evidence: Evidence,
    *,
    subject: re.Pattern[bytes] | None = None,
) -> Verdict | None:
    return None
