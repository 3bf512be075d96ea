"""What a replay comes to: how many records met what, and those whose verdict flips. Counts only."""

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from gateway.replay.replaying import Fate, Kind, Outcome, Replayed


def is_of(replayed: Replayed, fate: Fate, policy: str | None) -> bool:
    """Whether this policy decides there, now or then; any policy without a name."""
    return policy is None or policy in {replayed.record.policy, fate.outcome.policy}


@dataclass(slots=True)
class Tally:
    """Counts of records. With `policy` only its flips count, and only what is in doubt by it.

    `flips` is by outcome then and now, where `now` has all verdicts that are possible. `skipped` is by
    cause, `doubts` by policy and what the record lacks for it, `recalled` by policy whose recorded opinion
    was taken.
    """

    policy: str | None = None
    records: int = 0
    unchanged: int = 0
    other_reasons: int = 0
    undetermined: int = 0
    of_others: int = 0
    flipped: list[Replayed] = field(default_factory=list)
    flips: Counter[tuple[Outcome, Outcome, frozenset[str]]] = field(default_factory=Counter)
    skipped: Counter[str] = field(default_factory=Counter)
    doubts: Counter[tuple[str, str]] = field(default_factory=Counter)
    recalled: Counter[str] = field(default_factory=Counter)

    @property
    def judged(self) -> int:
        """Records that policies were asked about again."""
        return self.records - self.skipped.total()

    def add(self, replayed: Replayed) -> bool:
        """Count one record. True if it is one to be listed: a flip, or undetermined."""
        self.records += 1
        self.doubts.update({(doubt.policy.name, doubt.cause) for doubt in replayed.doubts})
        self.recalled.update(replayed.recalled)
        match replayed.kind:
            case Kind.SKIPPED:
                self.skipped[replayed.why] += 1
            case Kind.UNCHANGED:
                self.unchanged += 1
                self.other_reasons += any(_has_other_reason(replayed.then, fate) for fate in replayed.fates)
            case Kind.UNDETERMINED:
                return self._add_undetermined(replayed)
            case Kind.FLIP:
                return self._add_flip(replayed)
        return False

    def _add_undetermined(self, replayed: Replayed) -> bool:
        names = {doubt.policy.name for doubt in replayed.doubts}
        if self.policy is not None and self.policy not in names:
            self.of_others += 1
            return False
        self.undetermined += 1
        return True

    def _add_flip(self, replayed: Replayed) -> bool:
        flips = [fate for fate in replayed.flips if is_of(replayed, fate, self.policy)]
        if not flips:
            self.of_others += 1
            return False
        self.flipped.append(replayed)
        self.flips.update({(replayed.then, fate.outcome, fate.verdicts) for fate in flips})
        return True

    def as_json(self) -> dict[str, Any]:
        """The counts, for scripts."""
        return {
            "result": "summary",
            "records": self.records,
            "judged": self.judged,
            "unchanged": self.unchanged,
            "other_reasons": self.other_reasons,
            "flips": len(self.flipped),
            "undetermined": self.undetermined,
            "of_other_policies": self.of_others,
            "by_verdict": [
                {"records": number, "then": as_json(then), "now": as_json(now, verdicts)}
                for (then, now, verdicts), number in self.flips.most_common()
            ],
            "not_judged": dict(self.skipped.most_common()),
            "not_replayable": [
                {"records": number, "policy": policy, "lacks": cause}
                for (policy, cause), number in self.doubts.most_common()
            ],
            "recorded_opinions": dict(self.recalled.most_common()),
        }


def _has_other_reason(then: Outcome, fate: Fate) -> bool:
    now = fate.outcome
    return then.verdict != "accepted" and (then.reason, then.policy) != (now.reason, now.policy)


def as_json(outcome: Outcome, verdicts: frozenset[str] = frozenset()) -> dict[str, Any]:
    """An outcome; without reason where it is one of several."""
    if len(verdicts) > 1:
        return {"verdicts": sorted(verdicts)}
    return {
        "verdict": outcome.verdict,
        "reason": outcome.reason,
        "policy": outcome.policy,
        "stage": outcome.stage,
    }


def line_of(replayed: Replayed) -> dict[str, Any]:
    """A record that flips or is undetermined, with all that is known of why."""
    record = replayed.record
    return {
        "result": replayed.kind.value,
        "reference": record.reference,
        "time": record.time,
        "reverse_path": record.reverse_path,
        "recipients": record.recipients,
        "subject": record.message.subject if record.message else None,
        "then": as_json(replayed.then),
        "now": [
            {"recipients": fate.recipients, **as_json(fate.outcome, fate.verdicts)} for fate in replayed.fates
        ],
        "not_replayable": {doubt.policy.name: doubt.cause for doubt in replayed.doubts},
    }
