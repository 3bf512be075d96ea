"""LMTP (RFC 2033) on either side: a reply for each recipient, and what becomes of it where SMTP is spoken."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from filters.evidence import SpamReport
from gateway.pipeline import PolicySetting
from gateway.smtp.content import BareNewline
from policies.spam import spam
from tests.client import Client
from tests.fakes.mta import FakeMTA, accept, hang, say, say_and_drop
from tests.proxy.conftest import GatewayStarter
from tests.proxy.running import RunningGateway, SpamScanner, answers, destination

MESSAGE = b"Subject: x\r\n\r\nHello\r\n"
SALES, U1, U2 = "sales@our.example", "u1@our.example", "u2@our.example"
LHLO = "LHLO c.example"


async def end_of_data(client: Client, replies: int) -> list[str]:
    assert (await client.ask("DATA")).code == 354
    client.say(MESSAGE, b".\r\n")
    said = [str(answer) for answer in await client.replies(replies)]
    assert (await client.ask("NOOP")).code == 250
    return said


# Clients that speak LMTP


@pytest.fixture
async def gateway(start_gateway: GatewayStarter) -> RunningGateway:
    return await start_gateway(
        policies=[spam],
        profiles={SALES: [PolicySetting(spam, {"reject_score": 12.0})]},
        filters=[SpamScanner(answers(SpamReport(10.0)))],
        lmtp=True,
    )


async def test_each_recipient_has_its_own_reply(gateway: RunningGateway, mta: FakeMTA):
    async with Client(gateway.port) as client:
        assert client.banner.text.startswith("220 mx.our.example LMTP")
        assert [answer.code for answer in await client.open(U1, SALES, U1, helo=LHLO)] == [250] * 3
        u1, sales, again = await end_of_data(client, 3)
        assert (u1[:3], sales[:3], again) == ("550", "250", u1)
    (message,) = mta.messages
    assert message.recipients == [f"RCPT TO:<{SALES}>"]
    assert b" with LMTP id " in message.content


async def test_what_concerns_the_message_is_said_for_each(start_gateway: GatewayStarter, mta: FakeMTA):
    gateway = await start_gateway(lmtp=True, bare_newline=BareNewline.REJECT)
    async with Client(gateway.port) as client:
        await client.open(U1, U2, helo=LHLO)
        await client.ask("DATA")
        client.say(b"a\nb\r\n.\r\n")
        first, second = await client.replies(2)
        assert str(first) == str(second)
        assert (first.code, first.status) == (550, "5.6.11")
    assert len(gateway.records) == 1
    assert gateway.records[0].recipients == [U1, U2]


async def test_a_fault_of_ours_is_said_for_each(
    start_gateway: GatewayStarter, mta: FakeMTA, monkeypatch: pytest.MonkeyPatch
):
    gateway = await start_gateway(lmtp=True)
    monkeypatch.setattr("gateway.proxy.transaction.refuse_content", None)
    async with Client(gateway.port) as client:
        await client.open(U1, U2, helo=LHLO)
        assert [reply[:9] for reply in await end_of_data(client, 2)] == ["451 4.3.0"] * 2


async def test_helo_and_ehlo_are_other_peoples_words(gateway: RunningGateway):
    async with Client(gateway.port) as client:
        for greeting in ("EHLO c.example", "HELO c.example"):
            assert (await client.ask(greeting)).code == 500
        assert str(await client.ask("MAIL FROM:<s@a.example>")) == "503 5.5.1 Say LHLO first"
        assert "PRDR" not in (await client.ask(LHLO)).text
        assert (await client.ask("LHLO")).code == 501


async def test_data_without_recipients_is_503(gateway: RunningGateway):
    """RFC 2033 section 4.2."""
    async with Client(gateway.port) as client:
        await client.open(helo=LHLO)
        assert (await client.ask("DATA")).code == 503


async def test_smtp_knows_no_lhlo(start_gateway: GatewayStarter):
    async with Client((await start_gateway()).port) as client:
        assert (await client.ask(LHLO)).code == 500


# Downstreams that speak LMTP


@pytest.fixture
async def store() -> AsyncIterator[FakeMTA]:
    async with FakeMTA(lmtp=True) as fake:
        yield fake


@pytest.fixture
async def in_front(start_gateway: GatewayStarter, store: FakeMTA) -> RunningGateway:
    return await start_gateway([destination(store.address, lmtp=True)])


async def test_a_single_recipient_is_delivered(in_front: RunningGateway, store: FakeMTA):
    async with Client(in_front.port) as client:
        assert (await client.deliver(MESSAGE, U1)).code == 250
    assert store.heard("LHLO")
    assert not store.heard("EHLO", "HELO")
    assert store.messages[0].recipients == [f"RCPT TO:<{U1}>"]


async def test_a_client_with_one_reply_sends_to_one_recipient_at_a_time(
    in_front: RunningGateway, store: FakeMTA
):
    """The two replies of the store might disagree, and neither half could be taken back."""
    async with Client(in_front.port) as client:
        taken, apart = await client.open(U1, U2)
        assert (taken.code, apart.code, apart.status) == (250, 452, "4.5.3")
        assert in_front.records[0].reason == "other-recipient"
        assert (await client.data(MESSAGE)).code == 250
        await client.again(U2)
        assert (await client.data(MESSAGE)).code == 250
    assert [message.recipients for message in store.messages] == [
        [f"RCPT TO:<{U1}>"],
        [f"RCPT TO:<{U2}>"],
    ]


async def prdr(client: Client, *recipients: str) -> None:
    await client.ask("EHLO c.example")
    await client.ask("MAIL FROM:<s@a.example> PRDR")
    for recipient in recipients:
        assert (await client.ask(f"RCPT TO:<{recipient}>")).code == 250


async def test_with_prdr_the_stores_replies_are_the_clients(in_front: RunningGateway, store: FakeMTA):
    store.script["end"] = [
        accept("250 2.0.0 u1 saved"),
        say("452 4.2.2 full"),
        accept("250 2.0.0 sales saved"),
    ]
    async with Client(in_front.port) as client:
        await prdr(client, U1, U2, SALES)
        _, u1, u2, sales, last = await end_of_data(client, 5)
        assert (u1, sales) == ("250 2.0.0 u1 saved", "250 2.0.0 sales saved")
        assert u2.startswith("452 4.2.2 full (ref ")
        assert last.startswith("250 ")
    accepted, deferred = in_front.records
    assert (accepted.verdict, accepted.recipients) == ("accepted", [U1, SALES])
    assert accepted.downstream.reply == "250 2.0.0 u1 saved; 250 2.0.0 sales saved"
    assert (deferred.verdict, deferred.recipients) == ("tempfailed", [U2])
    assert deferred.reason == "downstream-deferred"


async def test_a_store_lost_between_two_replies_defers_only_the_rest(
    in_front: RunningGateway, store: FakeMTA
):
    store.script["end"] = [accept("250 2.0.0 u1 saved"), say_and_drop()]
    async with Client(in_front.port) as client:
        await prdr(client, U1, U2)
        _, u1, u2, _ = await end_of_data(client, 4)
        assert u1 == "250 2.0.0 u1 saved"
        assert u2.startswith("451 4.4.1 ")
    accepted, deferred = in_front.records
    assert (accepted.recipients, deferred.recipients) == ([U1], [U2])
    assert "may have taken" in deferred.detail


async def test_the_deadline_between_two_replies_defers_only_the_rest(
    start_gateway: GatewayStarter, store: FakeMTA
):
    gateway = await start_gateway([destination(store.address, lmtp=True)], deadline=0.5)
    store.script["end"] = [accept("250 2.0.0 u1 saved"), hang]
    async with Client(gateway.port) as client:
        await prdr(client, U1, U2)
        _, u1, u2, _ = await end_of_data(client, 4)
        assert u1 == "250 2.0.0 u1 saved"
        assert u2.startswith("451 4.4.7 ")


async def test_lmtp_on_both_sides(start_gateway: GatewayStarter, store: FakeMTA):
    gateway = await start_gateway([destination(store.address, lmtp=True)], lmtp=True)
    store.script["end"] = [accept("250 2.0.0 u1 saved"), say("550 5.2.1 disabled")]
    async with Client(gateway.port) as client:
        await client.open(U1, U2, helo=LHLO)
        u1, u2 = await end_of_data(client, 2)
        assert (u1, u2[:9]) == ("250 2.0.0 u1 saved", "550 5.2.1")
        # The connection is kept, and is in step.
        store.script.pop("end")
        await client.again(U2)
        assert [reply[:3] for reply in await end_of_data(client, 1)] == ["250"]
    assert store.connections == 1


async def test_a_refusal_in_the_middle_of_the_content_is_everybodys(
    start_gateway: GatewayStarter, store: FakeMTA
):
    gateway = await start_gateway([destination(store.address, lmtp=True)], lmtp=True)
    store.script["content"] = say("552 5.3.4 too much")
    async with Client(gateway.port) as client:
        await client.open(U1, U2, helo=LHLO)
        await client.ask("DATA")
        await client.send(b"x" * 70 + b"\r\n" * 2_000_000 + b".\r\n")
        assert [answer.code for answer in await client.replies(2)] == [552, 552]
    assert not store.messages


async def test_a_store_that_says_ehlo_is_unknown_is_greeted_by_lhlo_alone(
    start_gateway: GatewayStarter, store: FakeMTA
):
    store.script["LHLO"] = say("500 5.5.1 what")
    gateway = await start_gateway([destination(store.address, lmtp=True)])
    async with Client(gateway.port) as client:
        (answer,) = await client.open(U1)
        assert (answer.code, answer.status) == (451, "4.4.1")
    await asyncio.sleep(0)
    assert not store.heard("HELO", "MAIL")


async def test_a_refusal_without_a_record_takes_nothing_back_from_another_recipient(
    start_gateway: GatewayStarter, store: FakeMTA
):
    """To say anything but its 250 to who has the message would deliver it twice."""
    store.script = {"end": [accept("250 2.0.0 first"), say("552 5.2.2 full")]}
    gateway = await start_gateway([destination(store.address, lmtp=True)], lmtp=True)
    async with Client(gateway.port) as client:
        await client.open(U1, U2, helo=LHLO)
        gateway.journal.takes_none = True
        assert [reply[:9] for reply in await end_of_data(client, 2)] == ["250 2.0.0", "451 4.3.0"]
