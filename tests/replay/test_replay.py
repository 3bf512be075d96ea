"""Records judged again: what flips, what does not, and what nobody can know."""

from typing import Any

import pytest

from filters.evidence import Evidence
from gateway.journal.record import Record
from gateway.profiles import Profile, Profiles
from gateway.replay.replaying import GOES_ON, Kind
from gateway.smtp.transaction import Stage, Transaction
from policies import accept, policy, reject, tempfail
from policies.blocklist import blocklist
from policies.policy import Policy
from policies.recipients import recipients
from policies.spam import spam
from policies.verdict import Verdict
from policies.virus import virus
from tests.replay.judging import (
    CLEAN,
    LISTED,
    Local,
    judge,
    judge_by,
    now,
    pipeline,
    record,
    setting,
    spam_report,
)


@policy(at=Stage.END_OF_DATA)
def friday(tx: Transaction, evidence: Evidence, *, word: str = "friday") -> Verdict | None:
    return reject("no-friday") if word in (tx.message.header("Subject") or "").lower() else None


@policy(at=Stage.END_OF_DATA)
def lists(tx: Transaction, evidence: Evidence) -> Verdict | None:
    return reject("mailing-list") if tx.message.header("List-Id") else None


@policy(at=Stage.END_OF_DATA)
def friends(tx: Transaction, evidence: Evidence) -> Verdict | None:
    return accept("friend") if tx.envelope.reverse_path.domain == "example.net" else None


@policy(at=Stage.END_OF_DATA)
def broken(tx: Transaction, evidence: Evidence) -> Verdict | None:
    raise RuntimeError("a fault")


@policy(at=Stage.END_OF_DATA)
def reckless(tx: Transaction, evidence: Evidence) -> Verdict | None:
    """Whatever goes wrong, the mail is bad, and something else goes wrong by that."""
    try:
        return reject("images") if tx.message.parts else None
    except:  # noqa: E722 - people write that
        return reject("no-parts") if tx.message.subject else None


@policy(at=Stage.END_OF_DATA)
def ruthless(tx: Transaction, evidence: Evidence) -> Verdict | None:
    """The same, and nothing else goes wrong."""
    try:
        return reject("images") if tx.message.parts else None
    except:  # noqa: E722 - people write that
        return reject("no-parts")


@pytest.mark.parametrize("careless_policy", [reckless, ruthless])
def test_what_a_policy_makes_of_not_knowing_is_a_guess(careless_policy: Policy):
    replayed = judge(record(), careless_policy)
    assert replayed.kind is Kind.UNDETERMINED
    assert [doubt.cause for doubt in replayed.doubts] in (["message.parts"], ["message.subject"])


@policy(at=Stage.END_OF_DATA)
def careless(tx: Transaction, evidence: Evidence) -> Verdict | None:
    """Whatever goes wrong, the mail is good."""
    try:
        return reject("images") if tx.message.header("X-Images") else None
    except Exception:
        return None


@policy(at=Stage.RCPT)
def not_to_b(tx: Transaction, evidence: Evidence) -> Verdict | None:
    return tempfail("not-to-b") if tx.envelope.recipient.local_part == "b" else None


@policy(at=Stage.RCPT, needs=[Local])
def known(tx: Transaction, evidence: Evidence) -> Verdict | None:
    return None if evidence[Local].known else reject("not-known")


@policy(at=Stage.HELO)
def greeting(tx: Transaction, evidence: Evidence, *, bad: str = "") -> Verdict | None:
    return reject("bad-greeting") if tx.session.helo_name == bad else None


@policy(at=Stage.MAIL)
def size(tx: Transaction, evidence: Evidence) -> Verdict | None:
    return reject("announced") if tx.envelope.parameters.get("SIZE") else None


@policy(at=Stage.END_OF_DATA)
def few(tx: Transaction, evidence: Evidence) -> Verdict | None:
    return reject("many") if len(tx.envelope.recipients) > 1 else None


ANYTHING = ["accepted", "discarded", "quarantined", "rejected", "tempfailed"]
ACCEPTED = record()
SPAM = record("rejected", "end-of-data", "spam-score", "spam", evidence={"SpamReport": spam_report(9.0)})
AT_CONNECT = record(
    "rejected", "connect", "dns-blocklisted", "blocklist", "rcpt", evidence={"Listings": LISTED}
)
DEFERRED = record(
    "tempfailed",
    "end-of-data",
    "evidence-unavailable",
    "virus",
    evidence={"VirusReport": {"unavailable": "refused", "source": "clamav"}, "SpamReport": spam_report(1.0)},
)
UNKNOWN_USER = record("rejected", "rcpt", "unknown-recipient", None, "rcpt")


@pytest.mark.parametrize(
    ("then", "policies", "kind", "verdicts"),
    [
        (ACCEPTED, [], Kind.UNCHANGED, ["accepted"]),
        (ACCEPTED, [spam, virus, blocklist, recipients], Kind.UNCHANGED, ["accepted"]),
        (ACCEPTED, [setting(spam, reject_score=1.0)], Kind.FLIP, ["rejected"]),
        (ACCEPTED, [setting(spam, False, reject_score=1.0)], Kind.UNCHANGED, ["accepted"]),
        (ACCEPTED, [setting(friday, word="monday")], Kind.FLIP, ["rejected"]),
        (ACCEPTED, [friends, setting(friday, word="monday")], Kind.UNCHANGED, ["accepted"]),
        (ACCEPTED, [setting(friday, word="monday"), friends], Kind.FLIP, ["rejected"]),
        (ACCEPTED, [not_to_b], Kind.FLIP, ["tempfailed"]),
        (ACCEPTED, [setting(greeting, bad="mail.example.net")], Kind.FLIP, ["rejected"]),
        (ACCEPTED, [broken], Kind.FLIP, ["tempfailed"]),
        (ACCEPTED, [broken, setting(friday, word="monday")], Kind.FLIP, ["rejected"]),
        (SPAM, [spam], Kind.UNCHANGED, ["rejected"]),
        (SPAM, [setting(spam, reject_score=10.0)], Kind.FLIP, ["accepted"]),
        (SPAM, [], Kind.FLIP, ["accepted"]),
        (SPAM, [setting(friday, word="monday"), spam], Kind.UNCHANGED, ["rejected"]),
        (AT_CONNECT, [blocklist], Kind.UNCHANGED, ["rejected"]),
        (AT_CONNECT, [setting(blocklist, reject_weight=6.0)], Kind.FLIP, [GOES_ON]),
        (AT_CONNECT, [spam], Kind.FLIP, [GOES_ON]),
        (DEFERRED, [virus, spam], Kind.UNCHANGED, ["tempfailed"]),
        (DEFERRED, [virus, setting(spam, reject_score=1.0)], Kind.FLIP, ["rejected"]),
        (DEFERRED, [setting(virus, False), spam], Kind.FLIP, ["accepted"]),
        (DEFERRED, [spam], Kind.FLIP, ["accepted"]),
        (UNKNOWN_USER, [not_to_b], Kind.FLIP, ["tempfailed"]),
    ],
)
def test_a_record_is_judged_by_the_policies_of_now(
    then: Record, policies: list[Any], kind: Kind, verdicts: list[str]
):
    replayed = judge(then, *policies)
    assert (replayed.kind, now(replayed)[0][1]) == (kind, verdicts)


@pytest.mark.parametrize(
    ("meanings", "kind", "verdict"),
    [
        ({}, Kind.UNCHANGED, "tempfailed"),
        ({"unavailable": "accept"}, Kind.FLIP, "accepted"),
        ({"unavailable": "reject"}, Kind.FLIP, "rejected"),
    ],
)
def test_what_a_failure_means_is_a_setting_of_now(meanings: dict[str, Any], kind: Kind, verdict: str):
    replayed = judge(DEFERRED, virus, **meanings)
    assert (replayed.kind, replayed.fates[0].outcome.verdict) == (kind, verdict)


@pytest.mark.parametrize(("skipped", "kind"), [("accept", Kind.UNCHANGED), ("reject", Kind.FLIP)])
def test_what_a_filter_would_not_look_at_is_the_same(skipped: str, kind: Kind):
    then = record(evidence={"VirusReport": {"skipped": "too large", "source": "clamav"}})
    assert judge(then, virus, skipped=skipped).kind is kind


def test_the_relay_table_is_that_of_now():
    profiles = Profiles(Profile(pipeline(recipients)))
    assert now(judge_by(ACCEPTED, profiles, ["example.org"])) == [
        (["b@example.com"], ["rejected"], "relay-denied", None)
    ]
    refused = record("rejected", "rcpt", "relay-denied", "recipients", "rcpt", recipients=["b@example.com"])
    assert now(judge_by(refused, profiles)) == [(["b@example.com"], [GOES_ON], "beyond-the-record", None)]
    by_gateway = record("rejected", "rcpt", "relay-denied", None, "rcpt")
    assert judge_by(by_gateway, Profiles(Profile(pipeline())), ["example.org"]).kind is Kind.UNCHANGED


def test_only_some_recipients_may_flip():
    replayed = judge(record(recipients=["a@example.com", "b@example.com", "c@example.com"]), not_to_b)
    assert replayed.kind is Kind.FLIP
    assert now(replayed) == [
        (["b@example.com"], ["tempfailed"], "not-to-b", "not_to_b"),
        (["a@example.com", "c@example.com"], ["accepted"], "accepted", None),
    ]
    assert [fate.recipients for fate in replayed.flips] == [("b@example.com",)]


def test_recipients_are_judged_by_their_profiles():
    strict = Profile(pipeline(setting(spam, reject_score=1.0)), ("sales@example.com",))
    replayed = judge_by(
        record(recipients=["b@example.com", "sales@example.com"]), Profiles(Profile(pipeline(spam)), [strict])
    )
    assert now(replayed) == [
        (["b@example.com"], ["accepted"], "accepted", None),
        (["sales@example.com"], ["rejected"], "spam-score", "spam"),
    ]


def test_postmaster_is_exempt_from_what_is_refused_early():
    then = record(recipients=["postmaster@example.com"], evidence={"Listings": LISTED})
    assert judge(then, blocklist).kind is Kind.UNCHANGED
    down = record(
        recipients=["postmaster@example.com"], evidence={"Listings": {"unavailable": "x", "source": "dnsbl"}}
    )
    assert judge(down, blocklist).kind is Kind.UNCHANGED
    assert judge(record(evidence=down.evidence), blocklist).kind is Kind.FLIP


# What a record cannot tell


@pytest.mark.parametrize(
    ("then", "policies", "kind", "verdicts"),
    [
        # Nobody knows what it would have said, and nobody after it settles the matter.
        (ACCEPTED, [lists], Kind.UNDETERMINED, ANYTHING),
        (SPAM, [virus], Kind.UNDETERMINED, ANYTHING),
        (AT_CONNECT, [size, known], Kind.UNDETERMINED, [GOES_ON, "rejected", "tempfailed"]),
        # It decides nothing: it only warns, or is not asked at all.
        (ACCEPTED, [setting(lists, False)], Kind.UNCHANGED, ["accepted"]),
        (ACCEPTED, [friends, lists], Kind.UNCHANGED, ["accepted"]),
        (SPAM, [spam, lists], Kind.UNCHANGED, ["rejected"]),
        # It can only refuse, and what comes after it refuses as well.
        (SPAM, [virus, spam], Kind.UNCHANGED, ["rejected"]),
        # It stands in a file with policies that accept and defer: for all we know it does, too.
        (SPAM, [lists, spam], Kind.UNDETERMINED, ANYTHING),
        # Refused by one or the other, and it was neither.
        (DEFERRED, [lists, virus], Kind.UNDETERMINED, ANYTHING),
    ],
)
def test_doubt_counts_where_it_can_make_a_difference(
    then: Record, policies: list[Any], kind: Kind, verdicts: list[str]
):
    replayed = judge(then, *policies)
    assert (replayed.kind, now(replayed)[0][1]) == (kind, verdicts)


def test_it_is_a_flip_where_every_possible_verdict_is_another_one():
    then = record("tempfailed", "end-of-data", "evidence-unavailable", "virus", evidence=SPAM.evidence)
    replayed = judge(then, virus, spam)
    assert (replayed.kind, now(replayed)[0][1]) == (Kind.FLIP, ["rejected"])
    assert [(doubt.policy.name, doubt.cause) for doubt in replayed.doubts] == [
        ("virus", "VirusReport: no filter was asked for it")
    ]


def test_a_doubt_at_an_earlier_stage_may_have_been_a_failure():
    then = record(evidence={"SpamReport": spam_report(9.0)})
    replayed = judge(then, blocklist, spam)
    assert (replayed.kind, now(replayed)[0][1]) == (Kind.FLIP, ["rejected", "tempfailed"])


def test_a_policy_that_takes_every_error_in_its_stride_is_in_doubt_all_the_same():
    assert [doubt.policy.name for doubt in judge(ACCEPTED, careless).doubts] == ["careless"]


def test_a_policy_that_does_not_look_is_not_in_doubt():
    @policy(at=Stage.END_OF_DATA)
    def bounces(tx: Transaction, evidence: Evidence) -> Verdict | None:
        if not tx.envelope.reverse_path.is_null:
            return None
        return reject("bounce") if tx.message.header("X-Loop") else None

    assert judge(ACCEPTED, bounces).kind is Kind.UNCHANGED
    assert judge(record(reverse_path="<>"), bounces).kind is Kind.UNDETERMINED


def test_what_was_found_about_a_recipient_is_known_of_a_single_one():
    evidence = {"Local": {"known": True}}
    assert judge(record(evidence=evidence), known).kind is Kind.UNCHANGED
    assert judge(record(evidence={"Local": {"known": False}}), known).kind is Kind.FLIP
    two = record(evidence=evidence, recipients=["a@example.com", "b@example.com"])
    assert judge(two, known).kind is Kind.UNDETERMINED


def test_how_many_recipients_there_were_is_not_known_where_some_may_have_been_refused():
    @policy(at=Stage.RCPT)
    def full(tx: Transaction, evidence: Evidence) -> Verdict | None:
        return tempfail("full") if tx.envelope.recipients else None

    two = record(recipients=["a@example.com", "b@example.com"])
    assert judge(two, few).kind is Kind.FLIP
    assert judge(record(recipients=["a@example.com", "a@example.com"]), few).kind is Kind.FLIP
    assert {doubt.policy.name for doubt in judge(two, few, full).doubts} == {"few", "full"}
    for answers_for_each in (True, None):
        assert [
            doubt.policy.name for doubt in judge(record(answers_for_each=answers_for_each), few).doubts
        ] == ["few"]


# What is not judged


@pytest.mark.parametrize(
    ("then", "why"),
    [
        (record("aborted", "rcpt", "client-disconnected", None, "rcpt"), "given up by the client or cut off"),
        (UNKNOWN_USER, "refused by the downstream"),
        (record("rejected", "relay", "downstream-rejected"), "refused by the downstream"),
        (record("tempfailed", "relay", "deadline-exceeded"), "refused by the downstream"),
        (
            record("rejected", "end-of-data", "bare-newline"),
            "refused by the gateway itself: bare-newline",
        ),
        (
            record("tempfailed", "helo", "downstream-deferred", None, "helo"),
            "refused by the gateway itself: downstream-deferred",
        ),
        (record(cut=True), "the record was shortened"),
        (record(message=None), "the record has no message"),
        (record(recipients=["a@b@c"]), "the record makes no sense: malformed path"),
    ],
)
def test_what_is_not_judged_says_why(then: Record, why: str):
    replayed = judge(then, spam, recipients)
    assert (replayed.kind, replayed.why) == (Kind.SKIPPED, why)


def test_a_judgement_that_ran_out_of_time_is_judged_again():
    slow = record("tempfailed", "end-of-data", "deadline-exceeded", None, evidence={"VirusReport": CLEAN})
    assert judge(slow, virus).kind is Kind.FLIP
    assert judge(slow, virus, spam).kind is Kind.UNDETERMINED


@pytest.mark.parametrize("spoken", ["connect", "helo", "mail"])
def test_a_refusal_at_once_is_judged_as_far_as_the_client_had_come(spoken: str):
    fields = {"recipients": [], "evidence": {"Listings": LISTED}}
    then = record("rejected", "connect", "dns-blocklisted", "blocklist", spoken, **fields)
    assert judge(then, blocklist).kind is Kind.UNCHANGED
    assert now(judge(then, recipients, spam)) == [([], [GOES_ON], "beyond-the-record", None)]
    is_greeted = spoken != "connect"
    replayed = judge(then, setting(greeting, bad="mail.example.net"))
    assert replayed.kind is (Kind.UNCHANGED if is_greeted else Kind.FLIP)
