"""What policies did to a message, or would have done, from the opinions in its record.

Pure. Phrases go with "it has" and with "it would have": kept, sent, refused.
"""

from collections.abc import Iterator, Mapping
from typing import Any, Final, NamedTuple

from gateway.journal.record import Record

_WOULD: Final = "would-"
_DECISIONS: Final = {
    "reject": "refused it",
    "tempfail": "refused it for now",
    "accept": "accepted it",
    "quarantine": "kept it in the quarantine instead of delivering it",
    "discard": "dropped it, and told nobody",
}
# What is visible in a message that is kept; nobody has sent that anywhere.
_IN_CONTENT: Final = frozenset({"mark", "subject"})


class Deed(NamedTuple):
    """One thing that a policy did or would have done; `kind` is `mark`, `copy`, `would-reject`, ...

    `what` tells it from others of its kind: the field's name, the address, or else the reason. `phrase`
    says all of it for people. `is_kept` is true for what is in the quarantine.
    """

    policy: str
    kind: str
    reason: str
    what: str
    phrase: str
    is_kept: bool = False


def wishes(record: Record) -> Iterator[Deed]:
    """What policies in warn mode would have done, each of them everything that they said."""
    for policy, opinion in record.opinions.items():
        verdict = str(opinion.get("verdict") or "")
        if verdict.startswith(_WOULD):
            kind = verdict.removeprefix(_WOULD)
            reason = str(opinion.get("reason", ""))
            if kind in _DECISIONS:
                yield Deed(policy, verdict, reason, reason, _decision(kind, opinion))
            for deed in _effects(policy, opinion):
                yield deed._replace(kind=_WOULD + deed.kind)


def deeds(record: Record) -> list[Deed]:
    """What policies did to the message beside refusing or accepting it, as far as it came to pass."""
    done = [deed for deed in orders(record) if _came_to_pass(record, deed.kind)]
    # Of two who send it elsewhere, the last one does.
    places = [deed for deed in done if deed.kind == "redirect"]
    return [deed for deed in done if deed not in places[:-1]]


def taking(record: Record) -> Deed | None:
    """That the message was taken and not delivered, if it was."""
    kind = {"quarantined": "quarantine", "discarded": "discard"}.get(record.verdict)
    if kind is None:
        return None
    policy, reason = record.policy or "unknown", record.reason
    if is_held(record):
        return Deed(policy, kind, reason, reason, "had the MTA hold it instead of delivering it")
    return Deed(policy, kind, reason, reason, _DECISIONS[kind], is_kept=kind == "quarantine")


def is_held(record: Record) -> bool:
    """Whether the message waits in the queue of the MTA that asked, instead of in our quarantine."""
    return record.verdict == "quarantined" and record.mta is not None


def orders(record: Record) -> Iterator[Deed]:
    """What policies in force wanted done to the message, whether or not it came to pass."""
    for policy, opinion in record.opinions.items():
        if opinion.get("mode") == "enforce":
            yield from _effects(policy, opinion)


def _came_to_pass(record: Record, kind: str) -> bool:
    match record.verdict:
        case "accepted":
            return True
        case "quarantined":
            return kind in _IN_CONTENT
        case "rejected":
            return kind == "copy" and _is_refused_whole(record)
        case _:
            return False


def _is_refused_whole(record: Record) -> bool:
    """Refused by a policy at the end of data and not to some recipients alone: copies are of that."""
    if record.stage != "end-of-data" or record.policy is None:
        return False
    deciding = record.opinions.get(record.policy, {})
    return not (record.answers_for_each and "recipients" in deciding)


def _decision(kind: str, opinion: Mapping[str, Any]) -> str:
    """What it is about beside the message: some recipients, some policies."""
    phrase = _DECISIONS[kind]
    if "recipients" in opinion:
        return f"{phrase} for {_names(opinion['recipients'])}"
    if "exempt_from" in opinion:
        return f"exempted it from {_names(opinion['exempt_from'])}"
    return phrase


def _effects(policy: str, opinion: Mapping[str, Any]) -> Iterator[Deed]:
    effects = opinion.get("effects")
    for effect in effects if isinstance(effects, list) else ():
        if not isinstance(effect, Mapping):
            continue
        kind, reason = str(effect.get("effect")), str(effect.get("reason") or opinion.get("reason", ""))
        named = (effect.get(name) for name in ("name", "prefix", "address"))
        what = next((str(name) for name in named if name is not None), reason)
        yield Deed(policy, kind, reason, what, _phrase(kind, effect, opinion), is_kept=kind == "copy")


def _phrase(kind: str, effect: Mapping[str, Any], opinion: Mapping[str, Any]) -> str:
    match kind:
        case "mark":
            return f"added {effect.get('name')}: {effect.get('value')}"
        case "subject":
            return f"put {effect.get('prefix')!r} before its Subject"
        case "copy":
            return "kept a copy of it in the quarantine"
        case "redirect":
            whose = "the recipient in question" if opinion.get("stage") == "rcpt" else "its recipients"
            return f"sent it to {effect.get('address')} instead of {whose}"
        case "add-recipient":
            return f"sent it to {effect.get('address')} as well"
        case _:
            return kind


def _names(names: object) -> str:
    return " ".join(map(str, names)) if isinstance(names, list) else str(names)
