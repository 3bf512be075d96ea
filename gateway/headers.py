"""The header fields the gateway adds on top, and the forged copies of them that it takes out.

This is the only place where content differs from what was received: everything else is passed on
octet for octet, below the border that `smtp/header.py` puts between it and our fields.
"""

import re
from collections.abc import Iterator, Sequence
from email.header import Header
from typing import TypeVar

from filters.evidence import Finding, RspamdReport, SpamReport, VirusReport
from gateway.casefile import CaseFile
from gateway.smtp.message import Content, Message
from gateway.smtp.reply import printable
from policies.effects import SubjectPrefix

_MAX_LINE = 78
F = TypeVar("F", bound=Finding)
_Edit = tuple[int, int, bytes]  # where it starts and ends, and what is to stand there
# Fields of these names can only come from us; another's Authentication-Results may stay (RFC 8601
# section 5), unless it claims our name.
_OURS = frozenset({"x-spam-flag", "x-spam-score", "x-spam-status", "x-virus-scanned"})
# Of this one there is one, the last that a policy has said.
_FLAG = "X-Spam-Flag"
_OUR_PREFIX = "x-sluicegate-"
# Quoted pairs, borders of comments, and everything else (RFC 5322 section 3.2).
_TOKEN = re.compile(rb"\\.|[()]|[^\\()]+|\\", re.DOTALL)


def header_block(case: CaseFile, received: bytes, reference: str, hostname: str) -> bytes:
    """All fields that go on top of the message, the Received field first, CRLF included."""
    return received + b"".join(fields_on_top(case, reference, hostname))


def fields_on_top(case: CaseFile, reference: str, hostname: str) -> list[bytes]:
    """The fields that say what became of the message, from the top down; each is folded, CRLF included."""
    marks = list(dict.fromkeys(case.marks))
    flags = [value for name, value in marks if name == _FLAG]
    fields = [
        (_FLAG, flags[-1] if flags else None),
        *_spam_fields(case),
        ("X-Virus-Scanned", _virus_field(case, hostname)),
        ("X-Sluicegate-Unscanned", ", ".join(case.unscanned) or None),
        ("X-Sluicegate-Reference", reference),
        *((name, value) for name, value in marks if name != _FLAG),
    ]
    return [_fold(f"{name}: {value}").encode("ascii") for name, value in fields if value is not None]


def _spam_fields(case: CaseFile) -> Iterator[tuple[str, str]]:
    """SpamAssassin's score and opinion, and Rspamd's in a field of ours; without the first, Rspamd's instead.

    These are the scanners' own words, whatever a policy makes of them.
    """
    report, rspamd = _found(case, SpamReport), _found(case, RspamdReport)
    if report is not None:
        required = f" required={report.threshold:.1f}"
        yield from _spam_status(report.score, report.score >= report.threshold, required, report.rules)
        if rspamd is not None:
            action = printable(rspamd.action)[:_MAX_LINE]
            yield "X-Sluicegate-Rspamd", f"{action}, score={rspamd.score:.1f} required={rspamd.threshold:.1f}"
    elif rspamd is not None:
        # What it requires is for a refusal, and "Yes" is said of less.
        yield from _spam_status(rspamd.score, rspamd.is_suspicious, "", rspamd.rules)


def _spam_status(
    score: float, is_spam: bool, required: str, rules: Sequence[str]
) -> Iterator[tuple[str, str]]:
    yield "X-Spam-Score", f"{score:.1f}"
    # A rule's name is whatever the scanner said.
    tests = " ".join(printable(rule)[:_MAX_LINE] for rule in rules) or "none"
    yield "X-Spam-Status", f"{'Yes' if is_spam else 'No'}, score={score:.1f}{required} tests={tests}"


def _found(case: CaseFile, kind: type[F]) -> F | None:
    """The finding of that type, if there is one."""
    gathered = case.evidence.get(kind)
    return gathered.outcome if gathered is not None and isinstance(gathered.outcome, kind) else None


def _virus_field(case: CaseFile, hostname: str) -> str | None:
    gathered = case.evidence.get(VirusReport)
    if gathered is None or not isinstance(gathered.outcome, VirusReport):
        return None
    return f"{gathered.source} at {hostname}"


def _fold(line: str) -> str:
    """One header line, folded at blanks so that no line is longer than people like them."""
    folded: list[str] = []
    room = _MAX_LINE
    for word in line.split(" "):
        if folded and len(word) >= room:
            folded.append("\r\n\t" + word)
            room = _MAX_LINE - len(word)
        else:
            folded.append(" " + word if folded else word)
            room -= len(word) + 1
    return "".join(folded) + "\r\n"


def relayed(case: CaseFile, block: bytes, message: Message, hostname: str) -> Iterator[bytes]:
    """The message as it is passed on: our block, the header section without forgeries, the rest.

    With the words that policies want before the Subject, which is the only other change.
    """
    edits = [
        (field.start, field.end, b"")
        for field in message.fields
        if is_forgery(field.name, field.value, hostname)
    ]
    subject = next((field for field in message.fields if field.name == "subject"), None)
    instead = subject_instead(case, subject.value if subject else b"")
    if instead and subject:
        edits = sorted([*edits, (subject.start, subject.end, instead)])
    elif instead:
        block += instead
    block += message.border
    if not edits:
        yield block
        yield from message.content.chunks()
        return
    yield block + _edited(message.content, edits)
    yield from message.content.chunks(edits[-1][1])


def subject_instead(case: CaseFile, value: bytes) -> bytes | None:
    """The Subject field with the words that policies want before its value, if they want any.

    They are on a line of their own if they are many. `value` is what stands behind the colon now, folds
    kept; what is returned is the whole field, CRLF included.
    """
    prefix = " ".join(each.prefix.strip() for each in case.effects if isinstance(each, SubjectPrefix))
    if not prefix:
        return None
    words = (
        prefix.encode("ascii") if prefix.isascii() else Header(prefix, "utf-8", 60).encode().encode("ascii")
    )
    line = b"Subject: " + words.replace(b"\n", b"\r\n")
    value = value.strip()
    if not value:
        return line + b"\r\n"
    fits = len(line) + 1 + len(value.partition(b"\r\n")[0]) <= _MAX_LINE
    return line + (b" " if fits else b"\r\n ") + value + b"\r\n"


def is_forgery(name: str, value: bytes, hostname: str) -> bool:
    """Whether only we may add this field; `name` is in lower case."""
    return (
        name in _OURS
        or name.startswith(_OUR_PREFIX)
        or (name == "authentication-results" and _claims(value, hostname))
    )


def _claims(value: bytes, hostname: str) -> bool:
    """Whether an Authentication-Results value begins with our authserv-id (RFC 8601 section 2.2)."""
    # Quotes are of use only around what is no host name.
    words = re.split(rb"[\s;/]+", _without_comments(value.replace(b'"', b"")).strip(), maxsplit=1)
    return words[0].lower() == hostname.lower().encode("ascii", "replace")


def _without_comments(value: bytes) -> bytes:
    """A blank for each comment, those with comments inside included; quoted pairs undone."""
    kept, depth = [], 0
    for token in _TOKEN.findall(value):
        if token == b"(":
            depth += 1
        elif token == b")" and depth:
            depth -= 1
            kept.append(b" ")
        elif not depth:
            kept.append(token.removeprefix(b"\\"))
    return b"".join(kept)


def _edited(content: Content, edits: list[_Edit]) -> bytes:
    """The beginning of the content up to the end of the last edit, the edits made."""
    head = content.head(edits[-1][1])
    kept, at = [], 0
    for start, end, instead in edits:
        kept += [head[at:start], instead]
        at = end
    return b"".join(kept)
