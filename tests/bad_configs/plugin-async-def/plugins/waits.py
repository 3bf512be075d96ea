from policies import Evidence, Stage, Transaction, Verdict, policy


@policy(at=Stage.MAIL)
async def waits(tx: Transaction, evidence: Evidence) -> Verdict | None:
    return None
