"""Spare senders whom the operator trusts the policies that guess."""

from policies import Evidence, FileSet, Networks, Stage, Transaction, Verdict, accept, policy
from policies.listed import entry_for


@policy(at=Stage.MAIL)
def allowed_senders(
    tx: Transaction,
    evidence: Evidence,
    *,
    senders: FileSet = FileSet.of(),
    clients: Networks = Networks.of("0.0.0.0/0", "::/0"),
    exempt_from: frozenset[str] = frozenset({"blocked_senders", "bulk", "header_sanity", "spam"}),
) -> Verdict | None:
    """Do not ask the policies in `exempt_from` about mail whose reverse-path is in `senders`.

    Entries are `anna@example.net`, `@example.net` or `example.net` for everybody there, and
    `@.example.net` or `.example.net` for its subdomains.

    Anybody can write any reverse-path. Only clients in `clients` are believed, and those that logged
    in. Name the hosts that the senders really use where you can, and never exempt from `recipients`,
    `virus` or `attachments`.
    """
    sender = tx.envelope.reverse_path
    entry = entry_for(sender, senders)
    if entry is None or not exempt_from:
        return None
    if tx.session.client_address not in clients and tx.session.authenticated is None:
        return None
    return accept("sender-allowed", detail=f"{sender} is in senders by {entry}", exempt_from=exempt_from)
