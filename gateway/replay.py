"""Judging recorded mail again, by other settings or policies: whose verdict would be another one?

The policies run in the pipeline that judges live mail; only its filters answer from the record, and
nobody is asked anything. What a record cannot tell is never guessed: a policy that would have to know
it is in doubt, and so is the verdict, unless it is the same whatever that policy would have said.
"""

import copy
import enum
import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from filters.base import Filter, FilterError, TooLarge
from filters.evidence import Evidence, Finding, Skipped, Unavailable
from filters.route import Routes
from gateway.answers import possible_answers
from gateway.casefile import CaseFile, Judgement
from gateway.journal.record import Record
from gateway.pipeline import FilterSetting, PolicySetting
from gateway.profiles import Profile, Profiles
from gateway.recorded import NotRecorded, Rebuilt, Unreadable, outcome
from gateway.recorder import VERDICTS
from gateway.relay.router import Router
from gateway.smtp.address import Path
from gateway.smtp.transaction import Stage, Transaction
from policies.policy import Policy
from policies.verdict import Decision, Verdict, reject

# What a message meets beyond the last stage that its record knows of, nobody can say.
GOES_ON: Final = "goes-on"

_REFUSED: Final = frozenset({"rejected", "tempfailed"})
# What a policy may have done to a message without another outcome.
_HARMLESS: Final = frozenset({Decision.MARK, Decision.SUBJECT, Decision.COPY})
_OF_DOWNSTREAM: Final = frozenset(
    {"unknown-recipient", "downstream-rejected", "downstream-deferred", "downstream-unavailable"}
)
# What the gateway says of itself, and what nevertheless depends on policies and settings.
_OF_POLICIES: Final = frozenset({"relay-denied", "deadline-exceeded"})
_NO_DEADLINE: Final = math.inf


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a message, or would: the record's verdict or `GOES_ON`, and who decided why."""

    verdict: str
    reason: str
    policy: str | None
    stage: str


@dataclass(frozen=True, slots=True)
class Doubt:
    """A policy that cannot be asked about a record, and what the record lacks for it."""

    policy: Policy
    cause: str
    enforced: bool


class Kind(enum.Enum):
    """How the verdict then and the verdict now compare."""

    UNCHANGED = "unchanged"
    FLIP = "flip"
    UNDETERMINED = "undetermined"
    SKIPPED = "skipped"


@dataclass(frozen=True, slots=True)
class Fate:
    """What these recipients' message would meet now: `outcome`, as far as that is known.

    `verdicts` are all that are possible; only with one of them `outcome` is sure.
    """

    recipients: tuple[str, ...]
    outcome: Outcome
    verdicts: frozenset[str]

    def kind(self, then: str) -> Kind:
        """How it compares with the verdict of then."""
        if self.verdicts == {then}:
            return Kind.UNCHANGED
        return Kind.UNDETERMINED if then in self.verdicts else Kind.FLIP


@dataclass(frozen=True, slots=True)
class Replayed:
    """A record judged again. `why` says why it was skipped; `doubts` are about all its recipients."""

    record: Record
    kind: Kind
    fates: tuple[Fate, ...] = ()
    doubts: tuple[Doubt, ...] = ()
    why: str = ""

    @property
    def then(self) -> Outcome:
        """What became of it when it was recorded."""
        record = self.record
        return Outcome(record.verdict, record.reason, record.policy, record.stage)

    @property
    def flips(self) -> list[Fate]:
        """The fates that are sure to be other ones than then."""
        return [fate for fate in self.fates if fate.kind(self.record.verdict) is Kind.FLIP]


class Replay:
    """Judges one record after the other by these settings. Asks none of their filters."""

    def __init__(self, profiles: Profiles, router: Router) -> None:
        self._hand = _Hand()
        self._router = router
        self._profiles = Profiles(
            self._adapted(profiles.general), [self._adapted(profile) for profile in profiles.special]
        )

    def _adapted(self, profile: Profile) -> Profile:
        pipeline = profile.pipeline.adapted(
            lambda setting: _asked_about(setting, self._hand), lambda setting: _answering(setting, self._hand)
        )
        return replace(profile, pipeline=pipeline)

    async def judge(self, record: Record) -> Replayed:
        """One record judged again."""
        why = _not_for_policies(record)
        if why:
            return Replayed(record, Kind.SKIPPED, why=why)
        try:
            groups = self._groups(self._hand.take(record))
        except Unreadable as error:
            return Replayed(record, Kind.SKIPPED, why=str(error))
        fates = [fate for group in groups for fate in await group.judge()]
        kinds = {fate.kind(record.verdict) for fate in fates}
        kind = next(kind for kind in (Kind.FLIP, Kind.UNDETERMINED, Kind.UNCHANGED) if kind in kinds)
        if kind is not Kind.FLIP and _is_of_downstream(record):
            return Replayed(record, Kind.SKIPPED, why="refused by the downstream")
        return Replayed(record, kind, tuple(fates), tuple(dict.fromkeys(self._hand.doubts)))

    def _groups(self, rebuilt: Rebuilt) -> "list[_Group]":
        """The recipients by their profiles: the sender would have to send to each group apart."""
        apart: dict[Profile, list[Path]] = {}
        for recipient in rebuilt.recipients:
            apart.setdefault(self._profiles.find(recipient)[0], []).append(recipient)
        pairs = list(apart.items()) or [(self._profiles.general, [])]
        return [_Group(self._hand, self._router, profile, recipients) for profile, recipients in pairs]


def _not_for_policies(record: Record) -> str:
    """Why no policy and no setting of one could have changed it; empty where one could."""
    if record.verdict == "aborted":
        return "given up by the client or cut off"
    is_by_gateway = record.policy is None and record.verdict in _REFUSED
    if is_by_gateway and record.reason not in _OF_POLICIES and not _is_of_downstream(record):
        return f"refused by the gateway itself: {record.reason}"
    return ""


def _is_of_downstream(record: Record) -> bool:
    """Whether the downstream refused it, after the policies had let it pass."""
    if record.policy is not None or record.verdict not in _REFUSED:
        return False
    return record.stage == "relay" or (record.stage == "rcpt" and record.reason in _OF_DOWNSTREAM)


# What filters and policies are replaced by


class _Hand:
    """The record in hand: where filters find their answers, and doubts are noted."""

    def __init__(self) -> None:
        self.rebuilt: Rebuilt
        self.doubts: list[Doubt] = []
        self._lacking: dict[type[Finding], str] = {}

    def take(self, record: Record) -> Rebuilt:
        """The next record. Raises Unreadable."""
        self.doubts, self._lacking = [], {}
        self.rebuilt = Rebuilt(record)
        return self.rebuilt

    def doubts_since(self, number: int) -> list[Doubt]:
        """Those that count, for a policy in warn mode decides nothing."""
        return [doubt for doubt in self.doubts[number:] if doubt.enforced]

    def find(self, source: Filter) -> Finding:
        """What the filter answered then. Raises FilterError where it did not.

        Where that is not known, what is returned is empty, and no policy is to be asked about it.
        """
        kind = source.finds
        try:
            if source.stage is Stage.RCPT and self.rebuilt.is_about_several:
                raise NotRecorded(f"{kind.__name__}: it is not recorded for each recipient")
            found = outcome(kind, self.rebuilt.record.evidence)
        except NotRecorded as missing:
            self._lacking[kind] = str(missing)
            return object.__new__(kind)
        if isinstance(found, Skipped):
            raise TooLarge(found.cause)
        if isinstance(found, Unavailable):
            raise FilterError(found.cause)
        return found

    def check(self, evidence: Evidence) -> None:
        """Raises NotRecorded where some of that evidence is not known."""
        for kind, cause in self._lacking.items():
            if kind in evidence:
                raise NotRecorded(cause)


def _asked_about(setting: PolicySetting, hand: _Hand) -> PolicySetting:
    """The policy, with no opinion and a doubt where it would have to know what is not recorded."""
    policy = setting.policy

    def ask(tx: Transaction, evidence: Evidence, **options: object) -> Verdict | None:
        try:
            hand.check(evidence)
            return policy.function(tx, evidence, **options)
        except NotRecorded as missing:
            hand.doubts.append(Doubt(policy, str(missing), setting.enforced))
            return None

    adapted = copy.copy(policy)
    adapted.function = ask
    return replace(setting, policy=adapted)


def _answering(setting: FilterSetting, hand: _Hand) -> FilterSetting:
    """The filter's setting, with the record instead of its source."""
    source = setting.filter
    if isinstance(source, Routes):  # it asks the relay table, which is a setting like others
        return setting

    class FromRecord(Filter):
        """Answers what the other one answered then."""

        name, finds, stage, cost = source.name, source.finds, source.stage, source.cost

        async def find(self, tx: Transaction) -> Finding:  # noqa: ARG002 - the record is about it
            """What was found then."""
            return hand.find(self)

    return replace(setting, filter=FromRecord())


# The way a transaction takes, with what is recorded of it


@dataclass(slots=True)
class _GoingOn:
    """Recipients who get beyond RCPT together, each with the doubts about it."""

    case: CaseFile
    recipients: list[tuple[Path, list[Doubt]]] = field(default_factory=list)


class _Group:
    """Recipients of one record who have the same profile; judged as a transaction is live."""

    def __init__(self, hand: _Hand, router: Router, profile: Profile, recipients: Sequence[Path]) -> None:
        self._hand = hand
        self._rebuilt = hand.rebuilt
        self._router = router
        self._pipeline = profile.pipeline
        self._recipients = recipients
        self._case = CaseFile()
        self._early: Judgement | None = None

    async def judge(self) -> list[Fate]:
        """What becomes of them, up to the last stage that the record knows of."""
        number = len(self._hand.doubts)
        await self._judge_early()
        doubts = self._hand.doubts_since(number)
        if not self._recipients:
            return [self._fate((), self._case, self._early, doubts)]
        fates: list[Fate] = []
        # Those who are exempt from the same policies can get it together.
        going_on: dict[frozenset[str], _GoingOn] = {}
        number = len(self._hand.doubts)
        for recipient in self._recipients:
            start = len(self._hand.doubts)
            case = self._case.fork(Stage.RCPT)
            judgement = await self._judge_recipient(recipient, case)
            found = doubts + self._hand.doubts_since(start)
            if case.conclude(judgement) or self._rebuilt.last is not Stage.END_OF_DATA:
                fates.append(self._fate((recipient,), case, judgement, found))
            else:
                together = going_on.setdefault(frozenset(case.exempt), _GoingOn(self._message_case()))
                together.case.absorb(case)
                together.recipients.append((recipient, found))
        is_sure = not self._hand.doubts_since(number)
        for each in going_on.values():
            fates += await self._judge_message(each.case, each.recipients, is_sure)
        return fates

    def _message_case(self) -> CaseFile:
        case = self._case.fork(Stage.RCPT)
        # Only postmaster gets beyond RCPT with a deferral, and is not deferred in the end.
        case.deferral = None
        return case

    async def _judge_early(self) -> None:
        for stage in (Stage.CONNECT, Stage.HELO, Stage.MAIL):
            if self._early is None and not self._rebuilt.last.is_before(stage):
                self._early = await self._ask(self._case, stage)

    async def _judge_recipient(self, recipient: Path, case: CaseFile) -> Judgement | None:
        early = self._early
        if recipient.is_postmaster:
            case.deferral = None
        elif early is not None and early.verdict.is_refusal:
            return early
        judgement = None
        if not self._is_exempt:
            # Who was accepted before this one is nowhere recorded.
            judgement = await self._ask(case, Stage.RCPT, recipient, None)
        target = case.take_redirect() or recipient
        if case.conclude(judgement) is None and self._router.find(target) is None:
            return Judgement(reject("relay-denied"), None, Stage.RCPT.value)
        return judgement

    async def _judge_message(
        self, case: CaseFile, going_on: Sequence[tuple[Path, list[Doubt]]], is_sure: bool
    ) -> list[Fate]:
        """The end of data; `is_sure` says whether these and no others have come so far."""
        known = None if self._rebuilt.is_of_lmtp or not is_sure else [recipient for recipient, _ in going_on]
        start = len(self._hand.doubts)
        judgement = self._early
        if not self._is_exempt:
            judgement = await self._ask(case, Stage.END_OF_DATA, None, known)
        doubts = self._hand.doubts_since(start)
        alike: dict[tuple[Doubt, ...], list[Path]] = {}
        for recipient, found in going_on:
            alike.setdefault((*found, *doubts), []).append(recipient)
        return [self._fate(each, case, judgement, found) for found, each in alike.items()]

    async def _ask(
        self,
        case: CaseFile,
        stage: Stage,
        recipient: Path | None = None,
        recipients: Sequence[Path] | None = (),
    ) -> Judgement | None:
        if not self._pipeline.has_policies(stage):
            return None
        tx = self._rebuilt.transaction(stage, recipient, recipients)
        return await self._pipeline.judge(tx, case, _NO_DEADLINE)

    @property
    def _is_exempt(self) -> bool:
        return self._early is not None and self._early.verdict.decision is Decision.ACCEPT

    def _fate(
        self, recipients: Sequence[Path], case: CaseFile, judgement: Judgement | None, doubts: Sequence[Doubt]
    ) -> Fate:
        refusal = case.conclude(judgement)
        if refusal is None:
            outcome = self._passed(judgement)
        else:
            verdict = refusal.verdict
            outcome = Outcome(VERDICTS[verdict.decision], verdict.reason, refusal.policy, refusal.stage)
        is_final = refusal is not None and refusal is judgement
        possible = self._possible(outcome, is_final, doubts) if doubts else {outcome.verdict}
        return Fate(tuple(map(str, recipients)), outcome, frozenset(possible))

    def _passed(self, judgement: Judgement | None = None) -> Outcome:
        """What it comes to where no policy minds."""
        record, last = self._rebuilt.record, self._rebuilt.last
        if _is_of_downstream(record):
            return Outcome(record.verdict, record.reason, None, record.stage)
        if last is not Stage.END_OF_DATA:
            return Outcome(GOES_ON, "beyond-the-record", None, last.value)
        if judgement is None:
            return Outcome("accepted", "accepted", None, "relay")
        verdict = judgement.verdict
        word = VERDICTS[verdict.decision] if verdict.is_taking else "accepted"
        return Outcome(word, verdict.reason, judgement.policy, last.value if verdict.is_taking else "relay")

    def _possible(self, outcome: Outcome, is_final: bool, doubts: Sequence[Doubt]) -> set[str]:
        """The verdicts that there may be, whatever the policies in doubt would have said."""
        everything = {self._passed().verdict, outcome.verdict, *_REFUSED}
        for doubt in doubts:
            if doubt.policy.stage is Stage.END_OF_DATA:
                answers = possible_answers(doubt.policy) & {Decision.QUARANTINE, Decision.DISCARD}
                everything |= {VERDICTS[answer] for answer in answers}
        # A deferral is given up for a refusal, and what passes may be refused by anybody.
        if not is_final:
            return everything
        possible = {outcome.verdict}
        for doubt in doubts:
            answers = possible_answers(doubt.policy)
            if not answers <= {*VERDICTS, *_HARMLESS}:
                return everything
            possible |= {VERDICTS[answer] for answer in answers if answer in VERDICTS}
            # Had it failed before the end of data, nobody would have been asked about the message.
            if outcome.stage == Stage.END_OF_DATA.value and doubt.policy.stage is not Stage.END_OF_DATA:
                possible |= _REFUSED
        return possible
