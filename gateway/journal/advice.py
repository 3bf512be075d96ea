"""What would have changed a decision: from its reason and its evidence, to what an operator can do.

Pure. Speaks of options by their names in the configuration file, and never recommends anything:
whether the decision was right is not known here.
"""

from collections.abc import Callable, Iterator
from typing import Any

from gateway.journal.deeds import deeds, orders, wishes
from gateway.journal.record import Record
from gateway.journal.tracebacks import essence, place

_Advice = Iterator[str]

# Reasons that say no more than what was done.
_OF_EFFECTS = frozenset({"marked", "subject-prefixed", "redirected", "recipient-added"})


def what_would_change(record: Record) -> list[str]:
    """One sentence for each thing that would have led to another verdict; at least one."""
    if record.verdict == "accepted":
        return list(_of_accepted(record)) or ["No filter and no policy had anything against it."]
    special = _BY_REASON.get(record.reason)
    if special is None and record.reason.startswith("downstream-"):
        special = _of_downstream
    sentences = list(special(record)) if special else []
    if record.reason == "relay-denied":
        return sentences  # "warn" would not help: there is nobody to relay the mail to
    if is_death(record):
        return sentences  # nor would it here: a policy in that mode is asked all the same
    return [*sentences, *_of_policy(record, explained=bool(sentences))]


def is_death(record: Record) -> bool:
    """Whether the worker ended in the middle of a policy: what was known until then ended with it."""
    return record.verdict == "aborted" and record.reason == "policy-error"


def _of_policy(record: Record, *, explained: bool) -> _Advice:
    """What is true of every policy; without one, and nothing said yet, that it is a rule of the gateway."""
    if record.policy is not None:
        if not explained:
            yield f"Policy {record.policy} decided {record.reason}; its options: [policies.{record.policy}]."
        yield f'With mode = "warn" in [policies.{record.policy}] it is only recorded, and the mail goes on.'
    elif not explained:
        yield f"The gateway itself decided {record.reason}; no policy or filter has a say in that."


def _of_accepted(record: Record) -> _Advice:
    for wish in wishes(record):
        reason = "" if wish.reason in _OF_EFFECTS else f": {wish.reason}"
        yield f'Policy {wish.policy} in mode = "enforce" would have {wish.phrase}{reason}.'
    yield from _of_failures(record)
    for policy in dict.fromkeys(deed.policy for deed in deeds(record)):
        yield f'With mode = "warn" in [policies.{policy}] what policy {policy} did is only recorded.'
    if record.policy is not None:
        yield f"Policy {record.policy} accepted it for {record.reason}: without it, later policies are asked."
    for source, failure, option in _failures(record):
        yield f'Filter {source} gave no finding ({failure}): {option} = "tempfail" refuses such mail for now.'


def _of_failures(record: Record) -> _Advice:
    """Policies that failed, and the mail passed."""
    for policy, opinion in record.opinions.items():
        if opinion.get("reason") == "policy-error":
            yield f"Policy {policy} failed: {_failure(str(opinion.get('detail') or 'no detail'))}."
            if opinion.get("mode") == "enforce":
                yield f'on_error = "tempfail" in [policies.{policy}] refuses such mail for now.'


def _failure(detail: str) -> str:
    """What happened, and where in the policy."""
    return ", at ".join(filter(None, (essence(detail), place(detail))))


def _of_spam_score(record: Record) -> _Advice:
    """By whichever scanners gave a score; the policy's detail says what it made of two."""
    policy = record.policy or "spam"
    spamassassin, rspamd = record.evidence.get("SpamReport", {}), record.evidence.get("RspamdReport", {})
    if "score" not in rspamd:
        yield (
            f"Score {spamassassin.get('score', 'unknown')} against reject_score of policy {policy}: "
            "a score below it, or a higher reject_score."
        )
        yield from _of_rules("The", spamassassin)
    elif "score" not in spamassassin:
        yield (
            f"Rspamd's score {rspamd['score']}, action {rspamd.get('action', 'unknown')}, against its "
            f"threshold {rspamd.get('threshold', 'unknown')}: a lower score, or a higher one in its actions."
        )
        yield from _of_rules("The", rspamd)
    else:
        yield (
            f"SpamAssassin's score {spamassassin['score']} against reject_score of policy {policy}, and with "
            f"Rspamd's {rspamd['score']} against mark_score and rspamd_score: lower scores, or higher limits."
        )
        yield from _of_rules("SpamAssassin's", spamassassin)
        yield from _of_rules("Rspamd's", rspamd)


def _of_rules(whose: str, report: dict[str, Any]) -> _Advice:
    rules = report.get("rules")
    if isinstance(rules, list) and rules:
        yield f"{whose} score is the sum of these rules: {' '.join(map(str, rules))}."


def _of_virus(record: Record) -> _Advice:
    signature = record.evidence.get("VirusReport", {}).get("signature") or record.detail
    yield f"A message without {signature}; a false alarm ends with the scanner's list of what to ignore."


def _of_blocklist(record: Record) -> _Advice:
    listings = record.evidence.get("Listings", {})
    zones = listings.get("zones")
    if isinstance(zones, dict) and zones:
        yield f"{record.client.address} is listed by {', '.join(map(str, zones))}: not being listed there."
    yield (
        f"Weight {listings.get('total', 'unknown')} against reject_weight "
        f"of policy {record.policy or 'blocklist'}: smaller ones in [filters.dnsbl.zones], or a higher one."
    )


def _of_relay_denied(record: Record) -> _Advice:
    domains = sorted({recipient.rpartition("@")[2] for recipient in record.recipients})
    yield f"{', '.join(domains) or 'The domain'} is in the domains of no [[relay]]: an entry that has it."


def _of_header(record: Record) -> _Advice:
    yield f"A header section without {record.detail or 'its faults'}; see RFC 5322 section 3.6."
    yield (
        f"Those that refuse, named in ignore or only_mark of [policies.{record.policy or 'header_sanity'}]; "
        "what clients that log in leave out is no fault."
    )


def _of_attachment(record: Record) -> _Advice:
    """`detail` begins with the option that decided; see policies/attachments.py."""
    option, _, what = record.detail.partition(": ")
    policy = record.policy or "attachments"
    if not what:
        yield f"A message without what its files have; the options of [policies.{policy}]."
        return
    yield f"A message without what was found: {what}."
    yield f'{option} = "mark" or "accept" in [policies.{policy}] lets such mail pass.'


def _of_list(record: Record) -> _Advice:
    """`detail` says who is on which list by which entry; see the policies `blocked_*`."""
    policy = record.policy or record.reason
    yield f"{record.detail or 'It is on a list'} of [policies.{policy}]: without that entry."
    yield "An entry in the list of an allowed_ policy that stands before it, and exempts from it."


def _of_backscatter(record: Record) -> _Advice:
    yield (
        f"{record.detail or 'It is a bounce'}: an address that sends mail, and is in senders "
        f"of [policies.{record.policy or 'backscatter'}]; see tagged and max_recipients there as well."
    )


def _of_failed_filter(record: Record) -> _Advice:
    for source, failure, option in _failures(record):
        yield f"Filter {source} gave no answer ({failure}): an answer from it."
        yield f'{option} = "accept" in [filters.{source}] lets mail pass without it, and its header says so.'


def _failures(record: Record) -> Iterator[tuple[str, str, str]]:
    """Filters that gave no finding: name, what happened, and the option that says what it means."""
    for fields in record.evidence.values():
        for option in ("unavailable", "skipped"):
            if option in fields:
                yield str(fields.get("source", "unknown")), f"{option}: {fields[option]}", option


def _of_policy_error(record: Record) -> _Advice:
    failure = _failure(record.detail or "no detail")
    if record.policy is None:
        yield from _of_bad_address(record)
    elif is_death(record):
        yield f"Policy {record.policy} ended its worker: {failure}."
        yield (
            f'A policy {record.policy} that does not, or mode = "off" in [policies.{record.policy}]; '
            '"warn" does not help, for then it is asked as well.'
        )
    elif failure.startswith("interrupted: "):
        yield f"Policy {record.policy} was {failure}; the limits: policy_time, policy_memory in [gateway]."
    else:
        yield f"Policy {record.policy} must not raise; it did: {failure}"


def _of_bad_address(record: Record) -> _Advice:
    """The gateway could not do what a policy wanted: the mail would go where there is no way to."""
    yield f"Where a policy sends it, it cannot go: {record.detail}."
    yield "Another address in the policy, or the address's domain in the right [[relay]] entry."
    senders = [order.policy for order in orders(record) if order.kind in {"redirect", "add-recipient"}]
    for policy in dict.fromkeys(senders):
        yield f'With mode = "warn" in [policies.{policy}] it is only recorded, and the mail goes on.'


def _of_unknown_recipient(record: Record) -> _Advice:
    recipients = " ".join(record.recipients) or "such recipient"
    yield f"The downstream MTA knows no {recipients}: a mailbox or alias there."


def _of_downstream(record: Record) -> _Advice:
    if record.downstream is None:
        yield "The downstream MTA could not be reached: see [[relay]] address, and whether it runs."
        return
    said = record.downstream.reply or "nothing"
    yield f"{record.downstream.address} said {said!r}: another answer from it; the client was told the same."


def _saying(*sentences: str) -> Callable[[Record], _Advice]:
    """Advice that is the same for every record."""

    def advice(record: Record) -> _Advice:
        yield from sentences

    return advice


_BY_REASON: dict[str, Callable[[Record], _Advice]] = {
    "spam-score": _of_spam_score,
    "virus-found": _of_virus,
    "dns-blocklisted": _of_blocklist,
    "header-malformed": _of_header,
    **dict.fromkeys(
        (
            *("attachment-encrypted", "attachment-forbidden", "attachment-macros"),
            *("attachment-suspicious", "attachment-unreadable"),
        ),
        _of_attachment,
    ),
    **dict.fromkeys(("client-blocked", "recipient-blocked", "sender-blocked"), _of_list),
    "backscatter": _of_backscatter,
    "bulk-without-unsubscribe": _saying(
        "A List-Unsubscribe field with a way out of the list (RFC 2369, RFC 8058).",
        'action = "mark" in [policies.bulk] lets such mail pass, with a mark.',
    ),
    "relay-denied": _of_relay_denied,
    "evidence-unavailable": _of_failed_filter,
    "scan-skipped": _of_failed_filter,
    "policy-error": _of_policy_error,
    "unknown-recipient": _of_unknown_recipient,
    "greylisted": _saying("Time: the same client, sender and recipient are let pass at a later attempt."),
    "rate-limited": _saying(
        "Time, or fewer messages from this client; the limit is an option of the rate filter."
    ),
    "message-too-big": _saying("A smaller message, or a larger max_message_size in [gateway]."),
    "bare-newline": _saying(
        "A client that ends every line with CR LF (RFC 5321 section 2.3.8).",
        'bare_newline = "normalize" in the [[listener]] takes such mail, and rewrites it.',
    ),
    "dmarc-failed": _saying(
        "An SPF or DKIM result that passes and agrees with the From domain, or another policy of that domain."
    ),
    "deadline-exceeded": _saying("Faster filters or a faster downstream, or a larger deadline in [gateway]."),
    "overloaded": _saying("Fewer connections at once, or a larger max_connections in the [[listener]]."),
    "other-profile": _saying(
        "Nothing need: the sender tries this recipient again, in a transaction of its own."
    ),
    "client-disconnected": _saying("A client that waits for the answer; it hung up before there was one."),
}
