"""Verdicts: what a policy may answer, and the replies each reason has by default.

Three texts for three readers: `reason` is a stable slug for logs, metrics and scripts; `text` is
for the client, generic, and discloses nothing; `detail` is for the operator's record only.
"""

import enum
import re
from dataclasses import dataclass

from gateway.smtp.reply import Reply

_SLUG = re.compile(r"[a-z0-9]+(?:-[a-z0-9]+)*")
_FIELD_NAME = re.compile(r"[!-9;-~]+")
_FIELD_VALUE = re.compile(r"[ -~\t]*")


class Decision(enum.Enum):
    """What a verdict does to the mail."""

    REJECT = "reject"
    TEMPFAIL = "tempfail"
    ACCEPT = "accept"
    MARK = "mark"


# The class of reply codes each refusal speaks with.
_CLASSES = {Decision.REJECT: 5, Decision.TEMPFAIL: 4}


@dataclass(frozen=True, slots=True)
class Verdict:
    """A policy's answer. Build it with `reject`, `tempfail`, `accept` or `mark`.

    Raises ValueError when built from a malformed reason or header field, or with a reply that
    contradicts the decision. So a slip in a policy is a `policy-error`, and never a forged header
    field or a message that was refused with 250.
    """

    decision: Decision
    reason: str
    reply: Reply | None = None
    detail: str = ""
    field: tuple[str, str] | None = None

    def __post_init__(self) -> None:
        if not _SLUG.fullmatch(self.reason):
            raise ValueError(f"reason {self.reason!r} is not a kebab-case slug")
        _check_reply(self.decision, self.reply)
        _check_field(self.decision, self.field)

    @property
    def is_refusal(self) -> bool:
        """True for reject and tempfail."""
        return self.decision in {Decision.REJECT, Decision.TEMPFAIL}


# Reason -> text for the client, where the reason's own words would tell too little or too much.
TEXTS = {
    "spam-score": "Message refused: it looks like spam",
    "virus-found": "Message refused: it contains malware",
    "dns-blocklisted": "Refused: your address is on a block list",
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
    reason: str, *, text: str | None = None, detail: str = "", code: int = 550, status: str = "5.7.1"
) -> Verdict:
    """Refuse for good. `code` is 5xx; raises ValueError where it is not or `status` contradicts it."""
    return Verdict(Decision.REJECT, reason, _reply(code, status, text, reason), detail)


def tempfail(
    reason: str, *, text: str | None = None, detail: str = "", code: int = 451, status: str = "4.7.1"
) -> Verdict:
    """Refuse for now. `code` is 4xx; raises ValueError where it is not or `status` contradicts it."""
    return Verdict(Decision.TEMPFAIL, reason, _reply(code, status, text, reason), detail)


def accept(reason: str, *, detail: str = "") -> Verdict:
    """Let it pass: no later policy is asked."""
    return Verdict(Decision.ACCEPT, reason, detail=detail)


def mark(name: str, value: str, *, detail: str = "") -> Verdict:
    """Add a header field on top of the message and go on with the next policy.

    Raises ValueError if the name is no field name or the value is not one line of printable ASCII.
    """
    return Verdict(Decision.MARK, "marked", detail=detail, field=(name, value))


def _reply(code: int, status: str, text: str | None, reason: str) -> Reply:
    default = TEXTS.get(reason, "Message refused" if code >= 500 else "Please try again later")
    return Reply.of(code, status, default if text is None else text)


def _check_reply(decision: Decision, reply: Reply | None) -> None:
    wanted = _CLASSES.get(decision)
    actual = None if reply is None else reply.code // 100
    if actual != wanted:
        allowed = "no reply" if wanted is None else f"a {wanted}xx code"
        raise ValueError(f"{decision.value} takes {allowed}, not {reply and reply.code}")


def _check_field(decision: Decision, field: tuple[str, str] | None) -> None:
    if (field is not None) is not (decision is Decision.MARK):
        raise ValueError("a header field belongs to mark, and to nothing else")
    if field is None:
        return
    name, value = field
    if not _FIELD_NAME.fullmatch(name):
        raise ValueError(f"{name!r} is not a header field name")
    if not _FIELD_VALUE.fullmatch(value):
        raise ValueError(f"value of {name} is not one line of printable ASCII")
