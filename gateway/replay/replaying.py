"""Judging recorded mail again, by other settings or policies: whose verdict would be another one?

The policies run in the pipeline that judges live mail; only its filters answer from the record, and
nobody is asked anything. What a record cannot tell is never guessed: a policy that would have to know
it says what it said then, if it is still the same. Else it is in doubt, and so is the verdict, unless it is
the same whatever that policy would have said.
"""

import enum
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from gateway.casefile import CaseFile, Judgement
from gateway.hearing.recipients import Start
from gateway.journal.record import Record
from gateway.profiles import Profile, Profiles
from gateway.proxy.addressing import AddressingError, address
from gateway.recorder import VERDICTS
from gateway.relay.router import Router
from gateway.replay.answers import possible_answers
from gateway.replay.recorded import Rebuilt, Unreadable
from gateway.replay.stand_ins import Doubt, Hand, answering, asked_about
from gateway.smtp.address import Path
from gateway.smtp.transaction import BEFORE_RCPT, Stage
from policies.verdict import Decision, reject, tempfail

# What a message meets beyond the last stage that its record knows of, nobody can say.
GOES_ON: Final = "goes-on"

_REFUSALS: Final = frozenset({"rejected", "tempfailed"})
# What a policy may answer besides, without keeping a later one from refusing.
_HARMLESS: Final = frozenset({Decision.MARK, Decision.SUBJECT, Decision.COPY, Decision.ADD_RECIPIENT})
_OF_DOWNSTREAM: Final = frozenset(
    {"unknown-recipient", "downstream-rejected", "downstream-deferred", "downstream-unavailable"}
)
# What the gateway says of itself, and what nevertheless depends on policies and settings.
_OF_POLICIES: Final = frozenset({"relay-denied", "deadline-exceeded", "policy-error"})
_NO_DEADLINE: Final = math.inf


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a message, or would: the record's verdict or `GOES_ON`, and who decided why."""

    verdict: str
    reason: str
    policy: str | None
    stage: str


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
    """A record judged again. `why` says why it was skipped; `doubts` are about all its recipients.

    `recalled` are the policies that were not asked again: they said what they had said then.
    """

    record: Record
    kind: Kind
    fates: tuple[Fate, ...] = ()
    doubts: tuple[Doubt, ...] = ()
    why: str = ""
    recalled: frozenset[str] = frozenset()

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
        self._hand = Hand()
        self._router = router
        self._profiles = Profiles(
            self._adapted(profiles.general), [self._adapted(profile) for profile in profiles.special]
        )

    def _adapted(self, profile: Profile) -> Profile:
        pipeline = profile.pipeline.adapted(
            lambda setting: asked_about(setting, self._hand), lambda setting: answering(setting, self._hand)
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
        doubts = tuple(dict.fromkeys(self._hand.doubts))
        return Replayed(record, kind, tuple(fates), doubts, recalled=frozenset(self._hand.recalled))

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
    is_by_gateway = record.policy is None and record.verdict in _REFUSALS
    if is_by_gateway and record.reason not in _OF_POLICIES and not _is_of_downstream(record):
        return f"refused by the gateway itself: {record.reason}"
    return ""


def _is_of_downstream(record: Record) -> bool:
    """Whether the downstream refused it, after the policies had let it pass."""
    if record.policy is not None or record.verdict not in _REFUSALS:
        return False
    return record.stage == "relay" or (record.stage == "rcpt" and record.reason in _OF_DOWNSTREAM)


# The way a transaction takes, with what is recorded of it


class _Group:
    """Recipients of one record who have the same profile; judged as a transaction is live."""

    def __init__(self, hand: Hand, router: Router, profile: Profile, recipients: Sequence[Path]) -> None:
        self._hand = hand
        self._rebuilt = hand.rebuilt
        self._router = router
        self._pipeline = profile.pipeline
        self._recipients = recipients
        self._start = Start(CaseFile(), None)

    async def judge(self) -> list[Fate]:
        """What becomes of them, up to the last stage that the record knows of."""
        number = len(self._hand.doubts)
        await self._judge_early()
        doubts = self._hand.doubts_since(number)
        if not self._recipients:
            return [self._fate((), self._start.case, self._start.early, doubts)]
        number = len(self._hand.doubts)
        fates: list[Fate] = []
        # Whoever is exempt from other policies gets the message in another transaction.
        apart: dict[frozenset[str], list[_GoingOn]] = {}
        for recipient in self._recipients:
            start = len(self._hand.doubts)
            case = self._start.case.fork(Stage.RCPT)
            judgement, target = await self._judge_recipient(recipient, case)
            found = doubts + self._hand.doubts_since(start)
            if case.conclude(judgement) or self._rebuilt.last is not Stage.END_OF_DATA:
                fates.append(self._fate((recipient,), case, judgement, found))
            else:
                apart.setdefault(frozenset(case.exempt), []).append(_GoingOn(recipient, target, case, found))
        is_sure = not self._hand.doubts_since(number)
        for going_on in apart.values():
            fates += await self._judge_message(going_on, is_sure)
        return fates

    async def _judge_early(self) -> None:
        early: Judgement | None = None
        for stage in BEFORE_RCPT:
            if early is None and not self._rebuilt.last.is_before(stage):
                early = await self._ask(self._start.case, stage)
        self._start = Start(self._start.case, early)

    async def _judge_recipient(self, recipient: Path, case: CaseFile) -> tuple[Judgement | None, Path]:
        """The refusal if there is one, and where the mail for this recipient goes."""
        # Who was accepted before this one is nowhere recorded.
        refusal = await self._start.judge_recipient(
            recipient, case, lambda: self._ask(case, Stage.RCPT, recipient, is_known=False)
        )
        redirect = case.take_redirect()
        target = redirect or recipient
        is_ours = not self._rebuilt.is_by_mta
        if refusal is None and is_ours and self._router.find(target) is None:
            lost = tempfail("policy-error") if redirect else reject("relay-denied")
            refusal = Judgement(lost, None, Stage.RCPT.value)
        return refusal, target

    async def _judge_message(self, going_on: "Sequence[_GoingOn]", is_sure: bool) -> list[Fate]:
        """The end of data; `is_sure` says whether these and no others have come so far."""
        case = self._start.case_of_message()
        for each in going_on:
            case.absorb(each.case)
        is_known = self._rebuilt.has_all_recipients and is_sure
        recipients = [each.recipient for each in going_on]
        start = len(self._hand.doubts)
        judgement = await self._start.judge_message(
            lambda: self._ask(case, Stage.END_OF_DATA, None, recipients, is_known)
        )
        if case.conclude(judgement) is None and (judgement is None or not judgement.verdict.is_taking):
            judgement = self._misaddressed(case, going_on) or judgement
        doubts = self._hand.doubts_since(start)
        alike: dict[tuple[Judgement | None, tuple[Doubt, ...]], list[Path]] = {}
        for each in going_on:
            own = self._refusal_of(each.recipient, case) or judgement
            alike.setdefault((own, (*each.doubts, *doubts)), []).append(each.recipient)
        return [self._fate(who, case, own, found) for (own, found), who in alike.items()]

    def _refusal_of(self, recipient: Path, case: CaseFile) -> Judgement | None:
        """What is refused to this recipient alone, if the client takes a reply for each."""
        return case.refusals.get(recipient) if self._rebuilt.record.answers_for_each else None

    def _misaddressed(self, case: CaseFile, going_on: "Sequence[_GoingOn]") -> Judgement | None:
        """What becomes of mail that a policy sends where it cannot go, if it is we who send it."""
        if self._rebuilt.is_by_mta:
            return None
        destination = self._router.find(going_on[0].target)
        assert destination is not None
        try:
            address(case, self._router, destination, [(each.target, {}) for each in going_on], ())
        except AddressingError as error:
            verdict = tempfail("policy-error", status="4.3.0", detail=str(error))
            return Judgement(verdict, None, Stage.END_OF_DATA.value)
        return None

    async def _ask(
        self,
        case: CaseFile,
        stage: Stage,
        recipient: Path | None = None,
        recipients: Sequence[Path] = (),
        is_known: bool = True,
    ) -> Judgement | None:
        """Without `is_known` policies do not get to see `recipients`, which may not be all there were."""
        if not self._pipeline.has_policies(stage):
            return None
        tx = self._rebuilt.transaction(stage, recipient, recipients)
        self._hand.shown = tx if is_known else self._rebuilt.transaction(stage, recipient, None)
        return await self._pipeline.judge(tx, case, _NO_DEADLINE)

    def _fate(
        self, recipients: Sequence[Path], case: CaseFile, judgement: Judgement | None, doubts: Sequence[Doubt]
    ) -> Fate:
        refusal = case.conclude(judgement)
        outcome = self._passed(judgement) if refusal is None else _decided(refusal)
        is_final = refusal is not None and refusal is judgement
        # Nobody knows whether what was refused to some could be said to this client.
        is_open = bool(case.refusals) and self._rebuilt.record.answers_for_each is None
        possible = {outcome.verdict}
        if doubts or is_open:
            possible = self._possible(outcome, is_final and not is_open, doubts)
        return Fate(tuple(map(str, recipients)), outcome, frozenset(possible))

    def _passed(self, judgement: Judgement | None = None) -> Outcome:
        """What it comes to where no policy refuses it."""
        record, last = self._rebuilt.record, self._rebuilt.last
        if judgement is not None and judgement.verdict.is_taking:
            return _decided(judgement)
        if _is_of_downstream(record):
            return Outcome(record.verdict, record.reason, None, record.stage)
        if last is not Stage.END_OF_DATA:
            return Outcome(GOES_ON, "beyond-the-record", None, last.value)
        by = (judgement.verdict.reason, judgement.policy) if judgement else ("accepted", None)
        return Outcome("accepted", *by, last.value if self._rebuilt.is_by_mta else "relay")

    def _possible(self, outcome: Outcome, is_final: bool, doubts: Sequence[Doubt]) -> set[str]:
        """The verdicts that there may be, whatever the policies in doubt would have said."""
        everything = {self._passed().verdict, outcome.verdict, *_REFUSALS}
        if self._rebuilt.last is Stage.END_OF_DATA:
            everything |= set(VERDICTS.values())
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
                possible |= _REFUSALS
        return possible


@dataclass(frozen=True, slots=True)
class _GoingOn:
    """A recipient that was not refused at RCPT: where the mail goes, what was found, what is in doubt."""

    recipient: Path
    target: Path
    case: CaseFile
    doubts: Sequence[Doubt]


def _decided(judgement: Judgement) -> Outcome:
    verdict = judgement.verdict
    return Outcome(VERDICTS[verdict.decision], verdict.reason, judgement.policy, judgement.stage)
