"""`header_sanity`: each rule by itself, what good mail looks like, and what only marks."""

import time
from typing import get_args

import pytest

from policies import Transaction, Verdict
from policies.header_sanity import Rule, header_sanity
from policies.testing import evidence, message, session, transaction
from policies.verdict import Decision

GOOD = {
    "From": "Anna <anna@example.net>",
    "To": "b@example.com",
    "Subject": "Hello",
    "Date": "Tue, 24 Nov 2026 12:00:00 +0100",
    "Message-ID": "<1@example.net>",
    "MIME-Version": "1.0",
    "Content-Type": "text/plain",
}
TRACE = b"Received: from a by b;\r\n\tTue, 24 Nov 2026 11:00:07 +0000\r\n"
NEW = "\r\n".join(f"{name}: {value}" for name, value in GOOD.items())


def mail(section: str, sender: str = "anna@example.net", login: str | None = None) -> Transaction:
    return transaction(
        session=session(authenticated=login),
        reverse_path=sender,
        message=message(content=f"{section}\r\n\r\nHello\r\n".encode("latin-1")),
        trace=TRACE,
    )


def without(name: str) -> str:
    return "\r\n".join(f"{key}: {value}" for key, value in GOOD.items() if key != name)


def instead(name: str, value: str) -> str:
    return "\r\n".join(f"{key}: {value if key == name else known}" for key, known in GOOD.items())


def faults(verdict: Verdict | None) -> str:
    return verdict.detail if verdict else ""


REFUSED = {
    "repeated-field": f"{NEW}\r\nsubject : Other",
    "missing-from": without("From"),
    "missing-date": without("Date"),
    "bad-date": instead("Date", "yesterday"),
    "no-address": instead("From", "Anna"),
    "encoded-address": instead("From", "=?utf-8?B?YW5uYQ==?=@example.net, a@b"),
    "nul-character": instead("Subject", "He\0llo"),
}
MARKED = {
    "missing-message-id": without("Message-ID"),
    "repeated-mime-version": f"{NEW}\r\nMIME-Version: 1.0",
    "broken-header": f"{NEW}\r\nno field at all",
    "control-character": instead("Subject", "He\x1bllo"),
    "long-line": instead("Subject", "x" * 990),
    "date-in-future": instead("Date", "Fri, 27 Nov 2026 12:00:00 +0000"),
    "date-in-past": instead("Date", "Thu, 20 Nov 2025 12:00:00 +0000"),
}


def test_every_rule_has_its_row():
    assert set(get_args(Rule)) == {*REFUSED, *MARKED}


@pytest.mark.parametrize(("rule", "section"), REFUSED.items(), ids=REFUSED)
def test_what_real_mail_never_has_is_refused(rule: str, section: str):
    verdict = header_sanity(mail(section), evidence())
    assert verdict is not None
    assert (verdict.decision, verdict.reason, verdict.detail) == (Decision.REJECT, "header-malformed", rule)
    said = f"550 5.7.1 Message refused: malformed header section (RFC 5322): {rule}"
    assert str(verdict.reply) == said


@pytest.mark.parametrize(("rule", "section"), MARKED.items(), ids=MARKED)
def test_what_real_mail_rarely_has_is_marked(rule: str, section: str):
    verdict = header_sanity(mail(section), evidence())
    assert verdict is not None
    assert verdict.field == ("X-Sluicegate-Header", rule)


@pytest.mark.parametrize(("rule", "section"), (REFUSED | MARKED).items(), ids=REFUSED | MARKED)
def test_every_rule_can_be_switched_off_or_made_to_mark_or_to_refuse(rule: Rule, section: str):
    assert header_sanity(mail(section), evidence(), ignore=frozenset({rule})) is None
    marked = header_sanity(mail(section), evidence(), only_mark=frozenset({rule}))
    refused = header_sanity(mail(section), evidence(), only_mark=frozenset())
    assert marked is not None
    assert refused is not None
    assert (marked.decision, refused.decision) == (Decision.MARK, Decision.REJECT)


@pytest.mark.parametrize(
    "section",
    [
        NEW,
        f"{NEW}\r\nReceived: a\r\nReceived: b\r\nComments: a\r\nComments: b",
        f"{NEW}\r\nX-Old : obsolete syntax",
        instead("From", "a@example.net, b@example.net"),
        instead("From", '"Anna, =?utf-8?Q?=40_home?=" <anna@[192.0.2.1]>'),
        instead("From", "Automatic answers:;"),
        instead("From", "\xe4nna@example.net"),
        instead("Subject", "Gr\xfc\xdfe"),
        instead("Subject", "folded\r\n\tand again"),
        instead("Subject", "x" * 989),
        instead("Date", "24 Nov 2026 12:00 EST"),
        instead("Date", "Tue, 24 Nov 2026 12:00:00 +0100 (CET)"),
        instead("Date", "Wed, 25 Nov 2026 23:00:00 -1200"),
        instead("Date", "Tue, 25 Nov 2025 12:00:00 +0000"),
    ],
)
def test_good_mail_has_no_fault(section: str):
    assert header_sanity(mail(section), evidence()) is None


@pytest.mark.parametrize(
    "name",
    [
        *("From", "Sender", "Reply-To", "To", "Cc", "Message-ID", "Subject", "Date"),
        *("Content-Type", "Content-Transfer-Encoding"),
    ],
)
def test_there_is_one_field_of_each(name: str):
    value = GOOD.get(name, "a@example.net")
    twice = f"{without(name)}\r\n{name}: {value}\r\n{name}: {value}"
    assert faults(header_sanity(mail(twice), evidence())) == "repeated-field"
    assert header_sanity(mail(f"{without(name)}\r\n{name}: {value}"), evidence()) is None


def test_a_bounce_may_come_from_a_daemon_without_a_domain():
    section = instead("From", "Mail Delivery Subsystem <MAILER-DAEMON>")
    assert header_sanity(mail(section, sender=""), evidence()) is None
    assert faults(header_sanity(mail(section), evidence())) == "no-address"


def test_a_client_that_logged_in_may_leave_fields_to_the_downstream():
    assert header_sanity(mail("Subject: Hello", login="anna"), evidence()) is None
    assert (
        faults(header_sanity(mail("Subject: Hello"), evidence()))
        == "missing-date, missing-from, missing-message-id"
    )


def test_several_faults_are_named_and_one_that_refuses_decides():
    section = f"{without('Message-ID')}\r\nSubject: Other"
    verdict = header_sanity(mail(section), evidence())
    assert verdict is not None
    assert (verdict.decision, verdict.detail) == (Decision.REJECT, "missing-message-id, repeated-field")
    assert faults(header_sanity(mail(section), evidence(), ignore=frozenset({"repeated-field"}))) == (
        "missing-message-id"
    )


@pytest.mark.parametrize("trace", [b"", b"Received: from a by b", b"Received: from a by b; soon"])
def test_without_knowing_when_it_came_no_date_is_too_early_or_too_late(trace: bytes):
    tx = transaction(message=message(content=f"{MARKED['date-in-past']}\r\n\r\n".encode()), trace=trace)
    assert header_sanity(tx, evidence()) is None


@pytest.mark.parametrize(
    "date", ["", ",", "Mon,", "1 1 1 1 1", "Tue, 99 Nov 2026 12:00:00 +0000", "\xff" * 999]
)
def test_a_date_that_is_none_never_raises(date: str):
    assert faults(header_sanity(mail(instead("Date", date)), evidence())).startswith("bad-date")


@pytest.mark.parametrize("date", ["Mon, 1 Jan 0001 00:00:00 +1400", "Fri, 31 Dec 9999 23:00:00 -1200"])
def test_neither_does_one_at_the_end_of_time(date: str):
    assert faults(header_sanity(mail(instead("Date", date)), evidence())) in {
        *("bad-date", "date-in-past", "date-in-future"),
    }


def test_a_date_without_a_zone_is_utc_wherever_we_are(monkeypatch: pytest.MonkeyPatch):
    section = instead("Date", "26 Nov 2026 11:30:00")
    try:
        with monkeypatch.context() as elsewhere:
            elsewhere.setenv("TZ", "UTC-14")
            time.tzset()
            assert faults(header_sanity(mail(section), evidence())) == "date-in-future"
    finally:
        time.tzset()


def test_a_message_without_a_header_section():
    verdict = header_sanity(transaction(message=message(content=b"")), evidence())
    assert faults(verdict) == "missing-date, missing-from, missing-message-id"
