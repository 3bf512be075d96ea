"""Refuse mail for recipients who are to get none, whatever the downstream would say."""

from policies import Evidence, FileSet, Stage, Transaction, Verdict, policy, reject
from policies.listed import entry_for


@policy(at=Stage.RCPT)
def blocked_recipients(
    tx: Transaction, evidence: Evidence, *, recipients: FileSet = FileSet.of()
) -> Verdict | None:
    """Reject a recipient who is in `recipients`.

    Entries are `anna@example.com`, `@example.com` or `example.com` for everybody there, and
    `@.example.com` or `.example.com` for its subdomains. `postmaster` is always reachable (RFC 5321
    section 4.5.1).
    """
    recipient = tx.envelope.recipient
    if recipient is None or recipient.is_postmaster:
        return None
    entry = entry_for(recipient, recipients)
    if entry is None:
        return None
    detail = f"{recipient} is in recipients by {entry}"
    return reject("recipient-blocked", status="5.2.1", detail=detail)
