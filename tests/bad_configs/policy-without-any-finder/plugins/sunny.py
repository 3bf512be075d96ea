from policies import Evidence, Finding, Stage, Transaction, Verdict, policy


class Weather(Finding):
    """Nobody finds it."""


@policy(at=Stage.MAIL, needs=[Weather])
def sunny(tx: Transaction, evidence: Evidence) -> Verdict | None:
    return None
