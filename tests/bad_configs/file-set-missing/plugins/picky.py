from policies import Evidence, FileSet, Stage, Transaction, Verdict, policy


@policy(at=Stage.MAIL)
def picky(
    tx: Transaction,
    evidence: Evidence,
    *,
    blocked: FileSet = FileSet.of(),
) -> Verdict | None:
    return None
