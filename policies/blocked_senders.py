"""Refuse mail from senders whom the operator does not want to hear of."""

from policies import Evidence, FileSet, Stage, Transaction, Verdict, policy, reject
from policies.listed import entry_for


@policy(at=Stage.MAIL)
def blocked_senders(
    tx: Transaction, evidence: Evidence, *, senders: FileSet = FileSet.of()
) -> Verdict | None:
    """Reject a reverse-path that is in `senders`.

    Entries are `anna@example.net`, `@example.net` or `example.net` for everybody there, and
    `@.example.net` or `.example.net` for its subdomains. The null reverse-path is in no list.
    """
    sender = tx.envelope.reverse_path
    entry = entry_for(sender, senders)
    return reject("sender-blocked", detail=f"{sender} is in senders by {entry}") if entry else None
