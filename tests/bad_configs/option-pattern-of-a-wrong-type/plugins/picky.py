import re

from policies import Evidence, Stage, Transaction, Verdict, policy


@policy(at=Stage.MAIL)
def picky(
    tx: Transaction,
    evidence: Evidence,
    *,
    subjects: tuple[re.Pattern[str], ...] = (),
) -> Verdict | None:
    return None
