"""Refuse bounces of mail that was never sent: spam with our addresses as its forged sender."""

import re

from policies import Evidence, FileSet, Path, Stage, Transaction, Verdict, policy, reject
from policies.listed import entry_for

# Bounce Address Tag Validation: prvs=KDDDSSSSSS=local-part.
_TAG = re.compile(r"prvs=[0-9][0-9a-f]{9}=(?=.)", re.IGNORECASE)
# Whoever forwards with the Sender Rewriting Scheme checks its signature himself.
_REWRITTEN = re.compile(r"srs[01][=+-]", re.IGNORECASE)


@policy(at=Stage.RCPT)
def backscatter(
    tx: Transaction,
    evidence: Evidence,
    *,
    senders: FileSet = FileSet.of(),
    tagged: bool = False,
    mailer_daemons: bool = False,
    max_recipients: int | None = None,
) -> Verdict | None:
    """Reject a bounce, mail with the null reverse-path, to an address that sends no mail.

    `senders` are the addresses that do, `anna@example.com` or `@example.com`; `anna+news@example.com`
    is found by either of its names. Without entries all do. With `tagged` our own mail goes out with
    tagged senders (`prvs=…=anna@example.com`), so that bounces to others are of mail that is not
    ours; the tag itself is not checked. With `mailer_daemons` mail from any `mailer-daemon@` counts
    as a bounce. A bounce has one recipient; `max_recipients` says how many it may have.

    `postmaster` and addresses rewritten by a forwarder (`SRS0=…`) are never refused.
    """
    recipient, sender = tx.envelope.recipient, tx.envelope.reverse_path
    is_daemon = mailer_daemons and sender.local_part.lower() == "mailer-daemon"
    if recipient is None or not (sender.is_null or is_daemon):
        return None
    if recipient.is_postmaster or _REWRITTEN.match(recipient.local_part):
        return None
    if max_recipients is not None and len(tx.envelope.recipients) >= max_recipients:
        return reject("backscatter", detail=f"a bounce to more than {max_recipients}")
    tag = _TAG.match(recipient.local_part)
    if tagged and tag is None:
        return reject("backscatter", detail=f"a bounce to {recipient}, which has no tag")
    address = Path(recipient.local_part[tag.end() if tag else 0 :], recipient.domain)
    if not senders or _is_sender(address, senders):
        return None
    return reject("backscatter", detail=f"a bounce to {address}, which is not in senders")


def _is_sender(address: Path, senders: FileSet) -> bool:
    plain = Path(address.local_part.partition("+")[0], address.domain)
    return any(entry_for(each, senders) for each in (address, plain))
