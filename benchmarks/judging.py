"""Sets of policies, and what each does to messages whose findings are known.

The gateway's own pipeline asks the policies; in the place of the filters stand such as answer what the
scanners said once. Starts nothing and asks nobody.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Literal

from filters.base import Cost, Filter, TooLarge
from filters.evidence import Finding, RspamdReport, SpamReport
from gateway.casefile import CaseFile
from gateway.pipeline import FilterSetting, Pipeline, PolicySetting
from gateway.smtp.transaction import Transaction
from policies.bulk import bulk
from policies.header_sanity import header_sanity
from policies.spam import spam

from .archive import Sample
from .scans import Scan

Outcome = Literal["refused", "marked", "passed"]
Judged = tuple[Sample, Scan]


class _Recorded(Filter):
    """Answers from what was found before, by the digest of the message."""

    cost = Cost.FREE

    def __init__(self, scans: Iterable[Scan]) -> None:
        self._known = {
            scan.digest: found for scan in scans for found in scan.findings if isinstance(found, self.finds)
        }

    async def find(self, tx: Transaction) -> Finding:
        """What was found. Raises TooLarge where the scanner would not look."""
        found = self._known.get(tx.message.digest)
        if found is None:
            raise TooLarge("was not looked at")
        return found


class SpamReports(_Recorded):
    """SpamAssassin's opinions."""

    name = "spamassassin"
    finds = SpamReport


class RspamdReports(_Recorded):
    """Rspamd's opinions."""

    name = "rspamd"
    finds = RspamdReport


@dataclass(frozen=True)
class PolicySet:
    """Policies with their options, in order, and the filters that are configured beside them."""

    name: str
    policies: Sequence[PolicySetting]
    filters: Sequence[type[_Recorded]] = (SpamReports, RspamdReports)


# All messages of an archive have a date in the past.
_HEADER_SANITY = PolicySetting(header_sanity, {"ignore": frozenset({"date-in-past"})})
LIMITS = (7.0, 8.0, 9.0, 10.0, 11.0, 12.0, float("inf"))
SETS = (
    PolicySet("spam, SpamAssassin alone", [PolicySetting(spam)], [SpamReports]),
    PolicySet("spam, Rspamd alone", [PolicySetting(spam)], [RspamdReports]),
    PolicySet("spam, both", [PolicySetting(spam)]),
    PolicySet("header_sanity", [_HEADER_SANITY], []),
    PolicySet("bulk", [PolicySetting(bulk)], []),
    PolicySet("header_sanity, spam (both), bulk", [_HEADER_SANITY, PolicySetting(spam), PolicySetting(bulk)]),
)


@dataclass
class Tally:
    """Of each class the number of messages, and of those with each outcome; the ham that was refused."""

    messages: Counter[str] = field(default_factory=Counter)
    outcomes: Counter[tuple[str, Outcome]] = field(default_factory=Counter)
    wrongly: list[str] = field(default_factory=list)

    def count(self, sample: Sample, outcome: Outcome) -> None:
        """One more message."""
        self.messages[sample.kind] += 1
        self.outcomes[sample.kind, outcome] += 1
        if sample.kind != "spam" and outcome == "refused":
            self.wrongly.append(sample.name)

    def share(self, kind: str, outcome: Outcome) -> str:
        """How many of a class came out so, and which part of it that is."""
        count, total = self.outcomes[kind, outcome], self.messages[kind]
        return f"{count} ({100 * count / total:.1f} %)" if total else "-"


async def judge(policies: PolicySet, messages: Sequence[Judged]) -> Tally:
    """Have all messages judged by one set."""
    scans = [scan for _, scan in messages]
    filters = [FilterSetting(kind(scans)) for kind in policies.filters]
    pipeline, tally = Pipeline(policies.policies, filters), Tally()
    for sample, _ in messages:
        tally.count(sample, await _outcome(pipeline, sample.transaction()))
    return tally


async def _outcome(pipeline: Pipeline, tx: Transaction) -> Outcome:
    case = CaseFile()
    judgement = case.conclude(await pipeline.judge(tx, case, deadline=float("inf")))
    if judgement is not None:
        return "refused"
    return "marked" if case.effects else "passed"


def half_of(scan: Scan) -> int:
    """0 or 1, by the digest of the message: what is chosen by one half is measured on the other."""
    return int(scan.digest[-1], 16) % 2


@dataclass(frozen=True)
class Agreement:
    """What one value of `rspamd_score` leads to, and how near ham comes to being refused for it.

    `rspamd_of_ham` is Rspamd's highest score of ham that SpamAssassin suspects, `spamassassin_of_ham`
    SpamAssassin's highest score of ham that has `rspamd_score`. What is refused without Rspamd is left out.
    """

    rspamd_score: float
    refused_spam: float  # from 0 to 1
    rspamd_of_ham: float
    spamassassin_of_ham: float


def agreements(messages: Sequence[Judged]) -> list[Agreement]:
    """Each value, with the default scores of `spam` for refusing and marking."""
    default = {option.name: option.default for option in spam.options()}
    sure, suspected = default["reject_score"], default["mark_score"]
    scores = [
        (sample.kind == "spam", scan.spamassassin.score, scan.rspamd.score)
        for sample, scan in messages
        if scan.spamassassin and scan.rspamd
    ]
    spams = [(one, other) for is_spam, one, other in scores if is_spam]
    hams = [(one, other) for is_spam, one, other in scores if not is_spam and one < sure]
    return [
        Agreement(
            limit,
            sum(one >= sure or (one >= suspected and other >= limit) for one, other in spams)
            / max(len(spams), 1),
            max((other for one, other in hams if one >= suspected), default=0.0),
            max((one for one, other in hams if other >= limit), default=0.0),
        )
        for limit in LIMITS
    ]
