"""The pipeline: gather the evidence that policies need, ask the policies, decide.

Evidence is asked for when the first policy needs it, in the operator's order, and remembered in
the case file. Whatever goes wrong on the way becomes evidence, and `verdict_for` is the only place
that says what a failure means for the mail.
"""

import asyncio
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from filters.base import Filter
from filters.evidence import Evidence, Finding, Outcome, Skipped, Unavailable
from gateway.casefile import CaseFile, Gathered, Judgement, Opinion
from gateway.joining import THROWN, Answer, Joiner
from gateway.plugins.fingerprint import Fingerprint
from gateway.smtp.transaction import Stage, Transaction
from gateway.terms import Meaning
from gateway.watch import Caller, Interrupted, Plainly
from policies.effects import Copy
from policies.policy import Policy
from policies.verdict import Decision, Verdict, reject, tempfail

_MAX_TRACEBACK = 2000


@dataclass(frozen=True, slots=True)
class PolicySetting:
    """A policy with the operator's options. A policy in `mode = "off"` has no setting at all.

    `on_error` is what it means for the mail when the policy itself fails. By its `fingerprint` one can
    tell whether what it said is what it would say.
    """

    policy: Policy
    options: Mapping[str, Any] = field(default_factory=dict)
    enforced: bool = True
    on_error: Meaning = "tempfail"
    fingerprint: Fingerprint = field(default_factory=Fingerprint)


@dataclass(frozen=True, slots=True)
class FilterSetting:
    """A filter with its time-out in seconds and what the operator says its failures mean.

    `unavailable` is for a filter that did not answer, `skipped` for one that would not look.
    """

    filter: Filter
    timeout: float = 30.0
    unavailable: Meaning = "tempfail"
    skipped: Meaning = "accept"

    def __post_init__(self) -> None:
        self.filter.timeout = self.timeout


class DeadlineExceeded(Exception):
    """The time for the whole stage is used up."""


def verdict_for(failure: Outcome | BaseException, meaning: Meaning = "tempfail") -> Verdict | None:
    """What a failure means: the one map from failures to verdicts. `None` lets the mail pass."""
    match failure:
        case DeadlineExceeded():
            return tempfail("deadline-exceeded", status="4.4.7", detail="the deadline passed while scanning")
        case BaseException():
            reason, detail, status = "policy-error", _traceback(failure), "3.0"
        case Unavailable(filter=name, cause=cause):
            reason, detail, status = "evidence-unavailable", f"{name}: {cause}", "7.1"
        case Skipped(filter=name, cause=cause):
            reason, detail, status = "scan-skipped", f"{name}: {cause}", "7.1"
        case _:
            raise TypeError(f"{failure!r} is not a failure")
    if meaning == "accept":
        return None
    if meaning == "reject":
        text = "Message refused: it cannot be checked"
        return reject(reason, text=text, detail=detail, status=f"5.{status}")
    return tempfail(reason, detail=detail, status=f"4.{status}")


def _traceback(error: BaseException) -> str:
    """Its end, which says most, and of its calls those of the policy and beyond."""
    told = traceback.TracebackException.from_exception(error)
    told.stack[:] = [call for call in told.stack if call.filename not in _CALLERS]
    return "".join(told.format())[-_MAX_TRACEBACK:]


# Files through which a policy is called, and interrupted: its author is not to look there.
_CALLERS = {function.__code__.co_filename for function in (_traceback, Plainly.call, Policy.__call__)}


class Pipeline:
    """Filters and policies as configured. Shared by all sessions; keeps nothing about any of them.

    Filters are asked by way of `joiner`, and policies by way of `caller`, which several pipelines may share.
    """

    def __init__(
        self,
        policies: Sequence[PolicySetting],
        filters: Sequence[FilterSetting],
        joiner: Joiner | None = None,
        caller: Caller | None = None,
    ) -> None:
        self._joiner = joiner or Joiner()
        self._caller = caller or Plainly()
        self._stages = {stage: [s for s in policies if s.policy.stage is stage] for stage in Stage}
        self._filters = {setting.filter.finds: setting for setting in filters}

    def adapted(
        self,
        policy: Callable[[PolicySetting], PolicySetting],
        source: Callable[[FilterSetting], FilterSetting],
    ) -> "Pipeline":
        """The same pipeline with other policies and filters in the places of these."""
        policies = [policy(setting) for settings in self._stages.values() for setting in settings]
        return Pipeline(policies, [source(setting) for setting in self._filters.values()])

    def has_policies(self, stage: Stage) -> bool:
        """Whether anybody wants to be asked at this stage."""
        return bool(self._stages[stage])

    async def judge(self, tx: Transaction, case: CaseFile, deadline: float) -> Judgement | None:
        """Ask the policies of this stage in order; what is learnt goes into `case`.

        `deadline` is in the event loop's time. Returns the refusal or acceptance that ended it, or
        `None`. A failure does not end it: known junk is refused for good even while a scanner is
        down. It is left in `case.deferral`.
        """
        started = asyncio.get_running_loop().time()
        try:
            for setting in self._stages[tx.stage]:
                verdict = await self._ask(setting, tx, case, deadline)
                if verdict is None:
                    continue
                judgement = _carry_out(verdict, setting.policy.name, tx, case)
                if judgement is not None:
                    return judgement
        except DeadlineExceeded as failure:
            self._defer(case, verdict_for(failure), None, tx.stage)
        finally:
            case.spend(tx.stage.value, asyncio.get_running_loop().time() - started)
        return None

    async def _ask(
        self, setting: PolicySetting, tx: Transaction, case: CaseFile, deadline: float
    ) -> Verdict | None:
        """One policy's verdict, recorded; `None` also where it is only a warning."""
        exempted_by = case.exempt.get(setting.policy.name)
        if exempted_by is not None:
            case.opinions[setting.policy.name] = Opinion(None, tx.stage, setting.enforced, exempted_by)
            return None
        findings = await self._gather(setting, tx, case, deadline)
        if findings is None:
            return None
        verdict = self._call(setting, tx, case, Evidence(findings))
        return verdict if setting.enforced else None

    async def _gather(
        self, setting: PolicySetting, tx: Transaction, case: CaseFile, deadline: float
    ) -> list[Finding] | None:
        """What a policy needs and wants, the cheap first; `None` if what it needs cannot be had."""
        needs = setting.policy.needs
        wanted = [kind for kind in setting.policy.wants if kind in self._filters and kind not in needs]
        findings = []
        for kind in sorted((*needs, *wanted), key=lambda kind: self._filters[kind].filter.cost):
            outcome = await self._find(self._filters[kind], tx, case, deadline)
            if isinstance(outcome, Finding):
                findings.append(outcome)
                continue
            self._miss(setting, self._filters[kind], outcome, tx, case)
            if kind in needs:
                return None
        return findings

    async def _find(
        self, setting: FilterSetting, tx: Transaction, case: CaseFile, deadline: float
    ) -> Outcome:
        """The filter's outcome, asked for at most once for as long as what it is about lives."""
        source = setting.filter
        known = case.evidence.get(source.finds)
        if known is not None:
            return known.outcome
        loop = asyncio.get_running_loop()
        started = loop.time()
        answer = await self._run(setting, tx, started, deadline)
        gathered = Gathered(
            answer.outcome, source.name, loop.time() - started, source.stage, answer.joined, answer.age
        )
        case.remember(source.finds, gathered)
        self._caller.note(gathered)
        return answer.outcome

    async def _run(self, setting: FilterSetting, tx: Transaction, started: float, deadline: float) -> Answer:
        """Ask the filter, bounded in time."""
        until = started + setting.timeout
        try:
            async with asyncio.timeout_at(min(until, deadline)):
                return await self._joiner.ask(setting.filter, tx)
        except TimeoutError:
            if deadline < until:
                raise DeadlineExceeded from None
            return Answer(Unavailable(setting.filter.name, f"no answer within {setting.timeout:g} s"))

    def _miss(
        self,
        setting: PolicySetting,
        source: FilterSetting,
        outcome: Outcome,
        tx: Transaction,
        case: CaseFile,
    ) -> None:
        """A policy cannot be asked, or not about all: do what the operator declared for that."""
        skipped = isinstance(outcome, Skipped)
        verdict = verdict_for(outcome, source.skipped if skipped else source.unavailable)
        case.opinions[setting.policy.name] = Opinion(verdict, tx.stage, setting.enforced)
        if verdict is None or not setting.enforced:
            case.unscanned[source.filter.name] = "scan-skipped" if skipped else "evidence-unavailable"
        else:
            self._defer(case, verdict, setting.policy.name, tx.stage)

    def _call(
        self, setting: PolicySetting, tx: Transaction, case: CaseFile, evidence: Evidence
    ) -> Verdict | None:
        """Call the policy; an exception, or an answer that is none, is by `on_error`, and no verdict."""
        name = setting.policy.name
        try:
            verdict = self._caller.call(setting.policy, tx, evidence, setting.options)
        except (*THROWN, Interrupted) as error:
            deferral = verdict_for(error, setting.on_error)
            trace = "" if deferral else _traceback(error)
            case.opinions[name] = Opinion(deferral, tx.stage, setting.enforced, error=trace)
            if setting.enforced and deferral is None:
                case.unscanned[name] = "policy-error"
            elif setting.enforced:
                self._defer(case, deferral, name, tx.stage)
            return None
        case.opinions[name] = Opinion(
            verdict, tx.stage, setting.enforced, fingerprint=setting.fingerprint.now
        )
        return verdict

    @staticmethod
    def _defer(case: CaseFile, verdict: Verdict | None, policy: str | None, stage: Stage) -> None:
        if verdict is not None and case.deferral is None:
            case.deferral = Judgement(verdict, policy, stage.value)


def _carry_out(verdict: Verdict, policy: str, tx: Transaction, case: CaseFile) -> Judgement | None:
    """Note what the verdict has done to the message; the judgement, if that ends the judging."""
    case.effects.extend(verdict.effects)
    for effect in verdict.effects:
        if isinstance(effect, Copy):
            case.copies.setdefault(policy, effect.reason)
    for name in verdict.exempt_from:
        case.exempt.setdefault(name, policy)
    if not verdict.ends_judging:
        return None
    judgement = Judgement(verdict, policy, tx.stage.value)
    if verdict.recipients is None:
        return judgement
    for recipient in verdict.recipients.intersection(tx.envelope.recipients):
        case.refusals.setdefault(recipient, judgement)
    if len(case.refusals) < len(set(tx.envelope.recipients)):
        return None
    # Refused for each of them is refused for all. Where that is one reply, nobody may lose by it what
    # was only to be tried again.
    refusals = (*case.refusals.values(), judgement)
    return next((each for each in refusals if each.verdict.decision is Decision.TEMPFAIL), judgement)
