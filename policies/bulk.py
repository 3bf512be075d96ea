"""Mark bulk mail that offers no way out of the list."""

import re
from typing import Literal

from policies import Evidence, Stage, Transaction, Verdict, mark, policy, quarantine, reject, subject

_PRECEDENCES = frozenset({"bulk", "junk", "list"})
# RFC 2369, RFC 2919, and what large mailbox providers ask of those who send in bulk.
_SIGNS = (
    *("List-Archive", "List-Help", "List-Id", "List-Owner", "List-Post", "List-Subscribe"),
    *("List-Unsubscribe", "Feedback-ID"),
)
# What somebody can follow or write to (RFC 2369 section 3.2).
_WAY_OUT = re.compile(r"<\s*(?:https?://|mailto:)[^\s>]", re.IGNORECASE)


@policy(at=Stage.END_OF_DATA)
def bulk(
    tx: Transaction,
    evidence: Evidence,
    *,
    action: Literal["mark", "quarantine", "reject"] = "mark",
    subject_prefix: str = "",
    one_click: bool = False,
) -> Verdict | None:
    """Mark bulk mail without a usable List-Unsubscribe field (RFC 2369) with `X-Bulk: YES`.

    Bulk is what says so itself by a Precedence, List- or Feedback-ID field. Bounces and answers of
    machines (RFC 3834) are not. With `one_click` a web address that takes RFC 8058's one-click
    unsubscription is wanted. `subject_prefix` is put before the subject of what is marked. With
    another `action` it is refused or kept.
    """
    if tx.envelope.reverse_path.is_null or _is_automatic(tx):
        return None
    sign = _sign(tx)
    if sign is None or _has_way_out(tx, one_click):
        return None
    if action != "mark":
        return (reject if action == "reject" else quarantine)("bulk-without-unsubscribe", detail=sign)
    verdict = mark("X-Bulk", "YES", detail=sign)
    return verdict & subject(subject_prefix) if subject_prefix else verdict


def _is_automatic(tx: Transaction) -> bool:
    value = tx.message.header("auto-submitted")
    return value is not None and value.lower() != "no"


def _sign(tx: Transaction) -> str | None:
    """What tells bulk mail, or `None`."""
    precedence = (tx.message.header("precedence") or "").lower()
    if precedence in _PRECEDENCES:
        return f"has Precedence: {precedence}"
    return next((f"has {name}" for name in _SIGNS if tx.message.header(name) is not None), None)


def _has_way_out(tx: Transaction, one_click: bool) -> bool:
    ways = " ".join(tx.message.headers("list-unsubscribe"))
    if not one_click:
        return _WAY_OUT.search(ways) is not None
    says = (tx.message.header("list-unsubscribe-post") or "").lower().replace(" ", "")
    return "<https:" in ways.lower().replace(" ", "") and says == "list-unsubscribe=one-click"
