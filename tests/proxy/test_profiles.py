"""Settings by recipient: resolved at RCPT, one profile for a transaction unless each is answered for."""

import pytest

from filters.evidence import Listings, SpamReport
from gateway.pipeline import PolicySetting
from policies import Stage, mark, policy, reject
from policies.blocklist import blocklist
from policies.spam import spam
from policies.virus import virus
from tests.client import Client
from tests.fakes.mta import FakeMTA, accept, say
from tests.proxy.conftest import GatewayStarter
from tests.proxy.running import (
    RunningGateway,
    Scanner,
    ScriptedFilter,
    SpamScanner,
    answers,
    destination,
    hangs,
)
from tests.waiting import eventually

MESSAGE = b"Subject: x\r\n\r\nHello\r\n"
SALES, U1, U2 = "sales@our.example", "u1@our.example", "u2@our.example"
LENIENT = {SALES: [PolicySetting(spam, {"reject_score": 12.0})]}


@pytest.fixture
async def gateway(start_gateway: GatewayStarter) -> RunningGateway:
    """Refuses at 8 points, for sales at 12; every message has 10."""
    return await start_gateway(
        policies=[spam], profiles=LENIENT, filters=[SpamScanner(answers(SpamReport(10.0)))]
    )


async def test_each_profile_has_its_own_limit(gateway: RunningGateway, mta: FakeMTA):
    async with Client(gateway.port) as client:
        assert (await client.deliver(MESSAGE, U1)).code == 550
        await client.again(SALES)
        assert (await client.data(MESSAGE)).code == 250
    refused, accepted = gateway.records
    assert (refused.profile, refused.recipients) == (None, [U1])
    assert (accepted.profile, accepted.recipients) == (SALES, [SALES])
    assert accepted.opinions["spam"]["verdict"] == "mark"


@pytest.mark.parametrize(("first", "second"), [(U1, SALES), (SALES, U1)])
async def test_the_first_accepted_recipient_fixes_the_profile(
    gateway: RunningGateway, mta: FakeMTA, first: str, second: str
):
    async with Client(gateway.port) as client:
        taken, apart = await client.open(first, second)
        assert taken.code == 250
        assert (apart.code, apart.status) == (452, "4.5.3")
        (record,) = gateway.records
        assert (record.verdict, record.reason, record.recipients) == ("tempfailed", "other-profile", [second])
        assert apart.reference == record.reference
        assert (await client.data(MESSAGE)).code == (250 if first == SALES else 550)
    assert all(attempt.recipients == [f"RCPT TO:<{first}>"] for attempt in mta.attempts)


async def test_a_refused_recipient_fixes_nothing(gateway: RunningGateway, mta: FakeMTA):
    mta.script[f"RCPT TO:<{U1}>"] = say("550 5.1.1 no such user")
    async with Client(gateway.port) as client:
        refused, taken = await client.open(U1, SALES)
        assert (refused.code, taken.code) == (550, 250)
        assert (await client.data(MESSAGE)).code == 250


class Lists(ScriptedFilter):
    name = "lists"
    finds = Listings
    stage = Stage.CONNECT


async def test_what_was_decided_early_is_decided_anew_for_a_profile(
    start_gateway: GatewayStarter, mta: FakeMTA
):
    lists = Lists(answers(Listings(5.0, {"bl.example": ("127.0.0.2",)})))
    gateway = await start_gateway(
        policies=[blocklist],
        profiles={SALES: [PolicySetting(blocklist, {"reject_weight": 9.0})]},
        filters=[lists],
    )
    async with Client(gateway.port) as client:
        refused, taken = await client.open(U1, SALES)
        assert (refused.code, taken.code) == (550, 250)
        assert (await client.data(MESSAGE)).code == 250
    assert lists.started == 1
    assert [record.profile for record in gateway.records] == [None, SALES]


async def test_a_profile_may_refuse_early_what_others_take(start_gateway: GatewayStarter, mta: FakeMTA):
    @policy(at=Stage.CONNECT)
    def never(tx, evidence):
        return reject("not-here") if tx.session.helo_name is None else None

    gateway = await start_gateway(profiles={SALES: [never]})
    async with Client(gateway.port) as client:
        taken, refused = await client.open(U1, SALES)
        assert (taken.code, refused.code) == (250, 550)
        assert (await client.data(MESSAGE)).code == 250
    assert (gateway.records[0].stage, gateway.records[0].policy) == ("connect", "never")


async def test_a_profile_takes_no_mark_of_the_general_settings(start_gateway: GatewayStarter, mta: FakeMTA):
    @policy(at=Stage.MAIL)
    def marks(tx, evidence):
        return mark("X-Seen", "generally")

    gateway = await start_gateway(policies=[marks], profiles={SALES: []})
    async with Client(gateway.port) as client:
        await client.deliver(MESSAGE, SALES)
        await client.again(U1)
        await client.data(MESSAGE)
    assert [b"X-Seen" in message.content for message in mta.messages] == [False, True]


# PRDR


async def open_prdr(client: Client, *recipients: str) -> None:
    assert "250-PRDR" in str(await client.ask("EHLO c.example")).replace("250 PRDR", "250-PRDR")
    assert (await client.ask("MAIL FROM:<s@a.example> PRDR")).code == 250
    for recipient in recipients:
        assert (await client.ask(f"RCPT TO:<{recipient}>")).code == 250


async def end_of_data(client: Client, replies: int) -> list[str]:
    assert (await client.ask("DATA")).code == 354
    client.say(MESSAGE, b".\r\n")
    return [str(answer) for answer in await client.replies(replies)]


async def test_with_prdr_each_recipient_has_its_own_reply(gateway: RunningGateway, mta: FakeMTA):
    async with Client(gateway.port) as client:
        await open_prdr(client, U1, SALES, U2)
        begin, u1, sales, u2, end = await end_of_data(client, 5)
        assert [reply[:3] for reply in (begin, u1, sales, u2, end)] == ["353", "550", "250", "550", "250"]
        assert u1 == u2
        assert (await client.ask("NOOP")).code == 250
    refused, accepted = sorted(gateway.records, key=lambda record: record.verdict, reverse=True)
    assert (refused.verdict, refused.recipients) == ("rejected", [U1, U2])
    assert (accepted.verdict, accepted.recipients) == ("accepted", [SALES])
    (message,) = mta.messages
    assert message.recipients == [f"RCPT TO:<{SALES}>"]
    assert not any("PRDR" in command for command in mta.commands)


async def test_with_prdr_one_fate_is_one_reply(start_gateway: GatewayStarter, mta: FakeMTA):
    gateway = await start_gateway(profiles={SALES: []})
    mta.script["end"] = accept("250 2.0.0 Ok: queued")
    async with Client(gateway.port) as client:
        await open_prdr(client, U1, SALES)
        assert await end_of_data(client, 1) == ["250 2.0.0 Ok: queued"]
        assert (await client.ask("NOOP")).code == 250
    assert len(mta.messages) == len(gateway.records) == 2


async def test_with_prdr_recipients_of_two_relays_go_together(start_gateway: GatewayStarter, mta: FakeMTA):
    async with FakeMTA({"end": say("452 4.2.2 full")}) as other:
        gateway = await start_gateway(
            [destination(mta.address), destination(other.address, domains=["their.example"])]
        )
        async with Client(gateway.port) as client:
            await open_prdr(client, "u9@their.example", U1)
            codes = [reply[:3] for reply in await end_of_data(client, 4)]
            assert codes == ["353", "452", "250", "250"]
    assert sorted(record.verdict for record in gateway.records) == ["accepted", "tempfailed"]
    assert [message.recipients for message in mta.messages] == [[f"RCPT TO:<{U1}>"]]
    assert not other.messages


async def test_with_prdr_a_downstream_that_took_nobody_is_let_go(start_gateway: GatewayStarter, mta: FakeMTA):
    async with FakeMTA({"RCPT": say("550 5.1.1 no such user")}) as other:
        gateway = await start_gateway(
            [destination(mta.address), destination(other.address, domains=["their.example"])]
        )
        async with Client(gateway.port) as client:
            await open_prdr(client, U1)
            assert (await client.ask("RCPT TO:<u9@their.example>")).code == 550
            assert [reply[:3] for reply in await end_of_data(client, 1)] == ["250"]
            await eventually(lambda: other.heard("RSET"))


async def test_with_prdr_what_concerns_the_message_concerns_all(start_gateway: GatewayStarter, mta: FakeMTA):
    gateway = await start_gateway(profiles={SALES: []}, max_message_size=10)
    async with Client(gateway.port) as client:
        await open_prdr(client, U1, SALES)
        codes = {reply[:9] for reply in (await end_of_data(client, 4))[1:3]}
        assert codes == {"552 5.3.4"}
    assert not mta.messages


async def test_prdr_needs_ehlo_and_has_no_value(start_gateway: GatewayStarter):
    gateway = await start_gateway()
    async with Client(gateway.port) as client:
        await client.ask("HELO c.example")
        assert (await client.ask("MAIL FROM:<s@a.example> PRDR")).code == 555
        await client.ask("EHLO c.example")
        assert (await client.ask("MAIL FROM:<s@a.example> PRDR=1")).code == 501


async def test_a_fault_in_one_group_is_that_groups_alone(
    gateway: RunningGateway, mta: FakeMTA, monkeypatch: pytest.MonkeyPatch
):
    general = gateway.service.profiles.general.pipeline
    judge = general.judge

    async def broken(tx, case, deadline):
        if tx.stage is Stage.END_OF_DATA:
            raise RuntimeError("db password is hunter2")
        return await judge(tx, case, deadline)

    monkeypatch.setattr(general, "judge", broken)
    async with Client(gateway.port) as client:
        await open_prdr(client, U1, SALES)
        _, u1, sales, _ = await end_of_data(client, 4)
        assert u1.startswith("451 4.3.0 ")
        assert "hunter2" not in u1
        assert sales.startswith("250 ")
    assert sorted(record.reason for record in gateway.records) == ["accepted", "internal-error"]


async def test_a_client_that_leaves_while_one_group_is_decided_gets_nothing_delivered(
    start_gateway: GatewayStarter, mta: FakeMTA
):
    @policy(at=Stage.END_OF_DATA)
    def at_once(tx, evidence):
        return reject("not-this")

    gateway = await start_gateway(policies=[virus], profiles={SALES: [at_once]}, filters=[Scanner(hangs)])
    async with Client(gateway.port) as client:
        await open_prdr(client, U1, SALES)
        await client.ask("DATA")
        client.say(MESSAGE, b".\r\n")
        await gateway.record()
    aborted = await gateway.record(1)
    assert (gateway.records[0].reason, gateway.records[0].recipients) == ("not-this", [SALES])
    assert (aborted.verdict, aborted.reason, aborted.recipients) == (
        "aborted",
        "client-disconnected",
        [U1],
    )
    await gateway.no_client()
    assert not mta.messages
    assert len(gateway.records) == 2
