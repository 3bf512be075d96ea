"""Refuse clients that DNS lists know for sending junk."""

from policies import Evidence, Listings, Stage, Transaction, Verdict, policy, reject


@policy(at=Stage.CONNECT, needs=[Listings])
def blocklist(tx: Transaction, evidence: Evidence, *, reject_weight: float = 3.0) -> Verdict | None:
    """Reject a client whose listings weigh `reject_weight` or more together."""
    listings = evidence[Listings]
    if listings.total < reject_weight:
        return None
    zones = " ".join(f"{zone}={','.join(codes)}" for zone, codes in listings.zones.items())
    return reject("dns-blocklisted", detail=f"weight {listings.total:g}: {zones}")
