"""Settings to judge records by, put together without a configuration file, and records for them."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from filters.base import Filter, FilterError
from filters.evidence import Finding, Listings, SpamReport, VirusReport
from filters.route import Routes
from gateway.journal.record import ClientRecord, MessageRecord, Record, decode, encode
from gateway.pipeline import FilterSetting, Pipeline, PolicySetting
from gateway.profiles import Profile, Profiles
from gateway.relay.router import Destination, Router
from gateway.replay.replaying import Replay, Replayed
from gateway.smtp.endpoint import Endpoint
from gateway.smtp.transaction import Stage, Transaction
from gateway.terms import Meaning
from policies.policy import Policy
from tests.journal.records import make_record

LISTED: dict[str, Any] = {"total": 5.0, "zones": {"bl.example.net": ["127.0.0.2"]}}
UNLISTED: dict[str, Any] = {"total": 0.0, "zones": {}}
CLEAN: dict[str, Any] = {"signature": None}


@dataclass(frozen=True, slots=True)
class Local(Finding):
    """Whether a recipient is known."""

    known: bool = True


def spam_report(score: float) -> dict[str, Any]:
    """A SpamReport as a record has it."""
    return {"score": score, "threshold": 5.0, "rules": ["A_RULE"]}


class Untouchable(Filter):
    """A filter that must not be asked."""

    asked: ClassVar[list[str]] = []

    async def find(self, tx: Transaction) -> Finding:
        self.asked.append(self.name)
        raise FilterError("asked, and should not be")


def untouchable(kind: type[Finding], at: Stage) -> Filter:
    """One that finds this kind."""
    return type("Source", (Untouchable,), {"name": kind.__name__.lower(), "finds": kind, "stage": at})()


FOUND_AT = {
    Listings: Stage.CONNECT,
    Local: Stage.RCPT,
    VirusReport: Stage.END_OF_DATA,
    SpamReport: Stage.END_OF_DATA,
}


def setting(policy: Policy, enforced: bool = True, **options: object) -> PolicySetting:
    """A policy with options."""
    return PolicySetting(policy, options, enforced)


def pipeline(
    *policies: PolicySetting | Policy, unavailable: Meaning = "tempfail", skipped: Meaning = "accept"
) -> Pipeline:
    """These policies in order, and filters for everything."""
    settings = [each if isinstance(each, PolicySetting) else PolicySetting(each) for each in policies]
    filters = [
        FilterSetting(untouchable(kind, at), unavailable=unavailable, skipped=skipped)
        for kind, at in FOUND_AT.items()
    ]
    return Pipeline(settings, [*filters, FilterSetting(Routes(["example.com"]))])


def judge(record: Record, *policies: PolicySetting | Policy, **meanings: Any) -> Replayed:
    """The record judged again, as it comes back from the journal."""
    return judge_by(record, Profiles(Profile(pipeline(*policies, **meanings))))


def judge_by(record: Record, profiles: Profiles, domains: Sequence[str] = ("example.com",)) -> Replayed:
    """The same by profiles."""
    router = Router([Destination(tuple(domains), (Endpoint.parse("127.0.0.1:10025"),))])
    replayed = asyncio.run(Replay(profiles, router).judge(decode(encode(record))))
    assert not Untouchable.asked
    return replayed


def record(
    verdict: str = "accepted",
    at: str = "relay",
    reason: str = "accepted",
    policy: str | None = None,
    spoken: str = "end-of-data",
    **fields: Any,
) -> Record:
    """A record with all that replay needs; without a message before the end of data."""
    known: dict[str, Any] = {
        "client": ClientRecord("192.0.2.7", 40001, helo="mail.example.net", protocol="ESMTP"),
        "reverse_path": "a@example.net",
        "parameters": {},
        "answers_for_each": False,
        "message": MessageRecord(100, "0" * 64, "<1@example.net>", "Monday", "A <a@example.net>"),
        "evidence": {"Listings": UNLISTED, "VirusReport": CLEAN, "SpamReport": spam_report(1.0)},
    }
    if spoken != "end-of-data":
        known |= {"answers_for_each": None, "message": None, "evidence": {"Listings": UNLISTED}}
    decided = {"verdict": verdict, "stage": at, "reason": reason, "policy": policy, "spoken": spoken}
    return make_record(**{**known, **decided, "detail": "", **fields})


def now(replayed: Replayed) -> list[tuple[list[str], list[str], str, str | None]]:
    """Of each fate: the recipients, the verdicts that are possible, reason and policy of the likely one."""
    return [
        (list(fate.recipients), sorted(fate.verdicts), fate.outcome.reason, fate.outcome.policy)
        for fate in replayed.fates
    ]
