"""Records judged again where policies keep mail, send it elsewhere, or exempt it from each other."""

from typing import Any

import pytest

from filters.evidence import Evidence
from gateway.journal.record import Record
from gateway.replay.replaying import Kind
from gateway.smtp.transaction import Stage, Transaction
from policies import accept, add_recipient, discard, mark, policy, quarantine, redirect, reject, subject
from policies.recipients import recipients
from policies.verdict import Verdict
from tests.replay.judging import judge, now, record


@policy(at=Stage.END_OF_DATA)
def keep(tx: Transaction, evidence: Evidence) -> Verdict | None:
    return quarantine("odd")


@policy(at=Stage.END_OF_DATA)
def throw(tx: Transaction, evidence: Evidence) -> Verdict | None:
    return discard("junk")


@policy(at=Stage.END_OF_DATA)
def tag(tx: Transaction, evidence: Evidence) -> Verdict | None:
    return subject("[X]") & mark("X-A", "b") & quarantine("odd", deliver=True)


@policy(at=Stage.END_OF_DATA)
def refuse(tx: Transaction, evidence: Evidence) -> Verdict | None:
    return reject("no")


@policy(at=Stage.END_OF_DATA)
def not_for_c(tx: Transaction, evidence: Evidence) -> Verdict | None:
    return reject("no", recipients=["c@example.com"])


@policy(at=Stage.RCPT)
def b_is_exempt(tx: Transaction, evidence: Evidence) -> Verdict | None:
    assert tx.envelope.recipient is not None
    return accept("friend", exempt_from=["refuse"]) if tx.envelope.recipient.local_part == "b" else None


@policy(at=Stage.RCPT)
def away(tx: Transaction, evidence: Evidence) -> Verdict | None:
    return redirect("x@far.example")


@policy(at=Stage.END_OF_DATA)
def off(tx: Transaction, evidence: Evidence) -> Verdict | None:
    return redirect("x@far.example")


@policy(at=Stage.END_OF_DATA)
def too_far(tx: Transaction, evidence: Evidence) -> Verdict | None:
    return add_recipient("x@far.example")


@policy(at=Stage.END_OF_DATA)
def near(tx: Transaction, evidence: Evidence) -> Verdict | None:
    return redirect("x@example.com") & add_recipient("y@example.com")


@policy(at=Stage.END_OF_DATA)
def images(tx: Transaction, evidence: Evidence) -> Verdict | None:
    return quarantine("images") if tx.message.header("X-Images") else None


ACCEPTED = record()
KEPT = record("quarantined", "end-of-data", "odd", "keep")
ANYTHING = ["accepted", "discarded", "quarantined", "rejected", "tempfailed"]
LOST = record("tempfailed", "end-of-data", "policy-error")
BOTH = record(recipients=["b@example.com", "c@example.com"])


@pytest.mark.parametrize(
    ("then", "policies", "kind", "verdicts"),
    [
        (KEPT, [keep], Kind.UNCHANGED, ["quarantined"]),
        (KEPT, [], Kind.FLIP, ["accepted"]),
        (KEPT, [throw], Kind.FLIP, ["discarded"]),
        (ACCEPTED, [keep], Kind.FLIP, ["quarantined"]),
        (ACCEPTED, [tag], Kind.UNCHANGED, ["accepted"]),
        (ACCEPTED, [away], Kind.FLIP, ["tempfailed"]),
        (ACCEPTED, [off], Kind.FLIP, ["tempfailed"]),
        (ACCEPTED, [too_far], Kind.FLIP, ["tempfailed"]),
        (ACCEPTED, [near], Kind.UNCHANGED, ["accepted"]),
        (LOST, [refuse], Kind.FLIP, ["rejected"]),
        (ACCEPTED, [b_is_exempt, refuse], Kind.UNCHANGED, ["accepted"]),
        (BOTH, [not_for_c], Kind.UNCHANGED, ["accepted"]),
        (
            ACCEPTED,
            [images],
            Kind.UNDETERMINED,
            ["accepted", "discarded", "quarantined", "rejected", "tempfailed"],
        ),
    ],
)
def test_a_record_is_judged_by_the_policies_of_now(
    then: Record, policies: list[Any], kind: Kind, verdicts: list[str]
):
    replayed = judge(then, recipients, *policies)
    assert (replayed.kind, now(replayed)[0][1]) == (kind, verdicts)


def test_who_is_exempt_is_judged_apart():
    assert now(judge(BOTH, b_is_exempt, refuse)) == [
        (["b@example.com"], ["accepted"], "accepted", None),
        (["c@example.com"], ["rejected"], "no", "refuse"),
    ]


@pytest.mark.parametrize(
    ("answers_for_each", "verdicts"),
    [(True, [["accepted"], ["rejected"]]), (False, [["accepted"]]), (None, [ANYTHING])],
)
def test_some_are_refused_where_the_client_takes_a_reply_for_each(
    answers_for_each: bool | None, verdicts: list[list[str]]
):
    then = record(recipients=["b@example.com", "c@example.com"], answers_for_each=answers_for_each)
    assert [each[1] for each in now(judge(then, not_for_c))] == verdicts
