"""Spare recipients who want all their mail the policies that guess."""

from policies import Evidence, FileSet, Stage, Transaction, Verdict, accept, policy
from policies.listed import entry_for


@policy(at=Stage.RCPT)
def allowed_recipients(
    tx: Transaction,
    evidence: Evidence,
    *,
    recipients: FileSet = FileSet.of(),
    exempt_from: frozenset[str] = frozenset({"backscatter", "bulk", "header_sanity", "spam"}),
) -> Verdict | None:
    """Do not ask the policies in `exempt_from` about mail for somebody in `recipients`, like `abuse`.

    Entries are `abuse@example.com`, `@example.com` or `example.com` for everybody there, and
    `@.example.com` or `.example.com` for its subdomains. Whether the recipient exists is still for
    the downstream to say. A client that writes to others as well is told to send to them separately
    (`other-exemption`).
    """
    recipient = tx.envelope.recipient
    if recipient is None:
        return None
    entry = entry_for(recipient, recipients)
    if entry is None or not exempt_from:
        return None
    detail = f"{recipient} is in recipients by {entry}"
    return accept("recipient-allowed", detail=detail, exempt_from=exempt_from)
