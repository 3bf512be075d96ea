"""What a policy said then stands in for what no record has, as long as it is the same policy."""

from dataclasses import dataclass, replace
from typing import Any

import msgspec
import pytest

from filters.evidence import Evidence, Finding, Route, SpamReport, VirusReport
from gateway.casefile import Opinion
from gateway.journal.record import Record
from gateway.pipeline import PolicySetting
from gateway.plugins.fingerprint import Fingerprint
from gateway.profiles import Profile, Profiles
from gateway.replay.recorded import NotRecorded, verdict
from gateway.replay.replaying import Kind
from gateway.replay.tally import Tally
from gateway.smtp.transaction import Stage, Transaction
from policies import (
    Verdict,
    accept,
    add_recipient,
    discard,
    mark,
    policy,
    quarantine,
    redirect,
    reject,
    subject,
    tempfail,
)
from policies.policy import Policy
from tests.replay.judging import Local, judge, judge_by, now, pipeline, record, spam_report

SAME = "0123456789ab"
ANYTHING = ["accepted", "discarded", "quarantined", "rejected", "tempfailed"]


@dataclass(frozen=True, slots=True)
class Unconfigured(Finding):
    """What no filter finds."""

    degrees: float = 0.0


@policy(at=Stage.END_OF_DATA)
def links(tx: Transaction, evidence: Evidence) -> Verdict | None:
    return reject("bad-link") if tx.message.urls else None


@policy(at=Stage.END_OF_DATA, wants=[SpamReport, Local])
def wishing(tx: Transaction, evidence: Evidence) -> Verdict | None:
    return links(tx, evidence)


@policy(at=Stage.END_OF_DATA, needs=[VirusReport])
def needing(tx: Transaction, evidence: Evidence) -> Verdict | None:
    return links(tx, evidence)


@policy(at=Stage.END_OF_DATA, needs=[Route])
def routed(tx: Transaction, evidence: Evidence) -> Verdict | None:
    return links(tx, evidence)


@policy(at=Stage.RCPT)
def notified(tx: Transaction, evidence: Evidence) -> Verdict | None:
    return reject("notify") if tx.envelope.recipient_parameters else None


@policy(at=Stage.CONNECT)
def sealed(tx: Transaction, evidence: Evidence) -> Verdict | None:
    return reject("clear-text") if tx.session.tls is None else None


@policy(at=Stage.RCPT)
def not_to_b(tx: Transaction, evidence: Evidence) -> Verdict | None:
    return tempfail("not-to-b") if tx.envelope.recipient.local_part == "b" else None


def same(known: Policy, enforced: bool = True) -> PolicySetting:
    """The policy as it was when the record was made."""
    return PolicySetting(known, enforced=enforced, fingerprint=Fingerprint(SAME))


def said(answer: Verdict | None, **more: Any) -> dict[str, Any]:
    """An opinion in warn mode, as a record has it."""
    return Opinion(answer, Stage.END_OF_DATA, enforced=False, fingerprint=SAME).as_record() | more


def then(name: str, opinion: dict[str, Any], **fields: Any) -> Record:
    """An accepted message about which a policy said this."""
    return record(**{"opinions": {name: opinion}, **fields})


# What is recalled


REJECTED = said(reject("bad-link", detail="http://a.example/"))


@pytest.mark.parametrize(
    ("opinion", "kind", "verdicts", "reason"),
    [
        (REJECTED, Kind.FLIP, ["rejected"], "bad-link"),
        (said(tempfail("later")), Kind.FLIP, ["tempfailed"], "later"),
        (said(quarantine("odd")), Kind.FLIP, ["quarantined"], "odd"),
        (said(discard("odd")), Kind.FLIP, ["discarded"], "odd"),
        (said(mark("X-Links", "1")), Kind.UNCHANGED, ["accepted"], "accepted"),
        (said(accept("friend")), Kind.UNCHANGED, ["accepted"], "friend"),
        (said(redirect("x@elsewhere.example")), Kind.FLIP, ["tempfailed"], "policy-error"),
        (said(reject("no", recipients=["b@example.com"])), Kind.FLIP, ["rejected"], "no"),
        (said(None), Kind.UNCHANGED, ["accepted"], "accepted"),
        (REJECTED | {"mode": "enforce", "verdict": "reject"}, Kind.FLIP, ["rejected"], "bad-link"),
    ],
)
def test_the_same_policy_says_the_same(opinion: dict[str, Any], kind: Kind, verdicts: list[str], reason: str):
    replayed = judge(then("links", opinion), same(links))
    assert (replayed.kind, replayed.doubts, replayed.recalled) == (kind, (), {"links"})
    [(_, possible, why, _)] = now(replayed)
    assert (possible, why) == (verdicts, reason)


def test_a_warning_stays_one():
    replayed = judge(then("links", REJECTED), same(links, enforced=False))
    assert (replayed.kind, replayed.doubts, replayed.recalled) == (Kind.UNCHANGED, (), {"links"})


def test_a_policy_that_need_not_look_is_asked_again():
    @policy(at=Stage.END_OF_DATA)
    def large(tx: Transaction, evidence: Evidence) -> Verdict | None:
        return reject("too-large") if tx.message.size > 10 else None

    replayed = judge(then("large", said(None)), same(large))
    assert (replayed.kind, replayed.recalled) == (Kind.FLIP, frozenset())


def test_what_the_session_was_at_an_earlier_stage_is_recalled():
    in_tls = record()
    client = msgspec.structs.replace(in_tls.client, tls="TLSv1.3", cipher="A-CIPHER")
    replayed = judge(then("sealed", said(reject("clear-text")), client=client), same(sealed))
    assert (replayed.kind, replayed.recalled) == (Kind.FLIP, {"sealed"})


# What is not


@pytest.mark.parametrize(
    "opinion",
    [
        {},
        {key: value for key, value in REJECTED.items() if key != "fingerprint"},
        REJECTED | {"fingerprint": "ba9876543210"},
        REJECTED | {"verdict": "would-rejoice"},
        REJECTED | {"verdict": 5},
        REJECTED | {"reason": "No Slug"},
        REJECTED | {"reason": None},
        REJECTED | {"code": 250},
        REJECTED | {"effects": [{"effect": "reject"}]},
        REJECTED | {"effects": [{"effect": "mark", "name": "X"}]},
        REJECTED | {"recipients": ["<>@"]},
        {key: value for key, value in REJECTED.items() if key != "detail"},
    ],
)
def test_another_policys_opinion_is_not_taken_nor_one_that_makes_no_sense(opinion: dict[str, Any]):
    replayed = judge(then("links", opinion), same(links))
    assert (replayed.kind, replayed.recalled) == (Kind.UNDETERMINED, frozenset())
    assert [doubt.cause for doubt in replayed.doubts] == ["message.urls"]


def test_nothing_is_the_same_as_what_nobody_knows():
    opinion = REJECTED | {"fingerprint": ""}
    assert judge(then("links", opinion), PolicySetting(links)).kind is Kind.UNDETERMINED


BOTH = ["b@example.com", "c@example.com"]


def test_an_opinion_about_all_recipients_is_taken_for_all_of_them():
    replayed = judge(then("links", REJECTED, recipients=BOTH), same(links))
    assert now(replayed) == [(BOTH, ["rejected"], "bad-link", "links")]


def test_an_opinion_about_all_recipients_is_not_taken_for_some_of_them():
    replayed = judge(then("links", REJECTED, recipients=BOTH), not_to_b, same(links))
    assert now(replayed) == [
        (["b@example.com"], ["tempfailed"], "not-to-b", "not_to_b"),
        (["c@example.com"], ANYTHING, "accepted", None),
    ]
    special = [Profile(pipeline(same(links)), ("b@example.com",))]
    apart = Profiles(Profile(pipeline(same(links))), special)
    assert judge_by(then("links", REJECTED, recipients=BOTH), apart).kind is Kind.UNDETERMINED


def test_nor_where_others_may_be_in_another_record():
    replayed = judge(then("links", REJECTED, answers_for_each=True), same(links))
    assert replayed.kind is Kind.UNDETERMINED


def test_nor_at_rcpt_where_nobody_knows_who_came_before():
    replayed = judge(then("notified", said(reject("notify"))), same(notified))
    assert (replayed.kind, replayed.recalled) == (Kind.UNDETERMINED, frozenset())


FOUND = {"SpamReport": spam_report(1.0), "Local": {"known": True}}
UNAVAILABLE = {"unavailable": "refused", "source": "local"}


@pytest.mark.parametrize(
    ("evidence", "kind"),
    [
        (FOUND, Kind.FLIP),
        (FOUND | {"Local": UNAVAILABLE}, Kind.FLIP),
        (FOUND | {"Local": {"skipped": "too large", "source": "local"}}, Kind.FLIP),
        # Nobody was asked for it then.
        ({"SpamReport": spam_report(1.0)}, Kind.UNDETERMINED),
        (FOUND | {"SpamReport": {"score": 1.0}}, Kind.UNDETERMINED),
    ],
)
def test_what_a_policy_wants_has_to_be_as_it_was(evidence: dict[str, Any], kind: Kind):
    meanings = {"unavailable": "accept"}
    assert judge(then("wishing", REJECTED, evidence=evidence), same(wishing), **meanings).kind is kind


def test_what_a_policy_wanted_and_nobody_would_be_asked_for_now_makes_a_difference():
    @policy(at=Stage.END_OF_DATA, wants=[Unconfigured])
    def longing(tx: Transaction, evidence: Evidence) -> Verdict | None:
        return links(tx, evidence)

    found = {"Unconfigured": {"degrees": 3.0}}
    assert judge(then("longing", REJECTED, evidence={}), same(longing)).kind is Kind.FLIP
    assert judge(then("longing", REJECTED, evidence=found), same(longing)).kind is Kind.UNDETERMINED


def test_what_a_policy_needs_was_there():
    assert judge(then("needing", REJECTED, evidence=FOUND), same(needing)).kind is Kind.FLIP


@pytest.mark.parametrize(
    ("route", "kind"),
    [
        ({"Route": {"domain": None}}, Kind.FLIP),
        ({"Route": {"domain": "example.com"}}, Kind.UNDETERMINED),
        ({}, Kind.UNDETERMINED),
    ],
)
def test_the_relay_table_has_to_say_what_it_said(route: dict[str, Any], kind: Kind):
    assert judge(then("routed", REJECTED, evidence=route), same(routed)).kind is kind


# From a record and back


@pytest.mark.parametrize(
    "answer",
    [
        None,
        reject("no", text="Go away", detail="because"),
        reject("no", code=554, status="5.6.0"),
        tempfail("later"),
        tempfail("later", code=450, status="4.2.1", recipients=["b@example.com", "postmaster"]),
        reject("no", recipients=[]),
        reject("no") & quarantine("kept", deliver=True),
        accept("friend", detail="of a friend"),
        accept("friend", exempt_from=["spam", "virus"]),
        mark("X-Links", "1") & subject("[LINKS]") & redirect("x@example.com"),
        accept("friend") & add_recipient("y@example.com") & mark("X-Empty", ""),
        quarantine("odd") & mark("X-Odd", "yes"),
        discard("odd"),
    ],
)
@pytest.mark.parametrize("enforced", [True, False])
def test_a_verdict_comes_back_but_for_its_text(answer: Verdict | None, enforced: bool):
    opinion = Opinion(answer, Stage.END_OF_DATA, enforced).as_record()
    read = verdict(msgspec.json.decode(msgspec.json.encode(opinion)))
    assert mute(read) == mute(answer)


def mute(answer: Verdict | None) -> Verdict | None:
    """The verdict without the words of its reply."""
    if answer is None or answer.reply is None:
        return answer
    return replace(answer, reply=replace(answer.reply, lines=("5.0.0 x",)))


def test_a_reply_is_recorded_where_it_is_not_the_usual_one():
    assert "code" not in said(reject("no"))
    assert "status" not in said(tempfail("later"))
    unusual = said(reject("no", code=554, status="5.6.0"))
    assert (unusual["code"], unusual["status"]) == (554, "5.6.0")


def test_an_effect_that_is_none_is_no_opinion():
    with pytest.raises(NotRecorded, match="makes no sense"):
        verdict(said(mark("X", "1"), effects=[{"effect": "accept"}]))


# Counted


def test_whose_opinion_was_taken_is_counted():
    tally = Tally()
    for opinion in (REJECTED, said(None), {}):
        tally.add(judge(then("links", opinion), same(links)))
    assert tally.as_json()["recorded_opinions"] == {"links": 2}
    assert dict(tally.doubts) == {("links", "message.urls"): 1}
