"""What the client hears, and the record says, when filters and policies do not play their part."""

import asyncio
from dataclasses import dataclass
from ipaddress import IPv4Address, ip_address

import pytest

from filters.base import FilterError, TooLarge
from filters.evidence import Finding, SpamReport, VirusReport
from gateway.pipeline import FilterSetting, PolicySetting
from policies import Stage, accept, mark, policy, reject, tempfail
from policies.spam import spam
from policies.virus import virus
from tests.client import Answer, Client
from tests.fakes.mta import FakeMTA
from tests.proxy.conftest import GatewayStarter
from tests.proxy.running import (
    RunningGateway,
    Scanner,
    ScriptedFilter,
    SpamScanner,
    answers,
    fails,
    hangs,
)

MESSAGE = b"Subject: x\r\n\r\nHello\r\n"
U1 = "u1@our.example"
CLEAN = VirusReport(None)


async def deliver(gateway: RunningGateway) -> Answer:
    async with Client(gateway.port) as client:
        return await client.deliver(MESSAGE, U1)


def unscanned(mta: FakeMTA) -> bool:
    return b"\r\nX-Sluicegate-Unscanned: scanner\r\n" in mta.messages[0].content


# Filters

FAILURES = {
    "refuses": (fails(ConnectionRefusedError("nobody there")), "ConnectionRefusedError: nobody there"),
    "lies": (fails(FilterError("said nonsense")), "said nonsense"),
    "hangs": (hangs, "no answer within 0.1 s"),
    "times out": (fails(TimeoutError("its own")), "TimeoutError: its own"),
    "breaks": (fails(RecursionError("too deep")), "RecursionError: too deep"),
    "exits": (fails(SystemExit(3)), "SystemExit: 3"),
    "answers nothing": (answers(None), "answered with None"),
    "answers something else": (answers(SpamReport(0.0)), "answered with SpamReport"),
    "cancels itself": (fails(asyncio.CancelledError()), "CancelledError"),
}


@pytest.mark.parametrize(("answer", "cause"), FAILURES.values(), ids=FAILURES)
async def test_a_failing_filter_defers_by_default(
    start_gateway: GatewayStarter, mta: FakeMTA, answer, cause: str
):
    setting = FilterSetting(Scanner(answer), timeout=0.1)
    gateway = await start_gateway(policies=[virus], filters=[setting])
    reply = await deliver(gateway)

    assert str(reply).startswith("451 4.7.1 A check is temporarily unavailable")
    (record,) = gateway.records
    assert (record.verdict, record.stage, record.reason) == (
        "tempfailed",
        "end-of-data",
        "evidence-unavailable",
    )
    assert (record.policy, record.reference) == ("virus", reply.reference)
    assert record.evidence["VirusReport"]["unavailable"].startswith(cause)
    assert record.evidence["VirusReport"]["source"] == "scanner"
    assert record.evidence["VirusReport"]["elapsed"] >= 0
    assert not mta.messages
    assert not any(attempt.raw for attempt in mta.attempts)


@pytest.mark.parametrize(("answer", "cause"), FAILURES.values(), ids=FAILURES)
async def test_a_failing_filter_may_be_declared_harmless(
    start_gateway: GatewayStarter, mta: FakeMTA, answer, cause: str
):
    setting = FilterSetting(Scanner(answer), timeout=0.1, unavailable="accept")
    gateway = await start_gateway(policies=[virus], filters=[setting])

    assert (await deliver(gateway)).code == 250
    (record,) = gateway.records
    assert (record.verdict, record.reason) == ("accepted", "evidence-unavailable")
    assert unscanned(mta)


async def test_a_failing_filter_may_be_declared_fatal(start_gateway: GatewayStarter, mta: FakeMTA):
    setting = FilterSetting(Scanner(fails(FilterError("down"))), unavailable="reject")
    gateway = await start_gateway(policies=[virus], filters=[setting])

    assert str(await deliver(gateway)).startswith("550 5.7.1 ")
    assert gateway.records[0].verdict == "rejected"


async def test_what_is_too_large_to_scan_passes_with_a_remark(start_gateway: GatewayStarter, mta: FakeMTA):
    gateway = await start_gateway(policies=[virus], filters=[Scanner(fails(TooLarge("over 100 octets")))])

    assert (await deliver(gateway)).code == 250
    (record,) = gateway.records
    assert (record.verdict, record.reason) == ("accepted", "scan-skipped")
    assert record.evidence["VirusReport"]["skipped"] == "over 100 octets"
    assert unscanned(mta)


@pytest.mark.parametrize(("meaning", "expected"), [("tempfail", "451 4.7.1 "), ("reject", "550 5.7.1 ")])
async def test_what_is_too_large_to_scan_may_be_refused(
    start_gateway: GatewayStarter, mta: FakeMTA, meaning, expected: str
):
    setting = FilterSetting(Scanner(fails(TooLarge("over 100 octets"))), skipped=meaning)
    gateway = await start_gateway(policies=[virus], filters=[setting])

    assert str(await deliver(gateway)).startswith(expected)
    assert gateway.records[0].reason == "scan-skipped"


async def test_known_junk_is_refused_for_good_while_a_scanner_is_down(
    start_gateway: GatewayStarter, mta: FakeMTA
):
    gateway = await start_gateway(
        policies=[virus, spam],
        filters=[Scanner(fails(FilterError("down"))), SpamScanner(answers(SpamReport(12.0)))],
    )
    assert str(await deliver(gateway)).startswith("550 5.7.1 Message refused: it looks like spam")
    (record,) = gateway.records
    assert (record.verdict, record.reason, record.policy) == ("rejected", "spam-score", "spam")
    assert record.opinions["virus"]["reason"] == "evidence-unavailable"


async def test_a_virus_never_reaches_the_dearer_scanner(start_gateway: GatewayStarter, mta: FakeMTA):
    dear = SpamScanner(answers(SpamReport(0.0)))
    gateway = await start_gateway(
        policies=[virus, spam], filters=[dear, Scanner(answers(VirusReport("Evil")))]
    )
    assert (await deliver(gateway)).code == 550
    assert dear.started == 0


async def test_the_deadline_ends_the_judging(start_gateway: GatewayStarter, mta: FakeMTA):
    scanner = Scanner(hangs)
    gateway = await start_gateway(policies=[virus], filters=[scanner], deadline=0.2)

    assert str(await deliver(gateway)).startswith("451 4.4.7 ")
    (record,) = gateway.records
    assert (record.verdict, record.reason) == ("tempfailed", "deadline-exceeded")
    assert scanner.cancelled == 1


@dataclass(frozen=True)
class Addresses(Finding):
    """A finding with fields that JSON has no word for."""

    seen: tuple[IPv4Address, ...] = ()
    by_number: dict[int, object] | None = None


class Looker(ScriptedFilter):
    name = "looker"
    finds = Addresses


@policy(at=Stage.END_OF_DATA, needs=[Addresses])
def looks(tx, evidence):
    """No opinion, having looked."""


async def test_a_finding_of_any_shape_can_be_recorded(start_gateway: GatewayStarter, mta: FakeMTA):
    found = Addresses((ip_address("192.0.2.1"),), {1: object()})
    gateway = await start_gateway(policies=[looks], filters=[Looker(answers(found))])
    assert (await deliver(gateway)).code == 250
    assert gateway.records[0].evidence["Addresses"]["seen"] == ("192.0.2.1",)


# Policies


def raising(error: BaseException):
    def broken(tx, evidence):
        raise error

    return policy(at=Stage.END_OF_DATA)(broken)


def returning(value: object):
    def broken(tx, evidence):
        return value

    return policy(at=Stage.END_OF_DATA)(broken)


def malformed(**reply: object):
    def broken(tx, evidence):
        return reject("some-reason", **reply)

    return policy(at=Stage.END_OF_DATA)(broken)


BROKEN = {
    "raises": (raising(ZeroDivisionError("secret")), "ZeroDivisionError: secret"),
    "exits": (raising(SystemExit("secret")), "SystemExit: secret"),
    "interrupts": (raising(KeyboardInterrupt("secret")), "KeyboardInterrupt: secret"),
    "cancels": (raising(asyncio.CancelledError("secret")), "CancelledError: secret"),
    "returns nonsense": (returning("550 secret"), "returned '550 secret', not a verdict or None"),
    "returns a bool": (returning(value=False), "returned False, not a verdict or None"),
    "contradicts itself": (malformed(code=550, status="4.7.1"), "does not agree"),
    "has no such code": (malformed(code=250), "ValueError: "),
}


@pytest.mark.parametrize(("broken", "trace"), BROKEN.values(), ids=BROKEN)
async def test_a_broken_policy_defers_and_tells_the_client_nothing(
    start_gateway: GatewayStarter, mta: FakeMTA, broken, trace: str
):
    gateway = await start_gateway(policies=[broken])
    async with Client(gateway.port) as client:
        reply = await client.deliver(MESSAGE, U1)
        words, _, reference = str(reply).partition(" (ref ")
        assert words == "451 4.3.0 Temporary local problem, please try again later"
        assert (await client.ask("NOOP")).code == 250

    (record,) = gateway.records
    assert (record.verdict, record.reason, record.policy) == ("tempfailed", "policy-error", "broken")
    assert reference.rstrip(")") == record.reference
    assert trace in record.detail
    assert not mta.messages


async def test_a_broken_policy_may_be_declared_harmless(start_gateway: GatewayStarter, mta: FakeMTA):
    broken = PolicySetting(raising(ZeroDivisionError("secret")), on_error="accept")
    gateway = await start_gateway(policies=[broken])
    assert (await deliver(gateway)).code == 250
    (record,) = gateway.records
    assert (record.verdict, record.reason, record.detail) == (
        "accepted",
        "policy-error",
        "not scanned by broken",
    )
    assert "ZeroDivisionError: secret" in record.opinions["broken"]["detail"]
    assert b"X-Sluicegate-Unscanned: broken\r\n" in mta.messages[0].content


async def test_a_broken_policy_may_be_declared_fatal(start_gateway: GatewayStarter, mta: FakeMTA):
    broken = PolicySetting(raising(ZeroDivisionError("secret")), on_error="reject")
    gateway = await start_gateway(policies=[broken])
    assert str(await deliver(gateway)).startswith("550 5.3.0 Message refused: it cannot be checked (ref ")
    assert gateway.records[0].verdict == "rejected"


async def test_a_text_of_several_lines_cannot_forge_a_reply(start_gateway: GatewayStarter, mta: FakeMTA):
    gateway = await start_gateway(policies=[malformed(text="no\r\n250 2.0.0 Ok \xe9" + "x" * 600)])
    reply = await deliver(gateway)
    assert reply.code == 550
    assert {line[:9] for line in reply.lines} <= {"550 5.7.1", "550-5.7.1"}


async def test_a_broken_policy_does_not_keep_another_from_refusing(
    start_gateway: GatewayStarter, mta: FakeMTA
):
    gateway = await start_gateway(
        policies=[raising(ValueError("x")), virus], filters=[Scanner(answers(VirusReport("Evil")))]
    )
    assert str(await deliver(gateway)).startswith("550 5.7.1 Message refused: it contains malware")


async def test_accept_ends_the_asking(start_gateway: GatewayStarter, mta: FakeMTA):
    scanner = Scanner(answers(VirusReport("Evil")))

    @policy(at=Stage.END_OF_DATA)
    def trusted(tx, evidence):
        return accept("known-sender")

    gateway = await start_gateway(policies=[trusted, virus], filters=[scanner])
    assert (await deliver(gateway)).code == 250
    (record,) = gateway.records
    assert (record.verdict, record.reason, record.policy) == ("accepted", "known-sender", "trusted")
    assert scanner.started == 0


async def test_a_warning_is_recorded_and_lets_the_mail_pass(start_gateway: GatewayStarter, mta: FakeMTA):
    gateway = await start_gateway(
        policies=[PolicySetting(spam, enforced=False)], filters=[SpamScanner(answers(SpamReport(12.0)))]
    )
    assert (await deliver(gateway)).code == 250
    opinion = gateway.records[0].opinions["spam"]
    assert (opinion["verdict"], opinion["mode"], opinion["reason"]) == ("would-reject", "warn", "spam-score")
    assert b"X-Spam-Flag" not in mta.messages[0].content


async def test_a_warning_that_could_not_be_given_leaves_the_mail_unscanned(
    start_gateway: GatewayStarter, mta: FakeMTA
):
    gateway = await start_gateway(
        policies=[PolicySetting(virus, enforced=False)], filters=[Scanner(fails(FilterError("down")))]
    )
    assert (await deliver(gateway)).code == 250
    assert gateway.records[0].opinions["virus"]["verdict"] == "would-tempfail"
    assert unscanned(mta)


# Recipients


@policy(at=Stage.RCPT)
def choosy(tx, evidence):
    """Each recipient has a fate of its own."""
    match tx.envelope.recipient.local_part:
        case "never":
            return reject("not-wanted", code=553, status="5.1.2")
        case "later":
            return tempfail("greylisted")
    return None


async def test_each_recipient_is_judged_by_itself(start_gateway: GatewayStarter, mta: FakeMTA):
    gateway = await start_gateway(policies=[choosy])
    async with Client(gateway.port) as client:
        answers = await client.open("never@our.example", "later@our.example", "u3@our.example")
        assert [str(answer)[:9] for answer in answers] == ["553 5.1.2", "451 4.7.1", "250 2.1.5"]
        assert (await client.data(MESSAGE)).code == 250
    assert mta.messages[0].recipients == ["RCPT TO:<u3@our.example>"]
    assert [(r.reason, r.recipients) for r in gateway.records] == [
        ("not-wanted", ["never@our.example"]),
        ("greylisted", ["later@our.example"]),
        ("accepted", ["u3@our.example"]),
    ]


@policy(at=Stage.RCPT)
def labels(tx, evidence):
    """Leaves a mark for each recipient."""
    return mark("X-Label", tx.envelope.recipient.local_part)


async def test_marks_of_refused_recipients_are_forgotten(start_gateway: GatewayStarter, mta: FakeMTA):
    gateway = await start_gateway(policies=[labels, choosy])
    async with Client(gateway.port) as client:
        await client.open("u1@our.example", "never@our.example")
        await client.data(MESSAGE)
    assert b"\r\nX-Label: u1\r\n" in mta.messages[0].content
    assert b"never" not in mta.messages[0].content


# The journal and the disk


async def test_a_full_journal_takes_no_new_mail(start_gateway: GatewayStarter, mta: FakeMTA):
    gateway = await start_gateway()
    gateway.journal.is_full = True
    async with Client(gateway.port) as client:
        await client.ask("EHLO c.example")
        answer = await client.ask("MAIL FROM:<s@a.example>")
        assert str(answer).startswith("452 4.3.1 ")
        gateway.journal.is_full = False
        await client.again(U1)
        gateway.journal.is_full = True
        assert (await client.ask("DATA")).status == "4.3.1"
    gateway.journal.is_full = False
    assert not mta.messages


async def test_a_refusal_that_cannot_be_recorded_is_not_spoken(start_gateway: GatewayStarter, mta: FakeMTA):
    gateway = await start_gateway()
    gateway.journal.takes_none = True
    async with Client(gateway.port) as client:
        (answer,) = await client.open("x@victim.example")
    assert str(answer) == "451 4.3.0 Temporary local problem, please try again later"


async def test_an_acceptance_that_cannot_be_recorded_is_spoken_all_the_same(
    start_gateway: GatewayStarter, mta: FakeMTA
):
    gateway = await start_gateway()
    gateway.journal.takes_none = True
    assert (await deliver(gateway)).code == 250
    assert len(mta.messages) == 1


async def test_a_client_that_leaves_while_the_journal_is_full_is_let_go(
    start_gateway: GatewayStarter, mta: FakeMTA
):
    gateway = await start_gateway()
    async with Client(gateway.port) as client:
        await client.open(U1)
        gateway.journal.takes_none = True
    await gateway.no_client()
    assert not gateway.records
