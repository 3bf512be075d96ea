"""What verdicts do to a message that is not simply refused or passed on."""

import os

import pytest

from gateway.pipeline import PolicySetting
from gateway.relay.router import Destination
from policies import (
    Evidence,
    Policy,
    Stage,
    Transaction,
    Verdict,
    accept,
    add_recipient,
    discard,
    mark,
    policy,
    quarantine,
    redirect,
    reject,
    subject,
    tempfail,
)
from tests.client import Client
from tests.fakes.mta import FakeMTA, hang, say
from tests.fakes.mta import accept as taken
from tests.proxy.conftest import GatewayStarter
from tests.proxy.running import RunningGateway, Scanner, destination, fails
from tests.waiting import eventually

MESSAGE = b"From: a@a.example\r\nSubject: Hello\r\nTo: u1@our.example\r\n\r\nBody\r\n"
U1, U2, SALES = "u1@our.example", "u2@our.example", "sales@our.example"
OTHER = "abuse@other.example"
LHLO = "LHLO c.example"


def says(verdict: Verdict | None, at: Stage = Stage.END_OF_DATA, name: str = "says") -> Policy:
    """A policy that always says the same."""

    def function(tx: Transaction, evidence: Evidence) -> Verdict | None:
        return verdict

    function.__name__ = name
    return policy(at=at)(function)


async def deliver(gateway: RunningGateway, *recipients: str, message: bytes = MESSAGE) -> str:
    async with Client(gateway.port) as client:
        return str(await client.deliver(message, *(recipients or (U1,))))


def refused(verdict: Verdict, *names: str) -> Policy:
    """At RCPT: the verdict for the recipients of these local parts."""

    @policy(at=Stage.RCPT)
    def some(tx: Transaction, evidence: Evidence) -> Verdict | None:
        assert tx.envelope.recipient is not None
        return verdict if tx.envelope.recipient.local_part in names else None

    return some


# Subject

SUBJECTS = {
    "as it is": (b"Subject: Hello\r\n", b"Subject: [SPAM] Hello\r\n"),
    "without a blank": (b"Subject:Hello\r\n", b"Subject: [SPAM] Hello\r\n"),
    "another case": (b"SUBJECT: Hello\r\n", b"Subject: [SPAM] Hello\r\n"),
    "encoded": (
        b"Subject: =?utf-8?q?Gr=C3=BC=C3=9Fe?=\r\n",
        b"Subject: [SPAM] =?utf-8?q?Gr=C3=BC=C3=9Fe?=\r\n",
    ),
    "eight bits": (b"Subject: Gr\xfc\xdfe\r\n", b"Subject: [SPAM] Gr\xfc\xdfe\r\n"),
    "folded": (b"Subject: one\r\n two\r\n", b"Subject: [SPAM] one\r\n two\r\n"),
    "folded at once": (b"Subject:\r\n two\r\n", b"Subject: [SPAM] two\r\n"),
    "empty": (b"Subject:\r\n", b"Subject: [SPAM]\r\n"),
    "long": (b"Subject: " + b"x" * 300 + b"\r\n", b"Subject: [SPAM]\r\n " + b"x" * 300 + b"\r\n"),
    "two": (b"Subject: a\r\nSubject: b\r\n", b"Subject: [SPAM] a\r\nSubject: b\r\n"),
}


@pytest.mark.parametrize(("before", "after"), SUBJECTS.values(), ids=SUBJECTS)
async def test_a_prefix_stands_before_the_subject_and_nothing_else_changes(
    start_gateway: GatewayStarter, mta: FakeMTA, before: bytes, after: bytes
):
    gateway = await start_gateway(policies=[says(subject("[SPAM] "))])
    rest = b"To: u1@our.example\r\n\r\nSubject: body\r\n"
    forged = b"X-Spam-Flag: NO\r\n"
    assert (await deliver(gateway, message=b"From: a@a.example\r\n" + before + forged + rest))[:3] == "250"
    _, top, content = mta.messages[0].content.partition(b"From: a@a.example\r\n")
    assert top + content == b"From: a@a.example\r\n" + after + rest
    (record,) = gateway.records
    assert record.opinions["says"]["verdict"] == "subject"
    assert record.opinions["says"]["effects"] == [{"effect": "subject", "prefix": "[SPAM] "}]
    assert record.message is not None
    assert record.message.subject is None or "[SPAM]" not in record.message.subject


async def test_a_message_without_a_subject_gets_one_on_top(start_gateway: GatewayStarter, mta: FakeMTA):
    gateway = await start_gateway(policies=[says(subject("Werbung: \xfc") & mark("X-A", "b"))])
    await deliver(gateway, message=b"From: a@a.example\r\n\r\nBody\r\n")
    content = mta.messages[0].content
    assert b"\r\nX-A: b\r\nSubject: =?utf-8?b?V2VyYnVuZzogw7w=?=\r\nFrom: a@a.example\r\n\r\nBody" in content


async def test_each_mark_is_a_field_of_its_own_but_for_the_flag(start_gateway: GatewayStarter, mta: FakeMTA):
    said = (("X-A", "1"), ("X-A", "2"), ("X-A", "1"), ("X-Spam-Flag", "NO"), ("X-Spam-Flag", "YES"))
    policies = [says(mark(*each), name=f"p{number}") for number, each in enumerate(said)]
    gateway = await start_gateway(policies=policies)
    await deliver(gateway)
    content = mta.messages[0].content
    assert content.count(b"X-Spam-Flag: YES\r\n") == content.count(b"X-Spam-Flag") == 1
    assert b"\r\nX-A: 1\r\nX-A: 2\r\nFrom:" in content


# Quarantine and discard


async def test_what_is_quarantined_is_kept_and_not_delivered(start_gateway: GatewayStarter, mta: FakeMTA):
    gateway = await start_gateway(policies=[says(quarantine("odd", detail="very") & mark("X-A", "b"))])
    async with Client(gateway.port) as client:
        answer = await client.deliver(MESSAGE, U1, U2)
    assert (answer.code, answer.status) == (250, "2.0.0")
    assert not mta.messages
    (record,) = gateway.records
    assert (record.verdict, record.stage, record.reason) == ("quarantined", "end-of-data", "odd")
    assert (record.policy, record.detail, record.downstream) == ("says", "very", None)
    assert answer.reference == record.reference
    (entry,) = gateway.quarantine.entries()
    assert (entry.reference, entry.recipients, entry.subject) == (record.reference, [U1, U2], "Hello")
    assert not entry.is_copy
    with gateway.quarantine.open(record.reference) as file:
        content = file.read()
    assert content.endswith(MESSAGE)
    assert content.startswith(b"Received: from ")
    assert b"\r\nX-A: b\r\n" in content


async def test_a_copy_is_kept_of_what_is_delivered(start_gateway: GatewayStarter, mta: FakeMTA):
    gateway = await start_gateway(policies=[says(quarantine("odd", deliver=True))])
    assert (await deliver(gateway))[:3] == "250"
    (entry,) = gateway.quarantine.entries()
    assert (entry.is_copy, entry.policy, entry.reason) == (True, "says", "odd")
    with gateway.quarantine.open(entry.reference) as file:
        assert file.read() == mta.messages[0].content
    assert gateway.records[0].reference == entry.reference


@pytest.mark.parametrize("verdict", [reject("spam-score"), tempfail("greylisted")])
async def test_a_copy_is_kept_of_what_is_refused_for_good(
    start_gateway: GatewayStarter, mta: FakeMTA, verdict: Verdict
):
    policies = [says(quarantine("odd", deliver=True), name="first"), says(verdict, name="second")]
    gateway = await start_gateway(policies=policies)
    async with Client(gateway.port) as client:
        answer = await client.deliver(MESSAGE, U1)
    entries = list(gateway.quarantine.entries())
    if answer.code == 451:
        assert not entries
    else:
        assert [(each.reference, each.policy) for each in entries] == [(answer.reference, "first")]


async def test_a_quarantine_that_cannot_keep_it_defers(start_gateway: GatewayStarter, mta: FakeMTA, tmp_path):
    gateway = await start_gateway(policies=[says(quarantine("odd"))])
    os.rmdir(tmp_path / "quarantine")
    async with Client(gateway.port) as client:
        answer = await client.deliver(MESSAGE, U1)
    assert (answer.code, answer.status) == (452, "4.3.1")
    (record,) = gateway.records
    assert (record.verdict, record.reason) == ("tempfailed", "storage-failed")
    assert "No such file" in record.detail
    assert not mta.messages


async def test_what_cannot_be_recorded_is_not_taken(start_gateway: GatewayStarter, mta: FakeMTA):
    gateway = await start_gateway(policies=[says(quarantine("odd"))])
    gateway.journal.takes_none = True
    assert (await deliver(gateway))[:9] == "451 4.3.0"
    assert not list(gateway.quarantine.entries())


@pytest.mark.parametrize("verdict", [quarantine("odd"), discard("junk"), accept("friend")])
async def test_a_missing_check_defers_what_would_be_taken(
    start_gateway: GatewayStarter, mta: FakeMTA, verdict: Verdict
):
    @policy(at=Stage.END_OF_DATA, needs=[Scanner.finds])
    def asks(tx: Transaction, evidence: Evidence) -> Verdict | None:
        return None

    gateway = await start_gateway(policies=[asks, says(verdict)], filters=[Scanner(fails(OSError("gone")))])
    assert (await deliver(gateway))[:9] == "451 4.7.1"
    assert not list(gateway.quarantine.entries())
    assert not mta.messages


async def test_what_is_discarded_is_gone_and_recorded(
    start_gateway: GatewayStarter, mta: FakeMTA, capfd: pytest.CaptureFixture[str]
):
    gateway = await start_gateway(policies=[says(discard("junk"))])
    assert (await deliver(gateway))[:9] == "250 2.0.0"
    assert not mta.messages
    assert not list(gateway.quarantine.entries())
    (record,) = gateway.records
    assert (record.verdict, record.reason, record.policy) == ("discarded", "junk", "says")
    out, err = capfd.readouterr()
    assert "thrown away" in out + err


@pytest.mark.parametrize("end", ["451 4.3.0 later", "554 5.7.1 no"])
async def test_a_copy_of_what_the_downstream_defers_is_not_kept_each_time(
    start_gateway: GatewayStarter, mta: FakeMTA, end: str
):
    mta.script["end"] = [say(end)]
    gateway = await start_gateway(policies=[says(quarantine("odd", deliver=True))])
    assert (await deliver(gateway))[:9] == end[:9]
    kept = [entry.reference for entry in gateway.quarantine.entries()]
    assert kept == ([gateway.records[0].reference] if end[0] == "5" else [])


async def test_a_copy_goes_with_the_client_that_leaves(start_gateway: GatewayStarter, mta: FakeMTA):
    mta.script["DATA"] = hang
    gateway = await start_gateway(policies=[says(quarantine("odd", deliver=True))])
    async with Client(gateway.port) as client:
        await client.open(U1)
        await client.ask("DATA")
        client.say(MESSAGE, b".\r\n")
        await eventually(lambda: list(gateway.quarantine.entries()) and "DATA" in mta.commands)
    await gateway.no_client()
    assert [record.verdict for record in gateway.records] == ["aborted"]
    assert not list(gateway.quarantine.entries())


async def test_a_copy_is_kept_of_what_is_discarded(start_gateway: GatewayStarter, mta: FakeMTA):
    policies = [says(quarantine("odd", deliver=True), name="first"), says(discard("junk"), name="second")]
    gateway = await start_gateway(policies=policies)
    assert (await deliver(gateway))[:9] == "250 2.0.0"
    assert not mta.messages
    (entry,) = gateway.quarantine.entries()
    assert entry.reference == gateway.records[0].reference
    # Nobody else has it.
    assert not entry.is_copy


@pytest.mark.parametrize("verdict", [quarantine("odd"), discard("junk")])
async def test_in_warn_mode_it_is_delivered(start_gateway: GatewayStarter, mta: FakeMTA, verdict: Verdict):
    gateway = await start_gateway(policies=[PolicySetting(says(verdict), enforced=False)])
    assert (await deliver(gateway))[:3] == "250"
    assert len(mta.messages) == 1
    assert not list(gateway.quarantine.entries())
    assert gateway.records[0].opinions["says"]["verdict"] == f"would-{verdict.decision.value}"


async def test_a_client_that_leaves_while_it_is_kept_may_send_it_again(
    start_gateway: GatewayStarter, mta: FakeMTA
):
    """A whole entry with a record, or neither: never half of one."""
    gateway = await start_gateway(policies=[says(quarantine("odd"))])
    async with Client(gateway.port) as client:
        await client.open(U1)
        await client.ask("DATA")
        client.say(MESSAGE * 20_000, b".\r\n")
    await gateway.no_client()
    entries = [entry.reference for entry in gateway.quarantine.entries()]
    assert entries == [record.reference for record in gateway.records if record.verdict == "quarantined"]


# Other recipients


def both(mta: FakeMTA, other: FakeMTA) -> list[Destination]:
    return [destination(mta.address), destination(other.address, domains=["other.example"])]


@pytest.mark.parametrize("at", [Stage.RCPT, Stage.END_OF_DATA])
async def test_mail_is_redirected(start_gateway: GatewayStarter, mta: FakeMTA, at: Stage):
    with FakeMTA() as other:
        gateway = await start_gateway(both(mta, other), policies=[says(redirect(OTHER), at)])
        assert (await deliver(gateway))[:3] == "250"
        assert not mta.messages
        (message,) = other.messages
        assert message.recipients == [f"RCPT TO:<{OTHER}>"]
    (record,) = gateway.records
    assert (record.verdict, record.recipients) == ("accepted", [U1])
    assert record.opinions["says"]["effects"] == [{"effect": "redirect", "address": OTHER}]


async def test_one_recipient_is_redirected_and_the_other_is_not(start_gateway: GatewayStarter, mta: FakeMTA):
    gateway = await start_gateway(policies=[refused(redirect(SALES), "u2")])
    assert (await deliver(gateway, U1, U2))[:3] == "250"
    (message,) = mta.messages
    assert message.recipients == [f"RCPT TO:<{U1}>", f"RCPT TO:<{SALES}>"]
    assert gateway.records[0].recipients == [U1, U2]


async def test_a_redirection_of_all_is_one_delivery(start_gateway: GatewayStarter, mta: FakeMTA):
    gateway = await start_gateway(policies=[says(redirect(SALES))])
    assert (await deliver(gateway, U1, U2))[:3] == "250"
    (message,) = mta.messages
    assert message.recipients == [f"RCPT TO:<{SALES}>"]


async def test_each_lmtp_client_hears_of_the_redirection(start_gateway: GatewayStarter, mta: FakeMTA):
    gateway = await start_gateway(policies=[says(redirect(SALES))], lmtp=True)
    async with Client(gateway.port) as client:
        await client.open(U1, U2, helo=LHLO)
        await client.ask("DATA")
        client.say(MESSAGE, b".\r\n")
        assert [answer.code for answer in await client.replies(2)] == [250, 250]


async def test_the_downstreams_no_to_a_redirection_defers(start_gateway: GatewayStarter, mta: FakeMTA):
    mta.script = {f"RCPT TO:<{SALES}>": say("550 5.1.1 nobody")}
    gateway = await start_gateway(policies=[says(redirect(SALES))])
    assert (await deliver(gateway))[:9] == "451 4.4.1"
    assert "550 5.1.1 nobody" in gateway.records[0].detail


@pytest.mark.parametrize("at", [Stage.RCPT, Stage.END_OF_DATA])
async def test_nothing_is_redirected_to_where_we_do_not_relay(
    start_gateway: GatewayStarter, mta: FakeMTA, at: Stage
):
    gateway = await start_gateway(policies=[says(redirect("x@far.example"), at)])
    async with Client(gateway.port) as client:
        answers = await client.open(U1)
        answer = answers[0] if at is Stage.RCPT else await client.data(MESSAGE)
    assert (answer.code, answer.status) == (451, "4.3.0")
    assert gateway.records[0].reason == "policy-error"
    assert "x@far.example" in gateway.records[0].detail
    assert not mta.messages


async def test_a_recipient_is_added(start_gateway: GatewayStarter, mta: FakeMTA):
    gateway = await start_gateway(policies=[says(add_recipient(SALES))])
    assert (await deliver(gateway, U1))[:3] == "250"
    (message,) = mta.messages
    assert message.recipients == [f"RCPT TO:<{U1}>", f"RCPT TO:<{SALES}>"]
    assert gateway.records[0].recipients == [U1]


async def test_a_recipient_of_another_relay_cannot_be_added(start_gateway: GatewayStarter, mta: FakeMTA):
    with FakeMTA() as other:
        gateway = await start_gateway(both(mta, other), policies=[says(add_recipient(OTHER))])
        assert (await deliver(gateway))[:9] == "451 4.3.0"
        assert not other.messages
    assert "[[relay]]" in gateway.records[0].detail
    assert not mta.messages


async def test_an_added_recipient_whom_an_lmtp_store_refuses_is_a_remark(
    start_gateway: GatewayStarter, mta: FakeMTA
):
    mta.lmtp = True
    mta.script = {"end": [taken("250 2.0.0 first"), say("552 5.2.2 full")]}
    gateway = await start_gateway(
        [destination(mta.address, lmtp=True)], policies=[says(add_recipient(SALES))]
    )
    assert (await deliver(gateway))[:3] == "250"
    (record,) = gateway.records
    assert record.verdict == "accepted"
    assert f"not delivered to {SALES}, whom a policy added: 552 5.2.2 full" in record.detail


@pytest.mark.parametrize("at", [Stage.RCPT, Stage.END_OF_DATA])
@pytest.mark.parametrize("verdict", [quarantine("odd"), quarantine("odd", deliver=True)])
async def test_what_is_kept_is_kept_for_those_it_would_have_reached(
    start_gateway: GatewayStarter, mta: FakeMTA, at: Stage, verdict: Verdict
):
    policies = [
        says(redirect(SALES), at=at, name="first"),
        says(add_recipient(U2), name="second"),
        says(verdict, name="third"),
    ]
    gateway = await start_gateway(policies=policies)
    assert (await deliver(gateway))[:3] == "250"
    (entry,) = gateway.quarantine.entries()
    assert entry.recipients == [SALES, U2]
    assert gateway.records[0].recipients == [U1]


# Some recipients


async def test_a_refusal_for_some_is_said_where_each_is_answered(start_gateway: GatewayStarter, mta: FakeMTA):
    gateway = await start_gateway(policies=[says(reject("private", recipients=[U2]))], lmtp=True)
    async with Client(gateway.port) as client:
        await client.open(U1, U2, U1, helo=LHLO)
        await client.ask("DATA")
        client.say(MESSAGE, b".\r\n")
        assert [answer.code for answer in await client.replies(3)] == [250, 550, 250]
    (message,) = mta.messages
    assert message.recipients == [f"RCPT TO:<{U1}>"] * 2
    rejected, accepted = gateway.records
    assert (rejected.verdict, rejected.reason, rejected.recipients) == ("rejected", "private", [U2])
    assert (accepted.verdict, accepted.recipients) == ("accepted", [U1, U1])


@pytest.mark.parametrize("second", [reject("odd", recipients=[U2]), tempfail("later", recipients=[U2])])
async def test_a_copy_is_kept_of_what_is_refused_for_good_to_each(
    start_gateway: GatewayStarter, mta: FakeMTA, second: Verdict
):
    first = reject("private", recipients=[U1]) & quarantine("odd", deliver=True)
    gateway = await start_gateway(
        policies=[says(first, name="first"), says(second, name="second")], lmtp=True
    )
    async with Client(gateway.port) as client:
        await client.open(U1, U2, helo=LHLO)
        await client.ask("DATA")
        client.say(MESSAGE, b".\r\n")
        assert [answer.code for answer in await client.replies(2)] == [550, second.reply.code]
    kept = [(entry.reference, entry.recipients) for entry in gateway.quarantine.entries()]
    assert kept == ([(gateway.records[0].reference, [U1, U2])] if second.reply.code == 550 else [])


async def test_two_policies_refuse_it_for_everybody_between_them(start_gateway: GatewayStarter, mta: FakeMTA):
    policies = [
        says(reject("private", recipients=[U1]), name="first"),
        says(tempfail("later", recipients=[U2]), name="second"),
    ]
    gateway = await start_gateway(policies=policies, lmtp=True)
    async with Client(gateway.port) as client:
        await client.open(U1, U2, helo=LHLO)
        await client.ask("DATA")
        client.say(MESSAGE, b".\r\n")
        assert [answer.code for answer in await client.replies(2)] == [550, 451]
    assert not mta.messages
    assert [record.policy for record in gateway.records] == ["first", "second"]


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
async def test_one_reply_for_all_refuses_for_good_only_what_each_was_refused_for_good(
    start_gateway: GatewayStarter, mta: FakeMTA, order: tuple[int, ...]
):
    policies = [
        says(tempfail("greylisted", recipients=[U1]), name="grey"),
        says(reject("private", recipients=[U2]), name="hard"),
    ]
    gateway = await start_gateway(policies=[policies[number] for number in order])
    assert (await deliver(gateway, U1, U2))[:9] == "451 4.7.1"
    (record,) = gateway.records
    assert (record.policy, record.recipients) == ("grey", [U1, U2])


async def test_a_refusal_for_some_is_not_said_where_one_reply_is_for_all(
    start_gateway: GatewayStarter, mta: FakeMTA
):
    gateway = await start_gateway(policies=[says(reject("private", recipients=[U2]))])
    assert (await deliver(gateway, U1, U2))[:3] == "250"
    (record,) = gateway.records
    assert f"private for {U2} alone could not be said" in record.detail
    assert (await deliver(gateway, U2))[:3] == "550"


@pytest.mark.parametrize("verdict", [quarantine("odd"), discard("junk")])
async def test_what_could_not_be_said_is_in_the_record_of_what_is_taken(
    start_gateway: GatewayStarter, mta: FakeMTA, verdict: Verdict
):
    policies = [says(reject("private", recipients=[U2]), name="first"), says(verdict, name="second")]
    gateway = await start_gateway(policies=policies)
    assert (await deliver(gateway, U1, U2))[:3] == "250"
    assert f"private for {U2} alone could not be said" in gateway.records[0].detail


async def test_what_is_quarantined_is_kept_for_those_who_were_not_refused(
    start_gateway: GatewayStarter, mta: FakeMTA
):
    policies = [
        says(reject("private", recipients=[U2]), name="first"),
        says(quarantine("odd"), name="second"),
    ]
    gateway = await start_gateway(policies=policies, lmtp=True)
    async with Client(gateway.port) as client:
        await client.open(U1, U2, helo=LHLO)
        await client.ask("DATA")
        client.say(MESSAGE, b".\r\n")
        assert [answer.code for answer in await client.replies(2)] == [250, 550]
    (entry,) = gateway.quarantine.entries()
    assert entry.recipients == [U1]


# Exemptions


@pytest.mark.parametrize("at", list(Stage))
async def test_who_is_exempt_is_not_asked_about(start_gateway: GatewayStarter, mta: FakeMTA, at: Stage):
    friend = says(accept("friend", exempt_from=["spam"]), at, "friend")
    policies = [friend, says(reject("spam-score"), name="spam"), says(mark("X-A", "b"), name="other")]
    gateway = await start_gateway(policies=policies)
    assert (await deliver(gateway))[:3] == "250"
    (record,) = gateway.records
    assert record.opinions["spam"]["exempted_by"] == "friend"
    assert record.opinions["spam"]["verdict"] is None
    assert record.opinions["friend"]["exempt_from"] == ["spam"]
    assert b"\r\nX-A: b\r\n" in mta.messages[0].content


async def test_a_recipients_exemption_is_not_the_next_ones(start_gateway: GatewayStarter, mta: FakeMTA):
    friend = refused(accept("friend", exempt_from=["spam"]), "u1")
    gateway = await start_gateway(policies=[friend, says(reject("spam-score"), name="spam")])
    async with Client(gateway.port) as client:
        first, second = await client.open(U1, U2)
        assert (first.code, second.code, second.status) == (250, 452, "4.5.3")
        assert (await client.data(MESSAGE)).code == 250
        await client.again(U2)
        assert (await client.data(MESSAGE)).code == 550
    assert [record.reason for record in gateway.records] == ["other-exemption", "accepted", "spam-score"]


async def test_with_lmtp_each_has_its_own_exemption(start_gateway: GatewayStarter, mta: FakeMTA):
    friend = refused(accept("friend", exempt_from=["spam"]), "u1")
    gateway = await start_gateway(policies=[friend, says(reject("spam-score"), name="spam")], lmtp=True)
    async with Client(gateway.port) as client:
        await client.open(U1, U2, helo=LHLO)
        await client.ask("DATA")
        client.say(MESSAGE, b".\r\n")
        assert [answer.code for answer in await client.replies(2)] == [250, 550]


# Slips


@pytest.mark.parametrize("at", [Stage.CONNECT, Stage.MAIL, Stage.RCPT])
async def test_a_verdict_at_the_wrong_stage_is_a_policy_error(
    start_gateway: GatewayStarter, mta: FakeMTA, at: Stage
):
    gateway = await start_gateway(policies=[says(discard("junk"), at)])
    async with Client(gateway.port) as client:
        (answer,) = await client.open(U1)
    assert (answer.code, answer.status) == (451, "4.3.0")
    assert f"discard is for end-of-data, not for {at.value}" in gateway.records[0].detail
