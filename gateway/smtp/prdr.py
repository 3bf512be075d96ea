"""Per-recipient replies to the end of data in SMTP: PRDR, draft-hall-prdr-00 as Exim speaks it.

Where all recipients share one fate, one reply says it, as without the extension. Else 353 announces a
reply for each recipient in the order of RCPT, and a last one closes the block.
"""

from collections.abc import Sequence

from gateway.smtp.reply import Reply

KEYWORD = "PRDR"

_BEGIN = Reply.of(353, None, "One reply for each recipient follows")
_TAKEN = Reply.of(250, "2.0.0", "Done; each recipient has its own reply")
# A sender may take a last word of 5xx for every recipient's: 4xx costs the others no more than a retry.
_DEFERRED = Reply.of(450, "4.0.0", "Not taken for any recipient now; each has its own reply")
_REFUSED = Reply.of(550, "5.0.0", "Not taken for any recipient; each has its own reply")


def block(replies: Sequence[Reply]) -> Sequence[Reply]:
    """What to say after the end of data, given the reply for each recipient, in order."""
    if len(set(replies)) == 1:
        return replies[:1]
    return (_BEGIN, *replies, _last_word(replies))


def _last_word(replies: Sequence[Reply]) -> Reply:
    if any(reply.is_positive for reply in replies):
        return _TAKEN
    return _REFUSED if all(reply.is_permanent for reply in replies) else _DEFERRED
