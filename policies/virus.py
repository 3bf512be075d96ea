"""Refuse infected mail."""

from policies import Evidence, Stage, Transaction, Verdict, VirusReport, policy, reject


@policy(at=Stage.END_OF_DATA, needs=[VirusReport])
def virus(tx: Transaction, evidence: Evidence) -> Verdict | None:
    """Reject a message in which the virus scanner found a signature."""
    signature = evidence[VirusReport].signature
    return reject("virus-found", detail=signature) if signature else None
