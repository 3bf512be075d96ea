"""Refuse header sections that RFC 5322 forbids and that real mail does not have; mark lesser faults."""

import re
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Literal

from policies import Evidence, Stage, Transaction, Verdict, mark, policy, reject

Rule = Literal[
    "bad-date",
    "broken-header",
    "control-character",
    "date-in-future",
    "date-in-past",
    "encoded-address",
    "long-line",
    "missing-date",
    "missing-from",
    "missing-message-id",
    "no-address",
    "nul-character",
    "repeated-field",
    "repeated-mime-version",
]

# What good mail has as well, if rarely; measured on some thousand messages.
_LESSER: frozenset[Rule] = frozenset(
    {
        *("broken-header", "control-character", "date-in-future", "date-in-past", "long-line"),
        *("missing-message-id", "repeated-mime-version"),
    }
)
# RFC 5322 section 3.6, RFC 2045 section 3: there is at most one of each.
_SINGLE = (
    *("from", "sender", "reply-to", "to", "cc", "message-id", "subject", "date"),
    *("content-type", "content-transfer-encoding"),
)
# An address, or a group without one (RFC 6854).
_ADDRESS = re.compile(rb"[^\s<>@,;:]@[^\s<>@,;:]|:\s*;")
# RFC 2047 section 5 (3): what is an address is no text to encode.
_ENCODED_WORD = rb"=\?[^\s?<>]+\?[BbQq]\?[^?<>]*\?="
_ENCODED_ADDRESS = re.compile(rb"<[^<>\"]*%s|%s@" % (_ENCODED_WORD, _ENCODED_WORD))
_CONTROL = re.compile(rb"[\x01-\x08\x0b\x0c\x0e-\x1f\x7f]")
# RFC 5322 section 2.1.1: 998 octets, and the CR.
_LONG_LINE = re.compile(rb"(?m)^[^\n]{1000}")
_FUTURE, _PAST = timedelta(days=2), timedelta(days=365)


@policy(at=Stage.END_OF_DATA)
def header_sanity(
    tx: Transaction,
    evidence: Evidence,
    *,
    ignore: frozenset[Rule] = frozenset(),
    only_mark: frozenset[Rule] = _LESSER,
) -> Verdict | None:
    """Reject a message whose header section breaks a rule, except those to `ignore`.

    Where it only breaks rules in `only_mark`, it gets the field `X-Sluicegate-Header` with their
    names. What clients that logged in leave out is added downstream (RFC 6409 section 8), and bounces
    may come from a `MAILER-DAEMON` without a domain: neither is a fault.
    """
    faults = sorted({*_faults(tx)} - ignore)
    if not faults:
        return None
    names = ", ".join(faults)
    if only_mark.issuperset(faults):
        return mark("X-Sluicegate-Header", names, detail=names)
    return reject(
        "header-malformed",
        text=f"Message refused: malformed header section (RFC 5322): {names}",
        detail=names,
    )


def _faults(tx: Transaction) -> Iterator[str]:
    count = Counter(field.name for field in tx.message.fields)
    if any(count[name] > 1 for name in _SINGLE):
        yield "repeated-field"
    if count["mime-version"] > 1:
        yield "repeated-mime-version"
    if tx.session.authenticated is None:
        yield from (f"missing-{name}" for name in ("from", "date", "message-id") if not count[name])
    yield from _faults_of_octets(tx)
    yield from _faults_of_author(tx)
    yield from _faults_of_date(tx)


def _faults_of_octets(tx: Transaction) -> Iterator[str]:
    """Of the header section as a whole: where it ends, and what must not be in it."""
    end = tx.message.fields[-1].end if tx.message.fields else 0
    head = tx.message.content.head(end + 1)
    section, behind = head[:end], head[end:]
    if behind not in {b"", b"\r", b"\n"}:
        yield "broken-header"
    if b"\0" in section:
        yield "nul-character"
    if _CONTROL.search(section):
        yield "control-character"
    if _LONG_LINE.search(section):
        yield "long-line"


def _faults_of_author(tx: Transaction) -> Iterator[str]:
    author = tx.message.raw_header("from")
    if author is None:
        return
    if not tx.envelope.reverse_path.is_null and not _ADDRESS.search(author):
        yield "no-address"
    if _ENCODED_ADDRESS.search(author):
        yield "encoded-address"


def _faults_of_date(tx: Transaction) -> Iterator[str]:
    written = tx.message.header("date")
    if written is None:
        return
    date = _moment(written)
    # When it came is in the trace field that it is going to have on top.
    received = _moment(tx.trace.decode("latin-1").rpartition(";")[2])
    if date is None:
        yield "bad-date"
    elif received is not None and date > received + _FUTURE:
        yield "date-in-future"
    elif received is not None and date < received - _PAST:
        yield "date-in-past"


def _moment(text: str) -> datetime | None:
    """A date (RFC 5322 section 3.3, and much that is none); without a zone it is UTC."""
    try:
        moment = parsedate_to_datetime(text.strip()[:200])
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
