from policies import Evidence, SpamReport, Stage, Transaction, Verdict, VirusReport, policy


@policy(at=Stage.END_OF_DATA, wants=[SpamReport, VirusReport])
def wishing(tx: Transaction, evidence: Evidence) -> Verdict | None:
    return None
