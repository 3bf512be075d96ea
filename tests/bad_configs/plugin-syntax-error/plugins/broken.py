from policies import Evidence, Stage, Transaction, Verdict, policy


@policy(at=Stage.MAIL)
def broken(tx, evidence)
    return None
