"""Gathering and deciding, without any front end."""

import asyncio

import pytest

from filters.base import Cost, Filter, FilterError
from filters.evidence import Finding, Listings, Skipped, SpamReport, Unavailable, VirusReport
from gateway.casefile import CaseFile, Gathered, Judgement, Opinion
from gateway.journal.tracebacks import essence, place
from gateway.pipeline import DeadlineExceeded, FilterSetting, Pipeline, PolicySetting, verdict_for
from policies import Evidence, Stage, Transaction, Verdict, accept, mark, policy, reject, tempfail
from policies.effects import HeaderField
from policies.testing import transaction
from policies.verdict import Decision

AT_END = Stage.END_OF_DATA


def source(finds: type[Finding], cost: Cost, asked: list[str], answer: object = None) -> FilterSetting:
    """A filter that notes that it was asked, then answers or raises."""

    class Source(Filter):
        name = finds.__name__

        async def find(self, tx: Transaction) -> Finding:
            asked.append(self.name)
            if isinstance(answer, Exception):
                raise answer
            return answer or finds(*([0.0] if finds is SpamReport else []))

    Source.finds, Source.cost = finds, cost
    return FilterSetting(Source())


def saying(name: str, verdict: Verdict | None, *needs: type[Finding], stage: Stage = AT_END) -> PolicySetting:
    def function(tx: Transaction, evidence: Evidence) -> Verdict | None:
        return verdict

    function.__name__ = name
    return PolicySetting(policy(at=stage, needs=needs)(function))


async def judge(pipeline: Pipeline, case: CaseFile | None = None, stage: Stage = AT_END) -> Judgement | None:
    deadline = asyncio.get_running_loop().time() + 10
    return await pipeline.judge(transaction(stage=stage), case or CaseFile(), deadline)


async def test_the_cheap_is_asked_before_the_dear():
    asked: list[str] = []
    filters = [
        source(SpamReport, Cost.HEAVY_SCAN, asked),
        source(VirusReport, Cost.SCAN, asked),
        source(Listings, Cost.LOOKUP, asked),
    ]
    await judge(Pipeline([saying("all", None, SpamReport, VirusReport, Listings)], filters))
    assert asked == ["Listings", "VirusReport", "SpamReport"]


async def test_policies_are_asked_in_order_and_a_refusal_ends_it():
    asked: list[str] = []
    filters = [source(SpamReport, Cost.SCAN, asked), source(VirusReport, Cost.SCAN, asked)]
    policies = [
        saying("first", None, VirusReport),
        saying("second", reject("no-thanks")),
        saying("third", reject("never-asked"), SpamReport),
    ]
    case = CaseFile()
    judgement = await judge(Pipeline(policies, filters), case)
    assert judgement is not None
    assert (judgement.policy, judgement.stage, judgement.verdict.reason) == (
        "second",
        "end-of-data",
        "no-thanks",
    )
    assert asked == ["VirusReport"]
    assert list(case.opinions) == ["first", "second"]


async def test_only_policies_of_the_stage_are_asked():
    policies = [saying("early", reject("early"), stage=Stage.MAIL), saying("late", reject("late"))]
    pipeline = Pipeline(policies, [])
    judgement = await judge(pipeline)
    assert judgement is not None
    assert judgement.policy == "late"
    assert pipeline.has_policies(Stage.MAIL)
    assert not pipeline.has_policies(Stage.HELO)


async def test_a_filter_is_asked_once_per_case():
    asked: list[str] = []
    policies = [saying("one", None, VirusReport), saying("two", None, VirusReport)]
    pipeline = Pipeline(policies, [source(VirusReport, Cost.SCAN, asked)])
    case = CaseFile()
    await judge(pipeline, case)
    await judge(pipeline, case)
    assert asked == ["VirusReport"]
    await judge(pipeline, CaseFile())
    assert len(asked) == 2


async def test_a_failure_is_remembered_like_an_answer():
    asked: list[str] = []
    policies = [saying("one", None, VirusReport), saying("two", None, VirusReport)]
    case = CaseFile()
    await judge(Pipeline(policies, [source(VirusReport, Cost.SCAN, asked, FilterError("down"))]), case)
    assert asked == ["VirusReport"]
    assert case.deferral is not None
    assert (case.deferral.policy, case.deferral.verdict.reason) == ("one", "evidence-unavailable")


async def test_what_one_policy_misses_keeps_it_from_asking_the_dearer():
    asked: list[str] = []
    filters = [
        source(VirusReport, Cost.SCAN, asked, FilterError("down")),
        source(SpamReport, Cost.HEAVY_SCAN, asked),
    ]
    await judge(Pipeline([saying("both", None, SpamReport, VirusReport)], filters))
    assert asked == ["VirusReport"]


async def test_the_first_deferral_is_the_one_that_is_spoken():
    def breaks(tx, evidence):
        raise ValueError("x")

    policies = [
        saying("needy", None, VirusReport),
        PolicySetting(policy(at=AT_END)(breaks)),
        saying("content", None),
    ]
    case = CaseFile()
    ended = await judge(Pipeline(policies, [source(VirusReport, Cost.SCAN, [], FilterError("down"))]), case)
    assert ended is None
    refusal = case.conclude(ended)
    assert refusal is not None
    assert refusal.verdict.reason == "evidence-unavailable"
    assert case.opinions["breaks"].verdict.reason == "policy-error"
    assert case.opinions["content"].verdict is None


async def test_marks_are_kept_in_order_and_do_not_end_it():
    policies = [
        saying("one", mark("X-A", "1")),
        saying("two", mark("X-B", "2")),
        saying("three", accept("fine")),
        saying("four", reject("never-asked")),
    ]
    case = CaseFile()
    ended = await judge(Pipeline(policies, []), case)
    assert case.marks == [("X-A", "1"), ("X-B", "2")]
    assert ended is not None
    assert ended.verdict.decision is Decision.ACCEPT
    assert case.conclude(ended) is None


@pytest.mark.parametrize("enforced", [True, False])
async def test_a_failure_that_means_nothing_for_the_mail_is_told_all_the_same(enforced: bool):
    def breaks(tx, evidence):
        raise ValueError("x")

    case = CaseFile()
    setting = PolicySetting(policy(at=AT_END)(breaks), enforced=enforced, on_error="accept")
    assert await judge(Pipeline([setting, saying("later", reject("known"))], []), case) is not None
    assert case.deferral is None
    assert case.unscanned == ({"breaks": "policy-error"} if enforced else {})
    opinion = case.opinions["breaks"].as_record()
    assert (opinion["verdict"], opinion["reason"]) == (None, "policy-error")
    assert opinion["detail"].endswith("ValueError: x\n")
    # The first call is the policy's: how it is called is nothing to its author.
    assert place(opinion["detail"]) == f"{__file__}:{breaks.__code__.co_firstlineno + 1}, in breaks"
    assert "gateway/" not in opinion["detail"]


async def test_of_an_answer_that_is_none_there_is_no_call_to_show():
    case = CaseFile()
    await judge(Pipeline([saying("mine", 5)], []), case)
    assert case.deferral is not None
    detail = case.deferral.verdict.detail
    assert (essence(detail), place(detail)) == (
        "TypeError: policy 'mine' returned 5, not a verdict or None",
        None,
    )


async def test_options_reach_the_policy():
    seen = []

    def curious(tx: Transaction, evidence: Evidence, *, depth: int = 1) -> None:
        seen.append(depth)

    await judge(Pipeline([PolicySetting(policy(at=AT_END)(curious), {"depth": 7})], []))
    assert seen == [7]


async def test_evidence_that_was_not_asked_for_is_a_policy_error():
    def nosy(tx: Transaction, evidence: Evidence) -> None:
        assert evidence[SpamReport]

    case = CaseFile()
    await judge(Pipeline([PolicySetting(policy(at=AT_END)(nosy))], []), case)
    assert case.deferral is not None
    assert case.deferral.verdict.reason == "policy-error"
    assert "SpamReport is not among the policy's needs" in case.deferral.verdict.detail


@pytest.mark.parametrize(
    ("failure", "meaning", "expected"),
    [
        (Unavailable("f", "down"), "tempfail", ("tempfail", "evidence-unavailable", "451 4.7.1")),
        (Unavailable("f", "down"), "reject", ("reject", "evidence-unavailable", "550 5.7.1")),
        (Unavailable("f", "down"), "accept", None),
        (Skipped("f", "large"), "tempfail", ("tempfail", "scan-skipped", "451 4.7.1")),
        (Skipped("f", "large"), "reject", ("reject", "scan-skipped", "550 5.7.1")),
        (Skipped("f", "large"), "accept", None),
        (DeadlineExceeded(), "accept", ("tempfail", "deadline-exceeded", "451 4.4.7")),
        (ValueError("x"), "tempfail", ("tempfail", "policy-error", "451 4.3.0")),
        (SystemExit(1), "tempfail", ("tempfail", "policy-error", "451 4.3.0")),
        (ValueError("x"), "reject", ("reject", "policy-error", "550 5.3.0")),
        (ValueError("x"), "accept", None),
    ],
)
def test_what_a_failure_means(failure, meaning, expected):
    verdict = verdict_for(failure, meaning)
    assert expected == (
        verdict and (verdict.decision.value, verdict.reason, f"{verdict.reply.code} {verdict.reply.status}")
    )


def test_a_finding_is_no_failure():
    with pytest.raises(TypeError):
        verdict_for(VirusReport())


# What a policy wants, and can do without


def wishing(seen: list[Evidence]) -> PolicySetting:
    """Keeps what it is given, and refuses."""

    @policy(at=AT_END, needs=[VirusReport], wants=[SpamReport])
    def wishing(tx: Transaction, evidence: Evidence) -> Verdict | None:
        seen.append(evidence)
        return reject("no-thanks")

    return PolicySetting(wishing)


async def test_what_is_wanted_is_asked_for_where_it_can_be():
    asked: list[str] = []
    seen: list[Evidence] = []
    virus = source(VirusReport, Cost.SCAN, asked)
    await judge(Pipeline([wishing(seen)], [virus]))
    assert seen[-1].get(SpamReport) is None
    await judge(Pipeline([wishing(seen)], [virus, source(SpamReport, Cost.SCAN, asked)]))
    assert seen[-1].get(SpamReport) == SpamReport(0.0)
    assert asked == ["VirusReport", "VirusReport", "SpamReport"]


async def test_without_what_it_wants_it_is_asked_all_the_same():
    seen: list[Evidence] = []
    case = CaseFile()
    filters = [
        source(VirusReport, Cost.SCAN, []),
        source(SpamReport, Cost.SCAN, [], FilterError("down")),
    ]
    judgement = await judge(Pipeline([wishing(seen)], filters), case)
    assert judgement is not None
    assert judgement.verdict.reason == "no-thanks"
    assert seen[0].get(SpamReport) is None
    # What the operator declared for the filter holds as well, where nothing else is said.
    assert case.deferral is not None
    assert case.deferral.verdict.reason == "evidence-unavailable"
    assert case.opinions["wishing"].verdict == judgement.verdict


async def test_without_what_it_needs_nothing_is_asked_for_that_it_wants():
    asked: list[str] = []
    filters = [
        source(VirusReport, Cost.SCAN, asked, FilterError("down")),
        source(SpamReport, Cost.HEAVY_SCAN, asked),
    ]
    await judge(Pipeline([wishing([])], filters))
    assert asked == ["VirusReport"]


# The case file


def gathered(stage: Stage) -> Gathered:
    return Gathered(VirusReport(), "x", 0.1, stage)


def test_a_fork_leaves_behind_what_is_about_the_narrower_thing():
    case = CaseFile({Listings: gathered(Stage.CONNECT), SpamReport: gathered(Stage.RCPT)})
    assert set(case.fork(Stage.RCPT).evidence) == {Listings}
    assert set(case.fork(Stage.END_OF_DATA).evidence) == {Listings, SpamReport}


def test_a_fork_learns_for_itself_until_it_is_absorbed():
    case = CaseFile(effects=[HeaderField("X-A", "1")])
    fork = case.fork(Stage.RCPT)
    fork.effects.append(HeaderField("X-B", "2"))
    fork.unscanned["f"] = "scan-skipped"
    fork.evidence[Listings] = gathered(Stage.RCPT)
    fork.opinions["p"] = Opinion(None, Stage.RCPT, enforced=True)
    fork.deferral = Judgement(tempfail("later"), "p", "rcpt")
    fork.spend("rcpt", 1.5)
    assert case == CaseFile(effects=[HeaderField("X-A", "1")])

    case.absorb(fork)
    assert case == fork
    case.absorb(fork)
    assert case.marks == [("X-A", "1"), ("X-B", "2")]


def test_a_refusal_is_concluded_before_a_deferral_and_that_before_an_acceptance():
    deferral = Judgement(tempfail("later"), None, "mail")
    refusal = Judgement(reject("never"), "p", "rcpt")
    acceptance = Judgement(accept("fine"), "p", "rcpt")
    case = CaseFile(deferral=deferral)
    assert case.conclude(refusal) is refusal
    assert case.conclude(acceptance) is deferral
    assert case.conclude(None) is deferral
    assert CaseFile().conclude(acceptance) is None


def test_what_is_found_late_about_the_session_is_known_to_its_next_transaction():
    session_file = CaseFile()
    first = session_file.fork(Stage.MAIL).fork(Stage.RCPT)
    about_client = Gathered(SpamReport(1.0), "late", 0.1, Stage.CONNECT)
    about_recipient = Gathered(VirusReport(), "now", 0.1, Stage.RCPT)
    first.remember(SpamReport, about_client)
    first.remember(VirusReport, about_recipient)

    assert session_file.evidence == {SpamReport: about_client}
    assert session_file.fork(Stage.MAIL).evidence == {SpamReport: about_client}
