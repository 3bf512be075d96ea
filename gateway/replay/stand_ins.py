"""What stands in for filters and policies while recorded mail is judged again.

Filters answer from the record in hand. A policy that would have to know what is not in it says what it said
then, where that is recorded and it is the same policy; else it has no opinion, and that is noted as a doubt.
"""

import copy
from dataclasses import dataclass, replace

from filters.base import Filter, FilterError, TooLarge
from filters.evidence import Evidence, Finding, Route, Skipped, Unavailable
from filters.route import Routes
from gateway.journal.record import Record
from gateway.pipeline import FilterSetting, PolicySetting
from gateway.replay.recorded import NotRecorded, Rebuilt, outcome
from gateway.smtp.transaction import Stage, Transaction
from policies.policy import Policy
from policies.verdict import Verdict


@dataclass(frozen=True, slots=True)
class Doubt:
    """A policy that cannot be asked about a record, and what the record lacks for it."""

    policy: Policy
    cause: str
    enforced: bool


class Hand:
    """The record in hand: where filters find their answers and policies their opinions; keeps the doubts.

    `recalled` are the policies whose recorded opinion was taken.
    """

    def __init__(self) -> None:
        self.rebuilt: Rebuilt
        # What policies see of it at the stage that is judged.
        self.shown: Transaction
        self.doubts: list[Doubt] = []
        self.recalled: set[str] = set()
        self._lacking: dict[type[Finding], str] = {}

    def take(self, record: Record) -> Rebuilt:
        """The next record. Raises Unreadable."""
        self.doubts, self.recalled, self._lacking = [], set(), {}
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

    def recall(self, setting: PolicySetting, evidence: Evidence) -> Verdict | None:
        """What the policy said then. Raises NotRecorded where it need not say the same now."""
        policy = setting.policy
        said = self.rebuilt.opinion(policy.name, setting.fingerprint.now)
        self._check_recipients(policy.stage)
        for kind in policy.wants:
            if kind in self._lacking or (kind not in evidence and self.rebuilt.has_found(kind)):
                raise NotRecorded(f"{kind.__name__}: whether it was known then, is now another matter")
        for kind in (*policy.needs, *policy.wants):
            if kind is Route and evidence.get(kind) != outcome(kind, self.rebuilt.record.evidence):
                raise NotRecorded("the relay table was another one")
        self.recalled.add(policy.name)
        return said

    def _check_recipients(self, stage: Stage) -> None:
        """Raises NotRecorded where the policy need not have been asked about these and no others."""
        if stage is Stage.RCPT:
            raise NotRecorded("envelope.recipients")
        if stage is Stage.END_OF_DATA and self.shown.envelope.recipients != self.rebuilt.recipients:
            raise NotRecorded("envelope.recipients")


def asked_about(setting: PolicySetting, hand: Hand) -> PolicySetting:
    """The policy; where it would have to know what is not recorded, what it said then, or a doubt."""
    policy = setting.policy

    def ask(_: Transaction, evidence: Evidence, **options: object) -> Verdict | None:
        NotRecorded.forget()
        verdict = None
        try:
            hand.check(evidence)
            verdict = policy.function(hand.shown, evidence, **options)
        except (NotRecorded, Exception):
            if NotRecorded.latest is None:
                raise
        missing = NotRecorded.latest
        if missing is None:
            return verdict
        # It may have caught that and made something of it: an exception or a verdict, it is a guess.
        try:
            return hand.recall(setting, evidence)
        except NotRecorded:
            hand.doubts.append(Doubt(policy, str(missing), setting.enforced))
            return None

    adapted = copy.copy(policy)
    adapted.function = ask
    return replace(setting, policy=adapted)


def answering(setting: FilterSetting, hand: Hand) -> FilterSetting:
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
