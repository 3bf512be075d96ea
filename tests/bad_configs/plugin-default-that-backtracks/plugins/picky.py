import re

from policies import Evidence, Stage, Transaction, Verdict, policy


@policy(at=Stage.MAIL)
def picky(
    tx: Transaction,
    evidence: Evidence,
    *,
    subject: re.Pattern[str] = re.compile(r"(a+)+$", re.IGNORECASE),
) -> Verdict | None:
    return None
