"""The story of a decision: all of the record is in it, and something that would change it."""

import re
from typing import Any

import pytest

from gateway.journal.advice import what_would_change
from gateway.journal.explain import explain
from gateway.journal.record import ClientRecord, DownstreamRecord, ReplyRecord
from tests.journal.records import make_record

EVIDENCE: dict[str, dict[str, Any]] = {
    "Route": {"domain": "example.com", "source": "route", "elapsed": 0.00001},
    "Listings": {
        "total": 4.0,
        "zones": {"zen.example": ["127.0.0.2", "127.0.0.4"]},
        "source": "dnsbl",
        "elapsed": 0.0123,
    },
    "VirusReport": {"unavailable": "connection refused", "source": "clamav", "elapsed": 1.5},
    "SpamReport": {
        "score": 9.1,
        "threshold": 5.0,
        "rules": ["BAYES_99", "X"],
        "source": "spamd",
        "elapsed": 0.2,
    },
}
RSPAMD: dict[str, Any] = {
    "score": 12.5,
    "threshold": 15.0,
    "action": "add header",
    "rules": ["R_SYMBOL"],
    "source": "rspamd",
}
OPINIONS: dict[str, dict[str, Any]] = {
    "recipients": {"verdict": None, "mode": "enforce", "stage": "rcpt"},
    "fresh": {
        "verdict": "would-reject",
        "mode": "warn",
        "stage": "end-of-data",
        "reason": "too-fresh",
        "detail": "1 day",
    },
    "spam": {
        "verdict": "reject",
        "mode": "enforce",
        "stage": "end-of-data",
        "reason": "spam-score",
        "detail": "9.1",
    },
}
FULL = make_record(
    "Cheap watches",
    spoken="rcpt",
    client=ClientRecord("192.0.2.7", 40001, "mail.sender.example", "helo.example", "TLSv1.3", "someone"),
    recipients=["b@example.com", "c@example.com"],
    evidence=EVIDENCE,
    opinions=OPINIONS,
    downstream=DownstreamRecord("127.0.0.1:10025", "250 2.1.5 Ok"),
    elapsed={"connect": 0.012, "end-of-data": 1.7},
)


def squeezed(text: str) -> str:
    """Runs of blanks as one, so that alignment does not matter."""
    return re.sub(" +", " ", text)


@pytest.mark.parametrize(
    "part",
    [
        f"Reference {FULL.reference}",
        "Verdict rejected: spam-score",
        "Decided by policy spam, at end-of-data, told to the client at rcpt",
        "Detail 9.1 BAYES_99",
        f"When {FULL.time} on mx.test, listener 127.0.0.1:25",
        "Client 192.0.2.7 port 40001, name mail.sender.example, HELO helo.example",
        "helo.example, TLSv1.3, authenticated as someone",
        "Sender Someone@Sender.example",
        "Recipients b@example.com c@example.com",
        "Message 1234 octets",
        "Subject Cheap watches",
        "From A <a@sender.example>",
        "Message-ID <1@sender.example>",
        "Reply 550 5.7.1 Message refused: it looks like spam",
        "Downstream 127.0.0.1:10025 said: 250 2.1.5 Ok",
        "Time taken connect 12.0 ms, end-of-data 1.70 s",
        "Route from route 0.0 ms domain: example.com",
        "Listings from dnsbl 12.3 ms total: 4.0, zones: zen.example=127.0.0.2,127.0.0.4",
        "VirusReport from clamav 1.50 s unavailable: connection refused",
        "SpamReport from spamd 200.0 ms score: 9.1, threshold: 5.0, rules: BAYES_99 X",
        "recipients at rcpt mode enforce no opinion",
        "fresh at end-of-data mode warn would-reject too-fresh: 1 day",
        "spam at end-of-data mode enforce reject spam-score: 9.1",
        "Score 9.1 against reject_score of policy spam",
        'With mode = "warn" in [policies.spam]',
    ],
)
def test_all_of_the_record_is_told(part: str):
    assert part in squeezed(explain(FULL))


def test_nobody_is_told_to_only_warn_of_mail_that_has_nowhere_to_go():
    record = make_record(reason="relay-denied", policy="recipients")
    assert not any("warn" in sentence for sentence in what_would_change(record))


def test_policies_are_told_in_the_order_they_spoke():
    story = explain(FULL)
    assert story.index("  recipients") < story.index("  fresh") < story.index("  spam ")


def test_a_connection_turned_away_is_told_from_the_little_there_is():
    story = squeezed(
        explain(
            make_record(
                verdict="tempfailed",
                stage="connect",
                spoken="connect",
                reason="overloaded",
                policy=None,
                detail="",
                reply=None,
                client=ClientRecord("192.0.2.7", 0),
                reverse_path=None,
                recipients=[],
                message=None,
            )
        )
    )
    for part in (
        "by the gateway itself, at connect",
        "no verified name, no HELO, no TLS",
        "Sender not given yet",
        "Recipients none",
        "Reply none was sent",
        "no filter was asked",
        "none was asked",
        "max_connections",
    ):
        assert part in story


def test_a_traceback_keeps_its_lines_and_its_last_one_is_the_policy_s_opinion():
    detail = 'Traceback (most recent call last):\n  File "x.py", line 3, in mine\nValueError: boom\n'
    opinion = {
        "verdict": "tempfail",
        "mode": "enforce",
        "stage": "rcpt",
        "reason": "policy-error",
        "detail": detail,
    }
    record = make_record(reason="policy-error", policy="mine", detail=detail, opinions={"mine": opinion})
    story = explain(record)
    assert '\n              File "x.py", line 3, in mine\n' in story
    assert "Where       x.py:3, in mine\n" in story
    assert "tempfail policy-error: ValueError: boom" in story
    assert "Policy mine must not raise; it did: ValueError: boom, at x.py:3, in mine" in story


def test_what_a_sender_wrote_cannot_steer_the_terminal():
    nasty = "\x1b[2J\u202e\r\nReference   FAKE-FAKE"
    story = explain(
        make_record(
            nasty,
            client=ClientRecord("192.0.2.7", 1, nasty, nasty),
            reverse_path=nasty,
            recipients=[nasty],
            reply=ReplyRecord(550, None, nasty),
            evidence={nasty: {nasty: nasty, "source": nasty}},
            opinions={nasty: {"verdict": nasty, "detail": nasty}},
        )
    )
    assert all(line.isprintable() for line in story.split("\n"))
    assert not re.search("^Reference +FAKE", story, re.MULTILINE)


@pytest.mark.parametrize(
    ("reason", "fields", "advice"),
    [
        ("spam-score", {"evidence": EVIDENCE}, "9.1 against reject_score of policy spam: a score below it"),
        ("spam-score", {"evidence": EVIDENCE}, "The score is the sum of these rules: BAYES_99 X"),
        (
            "spam-score",
            {"evidence": EVIDENCE | {"RspamdReport": RSPAMD}},
            "SpamAssassin's score 9.1 against reject_score of policy spam, and with Rspamd's 12.5 against",
        ),
        ("spam-score", {"evidence": EVIDENCE | {"RspamdReport": RSPAMD}}, "Rspamd's score is the sum of"),
        (
            "spam-score",
            {"evidence": {"RspamdReport": RSPAMD, "SpamReport": {"unavailable": "no answer"}}},
            "Rspamd's score 12.5, action add header, against its threshold 15.0: a lower score",
        ),
        (
            "spam-score",
            {"evidence": EVIDENCE | {"RspamdReport": {"skipped": "too large"}}},
            "9.1 against reject_score of policy spam",
        ),
        ("virus-found", {"evidence": {"VirusReport": {"signature": "Eicar"}}}, "Eicar"),
        ("dns-blocklisted", {"evidence": EVIDENCE}, "192.0.2.7 is listed by zen.example"),
        ("dns-blocklisted", {"evidence": EVIDENCE, "policy": "lists"}, "reject_weight of policy lists"),
        ("relay-denied", {"recipients": ["a@b.example"]}, "b.example is in the domains of no [[relay]]"),
        (
            "evidence-unavailable",
            {"evidence": EVIDENCE},
            "clamav gave no answer (unavailable: connection refused)",
        ),
        ("evidence-unavailable", {"evidence": EVIDENCE}, 'unavailable = "accept" in [filters.clamav]'),
        (
            "scan-skipped",
            {"evidence": {"SpamReport": {"skipped": "too large", "source": "spamassassin"}}},
            'skipped = "accept" in [filters.spamassassin]',
        ),
        (
            "header-malformed",
            {"policy": "header_sanity", "detail": "bad-date, repeated-field"},
            "without bad-date, repeated-field",
        ),
        ("header-malformed", {"policy": "strict"}, "only_mark of [policies.strict]"),
        (
            "attachment-macros",
            {"policy": "attachments", "detail": "auto_macros: 'a.doc': AutoOpen"},
            'auto_macros = "mark" or "accept" in [policies.attachments]',
        ),
        (
            "attachment-forbidden",
            {"policy": "attachments", "detail": "forbidden: 'a.exe' ends in .exe"},
            "without what was found: 'a.exe' ends in .exe.",
        ),
        (
            "attachment-encrypted",
            {"policy": "attachments", "verdict": "quarantined", "detail": "encrypted: 'a.zip'"},
            'encrypted = "mark"',
        ),
        ("attachment-unreadable", {"policy": "mine", "detail": ""}, "options of [policies.mine]"),
        (
            "sender-blocked",
            {"policy": "blocked_senders", "detail": "a@b.example is in senders by @b.example"},
            "a@b.example is in senders by @b.example of [policies.blocked_senders]",
        ),
        ("client-blocked", {"policy": "blocked_clients"}, "list of an allowed_ policy"),
        ("backscatter", {"policy": "backscatter"}, "is in senders of [policies.backscatter]"),
        ("bulk-without-unsubscribe", {"policy": "bulk"}, 'action = "mark" in [policies.bulk]'),
        ("unknown-recipient", {"policy": None}, "b@example.com"),
        ("greylisted", {}, "later attempt"),
        ("rate-limited", {}, "fewer messages"),
        ("message-too-big", {"policy": None}, "max_message_size"),
        ("bare-newline", {"policy": None}, 'bare_newline = "normalize"'),
        ("dmarc-failed", {}, "SPF or DKIM"),
        ("deadline-exceeded", {}, "deadline in [gateway]"),
        ("other-profile", {"policy": None}, "tries this recipient again"),
        ("client-disconnected", {"policy": None, "verdict": "aborted"}, "hung up"),
        ("downstream-unavailable", {"policy": None}, "could not be reached"),
        (
            "downstream-rejected",
            {"policy": None, "downstream": DownstreamRecord("127.0.0.1:25", "550 no")},
            "127.0.0.1:25 said '550 no'",
        ),
        ("made-up-by-a-policy", {"policy": "mine"}, "Policy mine decided made-up-by-a-policy"),
        ("made-up-by-a-policy", {"policy": "mine"}, 'mode = "warn" in [policies.mine]'),
        ("something-else", {"policy": None}, "The gateway itself decided something-else"),
        ("accepted", {"verdict": "accepted", "policy": None}, "had anything against it"),
        ("trusted", {"verdict": "accepted", "policy": "friends"}, "without it, later policies are asked"),
        (
            "accepted",
            {"verdict": "accepted", "policy": None, "opinions": OPINIONS},
            'Policy fresh in mode = "enforce" would have refused it: too-fresh',
        ),
        (
            "evidence-unavailable",
            {"verdict": "accepted", "policy": None, "evidence": EVIDENCE},
            'unavailable = "tempfail" refuses such mail',
        ),
    ],
)
def test_each_reason_says_what_would_change_it(reason: str, fields: dict[str, Any], advice: str):
    record = make_record(**{"reason": reason, **fields})
    assert any(advice in sentence for sentence in what_would_change(record))
    assert f": {reason}" in explain(record)


@pytest.mark.parametrize(
    "evidence", [{}, {"SpamReport": {}, "Listings": {"zones": 3}, "Odd": {"elapsed": "long"}}]
)
@pytest.mark.parametrize(
    "reason", ["spam-score", "virus-found", "dns-blocklisted", "evidence-unavailable", "policy-error"]
)
def test_a_record_without_the_usual_evidence_is_told_all_the_same(reason: str, evidence: dict[str, Any]):
    record = make_record(reason=reason, detail="", evidence=evidence, opinions={"odd": {}})
    assert f"rejected: {reason}" in explain(record)
