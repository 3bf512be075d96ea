"""Refusals decided before RCPT, and what is spoken when."""

import ipaddress

import pytest

from filters.evidence import Listings
from gateway.pipeline import PolicySetting
from policies import Stage, accept, mark, policy, reject, tempfail
from policies.blocklist import blocklist
from tests.client import Client
from tests.fakes.mta import FakeMTA
from tests.proxy.conftest import GatewayStarter
from tests.proxy.running import ScriptedFilter, answers, fails

MESSAGE = b"Subject: x\r\n\r\nHello\r\n"
U1 = "u1@our.example"
STAGES = [Stage.CONNECT, Stage.HELO, Stage.MAIL]


class Lists(ScriptedFilter):
    name = "lists"
    finds = Listings
    stage = Stage.CONNECT


LISTED = Listings(5.0, {"bl.example": ("127.0.0.2",)})


def refusing(stage: Stage, verdict):
    def unwanted(tx, evidence):
        return verdict

    return policy(at=stage)(unwanted)


every_stage = pytest.mark.parametrize("stage", STAGES, ids=lambda stage: stage.value)


@every_stage
async def test_it_is_spoken_at_rcpt_by_default(start_gateway: GatewayStarter, mta: FakeMTA, stage: Stage):
    gateway = await start_gateway(policies=[refusing(stage, reject("not-welcome"))])
    async with Client(gateway.port) as client:
        assert client.banner.code == 220
        answers = await client.open(U1, "u2@our.example")
        assert [str(answer)[:9] for answer in answers] == ["550 5.7.1"] * 2
        assert (await client.ask("DATA")).code == 554

    assert [
        (r.stage, r.spoken, r.reason, r.policy, r.recipients, r.reverse_path) for r in gateway.records
    ] == [
        (stage.value, "rcpt", "not-welcome", "unwanted", [recipient], "s@a.example")
        for recipient in (U1, "u2@our.example")
    ]
    assert [answer.reference for answer in answers] == [record.reference for record in gateway.records]
    assert mta.connections == 0


@every_stage
async def test_postmaster_is_exempt_and_nobody_else(
    start_gateway: GatewayStarter, mta: FakeMTA, stage: Stage
):
    gateway = await start_gateway(policies=[refusing(stage, reject("not-welcome"))])
    async with Client(gateway.port) as client:
        answers = await client.open("Postmaster", "postmaster@our.example", U1, "postmaster@victim.example")
        assert [answer.code for answer in answers] == [250, 250, 550, 550]
        assert (await client.data(MESSAGE)).code == 250
    assert mta.messages[0].recipients == ["RCPT TO:<Postmaster>", "RCPT TO:<postmaster@our.example>"]


@pytest.mark.parametrize(
    ("stage", "verdict", "banner", "greeting"),
    [
        (Stage.CONNECT, reject("not-welcome"), "554 5.7.1 ", None),
        (Stage.CONNECT, tempfail("come-later"), "421 4.7.1 ", None),
        (Stage.HELO, reject("not-welcome"), "220 ", "550 5.7.1 "),
        (Stage.HELO, tempfail("come-later"), "220 ", "451 4.7.1 "),
    ],
)
async def test_it_is_spoken_at_once_where_that_is_wanted(
    start_gateway: GatewayStarter, mta: FakeMTA, stage: Stage, verdict, banner: str, greeting: str | None
):
    gateway = await start_gateway(policies=[refusing(stage, verdict)], speak="connect")
    async with Client(gateway.port) as client:
        assert str(client.banner).startswith(banner)
        if greeting is None:
            assert await client.is_closed()
        else:
            assert str(await client.ask("EHLO c.example")).startswith(greeting)
    (record,) = gateway.records
    assert (record.stage, record.spoken, record.recipients) == (stage.value, stage.value, [])
    assert mta.connections == 0


async def test_it_is_spoken_at_mail_where_that_is_wanted(start_gateway: GatewayStarter, mta: FakeMTA):
    gateway = await start_gateway(policies=[refusing(Stage.MAIL, reject("not-welcome"))], speak="connect")
    async with Client(gateway.port) as client:
        await client.ask("EHLO c.example")
        assert str(await client.ask("MAIL FROM:<s@a.example>")).startswith("550 5.7.1 ")
        assert (await client.ask(f"RCPT TO:<{U1}>")).code == 503
        assert str(await client.ask("MAIL FROM:<s@a.example>")).startswith("550 5.7.1 ")
    assert [record.spoken for record in gateway.records] == ["mail", "mail"]


async def test_a_listed_client_is_asked_about_once(start_gateway: GatewayStarter, mta: FakeMTA):
    lists = Lists(answers(LISTED))
    gateway = await start_gateway(policies=[blocklist], filters=[lists])
    async with Client(gateway.port) as client:
        for _ in range(3):
            (answer,) = await client.open(U1)
            assert str(answer).startswith("550 5.7.1 Refused: your address is on a block list")
            await client.ask("RSET")
    assert lists.started == 1
    assert gateway.records[2].evidence["Listings"]["total"] == 5.0


async def test_an_early_failure_defers_at_rcpt(start_gateway: GatewayStarter, mta: FakeMTA):
    gateway = await start_gateway(policies=[blocklist], filters=[Lists(fails(OSError("down")))])
    async with Client(gateway.port) as client:
        (answer,) = await client.open(U1)
    assert answer.status == "4.7.1"
    assert (gateway.records[0].stage, gateway.records[0].reason) == ("connect", "evidence-unavailable")


@every_stage
async def test_an_early_acceptance_exempts_from_later_policies_and_relays_for_nobody(
    start_gateway: GatewayStarter, mta: FakeMTA, stage: Stage
):
    late = refusing(Stage.END_OF_DATA, reject("never-asked"))
    gateway = await start_gateway(policies=[refusing(stage, accept("known-client")), late])
    async with Client(gateway.port) as client:
        answers = await client.open("x@victim.example", U1)
        assert [str(answer)[:9] for answer in answers] == ["550 5.7.1", "250 2.1.5"]
        assert (await client.data(MESSAGE)).code == 250
    refused, accepted = gateway.records
    assert refused.reason == "relay-denied"
    assert (accepted.reason, accepted.policy) == ("known-client", "unwanted")


@every_stage
async def test_a_warning_only_warns(start_gateway: GatewayStarter, mta: FakeMTA, stage: Stage):
    setting = PolicySetting(refusing(stage, reject("not-welcome")), enforced=False)
    gateway = await start_gateway(policies=[setting], speak="connect")
    async with Client(gateway.port) as client:
        assert (await client.deliver(MESSAGE, U1)).code == 250
    assert gateway.records[0].opinions["unwanted"]["verdict"] == "would-reject"


@every_stage
async def test_an_early_mark_is_on_every_message(start_gateway: GatewayStarter, mta: FakeMTA, stage: Stage):
    gateway = await start_gateway(policies=[refusing(stage, mark("X-Label", stage.value))])
    async with Client(gateway.port) as client:
        assert (await client.deliver(MESSAGE, U1)).code == 250
        await client.again(U1)
        assert (await client.data(MESSAGE)).code == 250
    for message in mta.messages:
        assert message.content.count(f"\r\nX-Label: {stage.value}\r\n".encode()) == 1


@policy(at=Stage.HELO)
def no_liars(tx, evidence):
    """Refuse one name."""
    return reject("lying-helo") if tx.session.helo_name == "liar.example" else None


async def test_a_new_greeting_is_judged_anew(start_gateway: GatewayStarter, mta: FakeMTA):
    gateway = await start_gateway(policies=[no_liars])
    async with Client(gateway.port) as client:
        for name, code in [("c.example", 250), ("liar.example", 550), ("c.example", 250)]:
            (answer,) = await client.open(U1, helo=f"EHLO {name}")
            assert answer.code == code, name


@policy(at=Stage.CONNECT)
def home_only(tx, evidence):
    """Refuse who is not from here."""
    return None if tx.session.client_address in ipaddress.ip_network("127.0.0.1/32") else reject("foreign")


async def test_sessions_are_judged_apart(start_gateway: GatewayStarter, mta: FakeMTA):
    gateway = await start_gateway(policies=[home_only])
    async with Client(gateway.port) as home, Client(gateway.port, source="127.0.0.2") as away:
        assert (await home.open(U1))[0].code == 250
        assert (await away.open(U1))[0].code == 550
    assert gateway.records[0].client.address == "127.0.0.2"
