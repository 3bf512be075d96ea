"""Spare clients whom the operator trusts the policies that guess."""

from policies import Evidence, FileSet, Stage, Transaction, Verdict, accept, matches, policy


@policy(at=Stage.CONNECT)
def allowed_clients(
    tx: Transaction,
    evidence: Evidence,
    *,
    clients: FileSet = FileSet.of(),
    exempt_from: frozenset[str] = frozenset(
        {"backscatter", "blocked_clients", "blocklist", "bulk", "header_sanity", "spam"}
    ),
) -> Verdict | None:
    """Do not ask the policies in `exempt_from` about a client whose address is in `clients`.

    Entries are addresses, and networks in CIDR notation. Policies that were asked before are not
    undone: this one stands before those it exempts from.
    """
    address = tx.session.client_address
    entry = matches(address, clients)
    if entry is None or not exempt_from:
        return None
    return accept("client-allowed", detail=f"{address} is in clients by {entry}", exempt_from=exempt_from)
