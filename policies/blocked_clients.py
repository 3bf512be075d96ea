"""Refuse clients whom the operator does not want to hear of."""

from policies import Evidence, FileSet, Stage, Transaction, Verdict, matches, policy, reject


@policy(at=Stage.CONNECT)
def blocked_clients(
    tx: Transaction, evidence: Evidence, *, clients: FileSet = FileSet.of()
) -> Verdict | None:
    """Reject a client whose address is in `clients`: addresses, and networks in CIDR notation."""
    address = tx.session.client_address
    entry = matches(address, clients)
    return reject("client-blocked", detail=f"{address} is in clients by {entry}") if entry else None
