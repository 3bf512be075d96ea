"""The case file: everything found out and said about one session, transaction or recipient.

A session's file is opened at connect. Each transaction works on a fork of it, each recipient on a
fork of that, so what belongs to the narrower thing goes away with it and nothing is reset by hand.
"""

from dataclasses import dataclass, field
from typing import Any, Self

import msgspec

from filters.evidence import Finding, Outcome, Skipped, Unavailable
from gateway.smtp.address import Path
from gateway.smtp.transaction import Stage
from policies.effects import Effect, HeaderField, Redirect
from policies.verdict import Verdict


@dataclass(frozen=True, slots=True)
class Gathered:
    """One filter's outcome: the filter's name, the seconds it took, the stage it speaks about.

    `joined` says that it was asked for somebody else already, `age` how many seconds ago it was
    found where it was not asked for at all (`gateway/joining.py`).
    """

    outcome: Outcome
    source: str
    elapsed: float
    scope: Stage
    joined: bool = False
    age: float | None = None

    @property
    def kind(self) -> str:
        """In a word for whoever counts: how it was had, or why not."""
        if isinstance(self.outcome, Unavailable):
            return "unavailable"
        if isinstance(self.outcome, Skipped):
            return "skipped"
        return "remembered" if self.age is not None else "joined" if self.joined else "found"

    def as_record(self) -> dict[str, Any]:
        """As the record has it (INTERFACE: Records, `evidence`)."""
        about: dict[str, Any] = {"source": self.source, "elapsed": round(self.elapsed, 6)}
        if self.joined:
            about["joined"] = True
        if self.age is not None:
            about["age"] = round(self.age, 3)
        match self.outcome:
            case Unavailable(cause=cause):
                return {"unavailable": cause, **about}
            case Skipped(cause=cause):
                return {"skipped": cause, **about}
            case finding:
                return {**msgspec.to_builtins(finding, enc_hook=str), **about}


@dataclass(frozen=True, slots=True)
class Opinion:
    """What one policy said. `enforced` is false in `mode = "warn"`.

    `exempted_by` is the policy that kept this one from being asked.
    `error` is how it failed, where that means nothing for the mail and so is no verdict.
    `fingerprint` is that of the policy where it was asked and answered, and empty where what is said
    here follows from a failure or an exemption.
    """

    verdict: Verdict | None
    stage: Stage
    enforced: bool
    exempted_by: str | None = None
    error: str = ""
    fingerprint: str = ""

    def as_record(self) -> dict[str, Any]:
        """As the record has it (INTERFACE: Records, `opinions`)."""
        record: dict[str, Any] = {
            "verdict": None,
            "mode": "enforce" if self.enforced else "warn",
            "stage": self.stage.value,
        }
        if self.verdict is not None:
            decision = self.verdict.decision.value
            record["verdict"] = decision if self.enforced else f"would-{decision}"
            record["reason"] = self.verdict.reason
            record["detail"] = self.verdict.detail
            record |= self.verdict.as_record()
        elif self.error:
            record["reason"] = "policy-error"
            record["detail"] = self.error
        if self.exempted_by is not None:
            record["exempted_by"] = self.exempted_by
        if self.fingerprint:
            record["fingerprint"] = self.fingerprint
        return record


@dataclass(frozen=True, slots=True)
class Judgement:
    """A verdict, who gave it, and at which stage, by the record's names of stages.

    `policy` is `None` where the gateway itself or the downstream decided.
    """

    verdict: Verdict
    policy: str | None
    stage: str


@dataclass(slots=True)
class CaseFile:
    """Evidence by type, opinions by policy, effects in order, seconds per stage.

    `exempt` maps a policy that is not asked to the one that said so, `copies` a policy that wants a copy
    kept to its reason; `refusals` are those of single recipients at the end of data.

    `deferral` is the first verdict that a failure (not a policy's will) led to: mail is tempfailed
    for it unless a later policy knows the message for junk. `unscanned` names the filters (and
    policies that failed) that mail may pass without, because the operator said so or because it was too
    large for them. `profile` is
    the entry of the `[[profile]]` that the opinions are by, `None` for the general settings.
    """

    evidence: dict[type[Finding], Gathered] = field(default_factory=dict)
    opinions: dict[str, Opinion] = field(default_factory=dict)
    effects: list[Effect] = field(default_factory=list)
    unscanned: dict[str, str] = field(default_factory=dict)
    elapsed: dict[str, float] = field(default_factory=dict)
    deferral: Judgement | None = None
    profile: str | None = None
    exempt: dict[str, str] = field(default_factory=dict)
    copies: dict[str, str] = field(default_factory=dict)
    refusals: dict[Path, Judgement] = field(default_factory=dict)
    _origin: "CaseFile | None" = field(default=None, compare=False, repr=False)
    _forked_at: Stage = field(default=Stage.CONNECT, compare=False, repr=False)

    def remember(self, kind: type[Finding], gathered: Gathered) -> None:
        """Keep evidence here, and in the file this was forked from where it is about that one's matter."""
        self.evidence[kind] = gathered
        if self._origin is not None and gathered.scope.is_before(self._forked_at):
            self._origin.remember(kind, gathered)

    def fork(self, stage: Stage) -> Self:
        """A copy to go on with from this stage; evidence about this stage or later is left behind."""
        return type(self)(
            {kind: found for kind, found in self.evidence.items() if found.scope.is_before(stage)},
            dict(self.opinions),
            list(self.effects),
            dict(self.unscanned),
            dict(self.elapsed),
            self.deferral,
            self.profile,
            dict(self.exempt),
            _origin=self,
            _forked_at=stage,
        )

    def begun_again(self) -> Self:
        """The same evidence, and nobody has said anything yet."""
        return type(self)(dict(self.evidence), _origin=self._origin, _forked_at=self._forked_at)

    def absorb(self, other: "CaseFile") -> None:
        """Take over what a fork has learnt since."""
        self.evidence |= other.evidence
        self.opinions |= other.opinions
        self.effects = list(dict.fromkeys(self.effects + other.effects))
        self.unscanned |= other.unscanned
        self.elapsed |= other.elapsed
        self.deferral = self.deferral or other.deferral
        self.profile = self.profile or other.profile
        self.exempt |= other.exempt

    @property
    def marks(self) -> list[tuple[str, str]]:
        """Name and value of the header fields that policies add, in order."""
        fields = (effect for effect in self.effects if isinstance(effect, HeaderField))
        return [(each.name, each.value) for each in fields]

    def take_redirect(self) -> Path | None:
        """Where the mail goes instead, by the last policy that said so; it is then no longer in here."""
        addresses = [effect.address for effect in self.effects if isinstance(effect, Redirect)]
        self.effects = [effect for effect in self.effects if not isinstance(effect, Redirect)]
        return addresses[-1] if addresses else None

    def conclude(self, judgement: Judgement | None) -> Judgement | None:
        """The refusal to speak now, if any: a policy's own, else the remembered deferral."""
        if judgement is not None and judgement.verdict.is_refusal:
            return judgement
        return self.deferral

    def spend(self, stage: str, seconds: float) -> None:
        """Count time towards a stage."""
        self.elapsed[stage] = round(self.elapsed.get(stage, 0.0) + seconds, 6)
