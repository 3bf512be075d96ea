"""Verdicts: what a policy may answer, and the replies each reason has by default.

Three texts for three readers: `reason` is a stable slug for logs, metrics and scripts; `text` is
for the client, generic, and discloses nothing; `detail` is for the operator's record only.
"""

import enum
import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from gateway.smtp.address import Path, parse_address
from gateway.smtp.reply import Reply
from gateway.smtp.transaction import Stage
from policies.effects import AddRecipient, Copy, Effect, HeaderField, Redirect, SubjectPrefix

_SLUG = re.compile(r"[a-z0-9]+(?:-[a-z0-9]+)*")


class Decision(enum.Enum):
    """What a verdict does to the mail."""

    REJECT = "reject"
    TEMPFAIL = "tempfail"
    ACCEPT = "accept"
    QUARANTINE = "quarantine"
    DISCARD = "discard"
    # What follows changes the message, and the next policy is asked.
    MARK = "mark"
    SUBJECT = "subject"
    COPY = "copy"
    REDIRECT = "redirect"
    ADD_RECIPIENT = "add-recipient"


# What `reject` and `tempfail` say unless they are told otherwise.
_USUAL = {Decision.REJECT: (550, "5.7.1"), Decision.TEMPFAIL: (451, "4.7.1")}
# The class of reply codes each decision speaks with.
_CLASSES = {Decision.REJECT: 5, Decision.TEMPFAIL: 4, Decision.QUARANTINE: 2, Decision.DISCARD: 2}
_DECIDED = frozenset({Decision.ACCEPT, *_CLASSES})
_ANY = frozenset(Stage)
_END = frozenset({Stage.END_OF_DATA})
# When there is something to do it to.
_STAGES = {
    **dict.fromkeys((Decision.QUARANTINE, Decision.DISCARD, Decision.COPY, Decision.ADD_RECIPIENT), _END),
    Decision.REDIRECT: _END | {Stage.RCPT},
}


@dataclass(frozen=True, slots=True)
class Verdict:
    """A policy's answer. Build it with the functions of this module; `a & b` joins two.

    `effects` are done to a message that goes on. `exempt_from` names the policies that are not asked
    any more after an `accept`; empty, that are all. `recipients` are those whom a refusal at the end
    of data is about, `None` for everybody.

    Raises ValueError when built from a malformed reason, or with a reply that contradicts the
    decision. So a slip in a policy is a `policy-error`, and never a message that was refused with 250.
    """

    decision: Decision
    reason: str
    reply: Reply | None = None
    detail: str = ""
    effects: tuple[Effect, ...] = ()
    exempt_from: frozenset[str] = frozenset()
    recipients: frozenset[Path] | None = None

    def __post_init__(self) -> None:
        if not _SLUG.fullmatch(self.reason):
            raise ValueError(f"reason {self.reason!r} is not a kebab-case slug")
        _check_reply(self.decision, self.reply)
        if self.decision not in _DECIDED and not self.effects:
            raise ValueError(f"{self.decision.value} without anything to do")
        if self.is_refusal and not all(isinstance(effect, Copy) for effect in self.effects):
            raise ValueError("what is refused cannot be changed, only copied into the quarantine")

    def __and__(self, other: "Verdict") -> "Verdict":
        """Both: all effects, and the decision of the one that decides. Raises ValueError if both do."""
        if not isinstance(other, Verdict):
            return NotImplemented
        if self.decision in _DECIDED and other.decision in _DECIDED:
            raise ValueError(f"{self.decision.value} and {other.decision.value} cannot both be")
        first = other if other.decision in _DECIDED else self
        details = filter(None, (self.detail, other.detail))
        return Verdict(
            first.decision,
            first.reason,
            first.reply,
            "; ".join(details),
            self.effects + other.effects,
            first.exempt_from,
            first.recipients,
        )

    @property
    def is_refusal(self) -> bool:
        """True for reject and tempfail."""
        return self.decision in {Decision.REJECT, Decision.TEMPFAIL}

    @property
    def is_taking(self) -> bool:
        """True for what is taken from the client and not handed on."""
        return self.decision in {Decision.QUARANTINE, Decision.DISCARD}

    @property
    def ends_judging(self) -> bool:
        """Whether no later policy is asked."""
        return self.decision in _DECIDED and not self.exempt_from

    @property
    def field(self) -> tuple[str, str] | None:
        """Name and value of the first header field that it adds."""
        fields = (effect for effect in self.effects if isinstance(effect, HeaderField))
        return next(((field.name, field.value) for field in fields), None)

    def check_stage(self, stage: Stage) -> None:
        """Raises ValueError where a policy asked at this stage cannot have this verdict."""
        decisions = {self.decision, *(_DECISIONS[type(effect)] for effect in self.effects)}
        for decision in decisions:
            stages = _STAGES.get(decision, _ANY)
            if stage not in stages:
                when = " or ".join(each.value for each in Stage if each in stages)
                raise ValueError(f"{decision.value} is for {when}, not for {stage.value}")
        if self.recipients is not None and stage is not Stage.END_OF_DATA:
            raise ValueError(f"a refusal for some recipients is for end-of-data, not for {stage.value}")

    def as_record(self) -> dict[str, Any]:
        """What the record says beside decision, reason and detail; empty for most.

        Code and status of a refusal only where they are not the usual ones.
        """
        extra: dict[str, Any] = {}
        if self.is_refusal and self.reply is not None:
            spoken = self.reply.code, self.reply.status
            if spoken != _USUAL[self.decision]:
                extra["code"], extra["status"] = spoken
        if self.exempt_from:
            extra["exempt_from"] = sorted(self.exempt_from)
        if self.recipients is not None:
            extra["recipients"] = sorted(map(str, self.recipients))
        if self.effects:
            extra["effects"] = [_effect_record(effect) for effect in self.effects]
        return extra


_DECISIONS: Mapping[type[Effect], Decision] = {
    HeaderField: Decision.MARK,
    SubjectPrefix: Decision.SUBJECT,
    Copy: Decision.COPY,
    Redirect: Decision.REDIRECT,
    AddRecipient: Decision.ADD_RECIPIENT,
}


def _effect_record(effect: Effect) -> dict[str, str]:
    kind = _DECISIONS[type(effect)].value
    match effect:
        case HeaderField(name=name, value=value):
            return {"effect": kind, "name": name, "value": value}
        case Copy(reason=reason):
            return {"effect": kind, "reason": reason}
        case SubjectPrefix(prefix=prefix):
            return {"effect": kind, "prefix": prefix}
        case Redirect(address=address) | AddRecipient(address=address):
            return {"effect": kind, "address": str(address)}


# Reason -> text for the client, where the reason's own words would tell too little or too much.
TEXTS = {
    "spam-score": "Message refused: it looks like spam",
    "virus-found": "Message refused: it contains malware",
    "header-malformed": "Message refused: malformed header section (RFC 5322)",
    "attachment-forbidden": "Message refused: files of this kind are not accepted here, nor in archives",
    "attachment-suspicious": "Message refused: the name of an attached file is misleading",
    "attachment-macros": "Message refused: documents with macros are not accepted here",
    "attachment-encrypted": "Message refused: encrypted attachments cannot be checked",
    "attachment-unreadable": "Message refused: an attached file cannot be checked",
    "bulk-without-unsubscribe": "Message refused: bulk mail needs a List-Unsubscribe field (RFC 2369)",
    "dns-blocklisted": "Refused: your address is on a block list",
    "client-blocked": "Refused: no mail is accepted from your address",
    "sender-blocked": "Refused: no mail is accepted from this sender",
    "recipient-blocked": "No mail is accepted for this recipient",
    "backscatter": "This address has sent nothing that could come back",
    "relay-denied": "Relaying to this recipient is not permitted",
    "unknown-recipient": "No such recipient here",
    "authentication-failed": "Authentication failed",
    "message-too-big": "Message too big",
    "header-too-big": "Header section too big",
    "mail-loop": "Message refused: it goes in circles, too many hosts have handed it on",
    "bare-newline": "Message refused: malformed line end in the content (RFC 5321 section 2.3.8)",
    "extension-missing": "An extension that was offered is not available now, please try again later",
    "evidence-unavailable": "A check is temporarily unavailable, please try again later",
    "scan-skipped": "Message refused: it is too large to be checked",
    "deadline-exceeded": "Checking took too long, please try again later",
    "identity-refused": "You may not say who the client is",
    "internal-error": "Temporary local problem, please try again later",
    "too-many-recipients": "Too many recipients in one transaction",
    "policy-error": "Temporary local problem, please try again later",
    "greylisted": "Please try again later",
    "overloaded": "Too many connections, please try again later",
    "rate-limited": "Too much mail from you, please try again later",
}


def reject(
    reason: str,
    *,
    text: str | None = None,
    detail: str = "",
    code: int = 550,
    status: str = "5.7.1",
    recipients: Collection[Path | str] | None = None,
) -> Verdict:
    """Refuse for good. `code` is 5xx; raises ValueError where it is not or `status` contradicts it.

    `recipients`, at the end of data, are those it is refused for; the others get it. A client that
    takes one reply for all cannot be told so (only PRDR and LMTP have one for each): then all get it,
    unless it is refused for all.
    """
    reply = _reply(code, status, text, reason)
    return Verdict(Decision.REJECT, reason, reply, detail, recipients=_paths(recipients))


def tempfail(
    reason: str,
    *,
    text: str | None = None,
    detail: str = "",
    code: int = 451,
    status: str = "4.7.1",
    recipients: Collection[Path | str] | None = None,
) -> Verdict:
    """Refuse for now. `code` is 4xx; raises ValueError where it is not or `status` contradicts it.

    `recipients` as in `reject`; where one reply is for all, this one comes before a `reject` of others.
    """
    reply = _reply(code, status, text, reason)
    return Verdict(Decision.TEMPFAIL, reason, reply, detail, recipients=_paths(recipients))


def accept(reason: str, *, detail: str = "", exempt_from: Iterable[str] = ()) -> Verdict:
    """Let it pass: no later policy is asked, or none of those that `exempt_from` names."""
    if isinstance(exempt_from, str):
        raise ValueError(f"exempt_from takes names of policies, not the text {exempt_from!r}")  # noqa: TRY004
    return Verdict(Decision.ACCEPT, reason, detail=detail, exempt_from=frozenset(exempt_from))


def mark(name: str, value: str, *, detail: str = "") -> Verdict:
    """Add a header field on top of the message and go on with the next policy.

    Raises ValueError if the name is no field name or the value is not one line of printable ASCII.
    """
    return Verdict(Decision.MARK, "marked", detail=detail, effects=(HeaderField(name, value),))


def subject(prefix: str, *, detail: str = "") -> Verdict:
    """Put words before the message's Subject and go on with the next policy.

    The only change below the fields on top; a signature over the Subject (RFC 6376) breaks by it.
    Raises ValueError where the prefix is not 1 to 60 printable characters.
    """
    return Verdict(Decision.SUBJECT, "subject-prefixed", detail=detail, effects=(SubjectPrefix(prefix),))


def quarantine(reason: str, *, detail: str = "", deliver: bool = False) -> Verdict:
    """Take the message and keep it in the quarantine instead of delivering it; at the end of data.

    The client hears 250 once it is on disk. With `deliver` only a copy is kept, and the next policy
    is asked.
    """
    if deliver:
        return Verdict(Decision.COPY, reason, detail=detail, effects=(Copy(reason),))
    return Verdict(Decision.QUARANTINE, reason, Reply.of(250, "2.0.0", "Message accepted"), detail)


def discard(reason: str, *, detail: str = "") -> Verdict:
    """Take the message and throw it away; at the end of data.

    Nobody is told, neither sender nor recipient: a mistake cannot be undone. `reject` is nearly always
    better. Every use of it is a warning in the log, and the record has the verdict `discarded`.
    """
    return Verdict(Decision.DISCARD, reason, Reply.of(250, "2.0.0", "Message accepted"), detail)


def redirect(address: Path | str, *, detail: str = "") -> Verdict:
    """Send the mail to another recipient, and go on with the next policy.

    At RCPT instead of the one in question, at the end of data instead of all. Some `[[relay]]` must
    know the way there. Raises PathError (a ValueError) for what is no address.
    """
    return Verdict(
        Decision.REDIRECT, "redirected", detail=detail, effects=(Redirect(_forward_path(address)),)
    )


def add_recipient(address: Path | str, *, detail: str = "") -> Verdict:
    """Send the mail to one more recipient, and go on with the next policy; at the end of data.

    It must have the same `[[relay]]` as the others: who else could say whether all of them got it?
    Raises PathError (a ValueError) for what is no address.
    """
    added = AddRecipient(_forward_path(address))
    return Verdict(Decision.ADD_RECIPIENT, "recipient-added", detail=detail, effects=(added,))


def _forward_path(address: Path | str) -> Path:
    path = parse_address(address) if isinstance(address, str) else address
    if path.is_null:
        raise ValueError("the null path is no recipient")
    return path


def _paths(recipients: Collection[Path | str] | None) -> frozenset[Path] | None:
    return None if recipients is None else frozenset(map(_forward_path, recipients))


def _reply(code: int, status: str, text: str | None, reason: str) -> Reply:
    default = TEXTS.get(reason, "Message refused" if code >= 500 else "Please try again later")
    return Reply.of(code, status, default if text is None else text)


def _check_reply(decision: Decision, reply: Reply | None) -> None:
    wanted = _CLASSES.get(decision)
    actual = None if reply is None else reply.code // 100
    if actual != wanted:
        allowed = "no reply" if wanted is None else f"a {wanted}xx code"
        raise ValueError(f"{decision.value} takes {allowed}, not {reply and reply.code}")
