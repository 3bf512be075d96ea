"""The client that another mail server names: XCLIENT and XFORWARD, in and out, and who is not believed."""

from dataclasses import replace

import pytest

from gateway.smtp.networks import Networks
from policies import Stage, policy, reject
from policies.blocklist import blocklist
from tests.client import Client
from tests.fakes.mta import FakeMTA, say
from tests.proxy.conftest import GatewayStarter
from tests.proxy.running import Lists, destination

MESSAGE = b"Subject: x\r\n\r\nHello\r\n"
U1 = "u1@our.example"
HERE = Networks(["127.0.0.1"])
STRANGER = "127.0.0.3"
REAL = "203.0.113.9"
XCLIENT = f"XCLIENT ADDR={REAL} PORT=1234 NAME=c.example"
XFORWARD = f"XFORWARD NAME=c.example ADDR={REAL} PORT=1234 PROTO=ESMTP HELO=helo.example SOURCE=REMOTE"


@policy(at=Stage.HELO)
def no_liars(tx, evidence):
    """Refuse one name."""
    return reject("lying-helo") if tx.session.helo_name == "liar.example" else None


# XCLIENT


async def test_xclient_makes_the_peer_another_client(start_gateway: GatewayStarter, mta: FakeMTA):
    gateway = await start_gateway(xclient=HERE)
    async with Client(gateway.port) as client:
        await client.ask("EHLO front.example")
        assert (await client.ask(XCLIENT + " LOGIN=anna HELO=ignored.example")).code == 220
        assert (await client.ask("MAIL FROM:<s@a.example>")).code == 503
        assert (await client.deliver(MESSAGE, U1)).code == 250
    (record,) = gateway.records
    assert (record.client.address, record.client.port, record.client.name) == (REAL, 1234, "c.example")
    assert (record.client.helo, record.client.authenticated) == ("c.example", "anna")
    assert f"from c.example (c.example [{REAL}])".encode() in mta.messages[0].content
    assert b"with ESMTPA id" in mta.messages[0].content
    assert f"NAME=c.example ADDR={REAL} PORT=1234 " in mta.messages[0].xforward[0]


async def test_each_client_is_judged_from_the_beginning(start_gateway: GatewayStarter, mta: FakeMTA):
    lists = Lists(REAL)
    gateway = await start_gateway(policies=[blocklist], filters=[lists], xclient=HERE)
    async with Client(gateway.port) as client:
        assert (await client.open(U1))[0].code == 250
        await client.ask("RSET")
        assert (await client.ask(XCLIENT)).code == 220
        assert (await client.open(U1))[0].code == 550
        await client.ask("RSET")
        assert (await client.ask("XCLIENT ADDR=IPV6:2001:db8::9")).code == 220
        assert (await client.open(U1))[0].code == 250
        assert (await client.data(MESSAGE)).code == 250
    assert lists.asked == ["127.0.0.1", REAL, "2001:db8::9"]
    assert gateway.records[-1].client.name is None
    assert b"(unknown [IPv6:2001:db8::9])" in mta.messages[0].content


async def test_a_refusal_that_is_spoken_at_once_is_the_reply_to_xclient(
    start_gateway: GatewayStarter, mta: FakeMTA
):
    gateway = await start_gateway(policies=[blocklist], filters=[Lists(REAL)], xclient=HERE, speak="connect")
    async with Client(gateway.port) as client:
        await client.ask("EHLO front.example")
        assert (await client.ask(XCLIENT)).code == 554
        assert (await client.ask("EHLO c.example")).code == 550
        assert (await client.ask("XCLIENT ADDR=203.0.113.10")).code == 220
        assert (await client.open(U1))[0].code == 250


async def test_a_login_belongs_to_one_client(start_gateway: GatewayStarter, mta: FakeMTA):
    gateway = await start_gateway(xclient=HERE)
    async with Client(gateway.port) as client:
        await client.ask(XCLIENT + " LOGIN=anna")
        await client.ask("XCLIENT ADDR=203.0.113.10")
        assert (await client.deliver(MESSAGE, U1)).code == 250
    assert gateway.records[0].client.authenticated is None
    assert gateway.records[0].client.name is None


async def test_what_is_malformed_changes_nothing(start_gateway: GatewayStarter, mta: FakeMTA):
    gateway = await start_gateway(xclient=HERE)
    async with Client(gateway.port) as client:
        await client.ask("EHLO front.example")
        assert (await client.ask(XCLIENT)).code == 220
        await client.ask("EHLO c.example")
        for argument in ("ADDR=203.0.113.10 NAME=a+0D+0AMAIL", "ADDR=203.0.113.10 LOGIN=+00", "ADDR=1.2"):
            assert (await client.ask(f"XCLIENT {argument}")).status == "5.5.4"
            assert (await client.ask(f"XFORWARD {argument}")).status == "5.5.4"
        await client.again(U1)
        assert (await client.data(MESSAGE)).code == 250
    assert [record.client.address for record in gateway.records] == [REAL]


@pytest.mark.parametrize("command", [XCLIENT, XFORWARD, "XCLIENT ADDR=127.0.0.1 LOGIN=admin"])
async def test_nobody_else_is_believed(start_gateway: GatewayStarter, mta: FakeMTA, command: str):
    gateway = await start_gateway(xclient=HERE)
    async with Client(gateway.port, source=STRANGER) as client:
        greeting = await client.ask("EHLO c.example")
        assert "XCLIENT" not in greeting.text
        assert "XFORWARD" not in greeting.text
        refused = await client.ask(command)
        assert str(refused).startswith("550 5.7.0 ")
        await client.again(U1)
        assert (await client.data(MESSAGE)).code == 250
    assert [record.reason for record in gateway.records] == ["identity-refused", "accepted"]
    assert {record.client.address for record in gateway.records} == {STRANGER}
    assert gateway.records[0].detail == command
    assert gateway.records[1].client.authenticated is None


async def test_a_believed_peer_is_not_one_client(start_gateway: GatewayStarter):
    gateway = await start_gateway(xclient=HERE, limits=(2, 1))
    async with Client(gateway.port) as one, Client(gateway.port) as other, Client(gateway.port) as third:
        banners = [client.banner for client in (one, other, third)]
        assert [banner.code for banner in banners if banner] == [220, 220, 421]


# XFORWARD


async def test_xforward_is_believed_for_one_transaction(start_gateway: GatewayStarter, mta: FakeMTA):
    gateway = await start_gateway(xclient=HERE)
    async with Client(gateway.port) as client:
        await client.ask("EHLO front.example")
        assert (await client.ask(XFORWARD)).code == 250
        await client.again(U1)
        assert (await client.data(MESSAGE)).code == 250
        await client.again(U1)
        assert (await client.data(MESSAGE)).code == 250
    first, second = gateway.records
    assert (first.client.address, first.client.port, first.client.name) == (REAL, 1234, "c.example")
    assert first.client.helo == "helo.example"
    assert (second.client.address, second.client.name, second.client.helo) == (
        "127.0.0.1",
        None,
        "front.example",
    )
    assert f"from helo.example (c.example [{REAL}])".encode() in mta.messages[0].content
    assert f"ADDR={REAL} PORT=1234 PROTO=ESMTP HELO=helo.example" in mta.messages[0].xforward[0]
    assert b"from front.example (unknown [127.0.0.1])" in mta.messages[1].content


@pytest.mark.parametrize("forgetting", ["RSET", "EHLO front.example"])
async def test_it_is_forgotten_with_what_is_given_up(
    start_gateway: GatewayStarter, mta: FakeMTA, forgetting: str
):
    gateway = await start_gateway(xclient=HERE)
    async with Client(gateway.port) as client:
        await client.ask("EHLO front.example")
        await client.ask(XFORWARD)
        assert (await client.ask(forgetting)).code == 250
        await client.again(U1)
        assert (await client.data(MESSAGE)).code == 250
    assert gateway.records[0].client.address == "127.0.0.1"


async def test_connect_and_helo_are_judged_for_the_client_that_is_forwarded(
    start_gateway: GatewayStarter, mta: FakeMTA
):
    lists = Lists(REAL)
    gateway = await start_gateway(policies=[blocklist, no_liars], filters=[lists], xclient=HERE)
    async with Client(gateway.port) as client:
        await client.ask("EHLO front.example")
        for command, code in [
            (XFORWARD, 550),
            (XFORWARD.replace(REAL, "203.0.113.10"), 250),
            (XFORWARD.replace(REAL, "203.0.113.11").replace("helo.example", "liar.example"), 550),
            ("NOOP", 250),
        ]:
            await client.ask(command)
            assert (await client.again(U1))[0].code == code, command
            await client.ask("RSET")
    assert lists.asked == ["127.0.0.1", REAL, "203.0.113.10", "203.0.113.11"]
    refusals = [record for record in gateway.records if record.verdict == "rejected"]
    assert [(r.reason, r.stage, r.spoken, r.client.address) for r in refusals] == [
        ("dns-blocklisted", "connect", "rcpt", REAL),
        ("lying-helo", "helo", "rcpt", "203.0.113.11"),
    ]


async def test_a_refusal_that_is_spoken_at_once_is_the_reply_to_mail(
    start_gateway: GatewayStarter, mta: FakeMTA
):
    gateway = await start_gateway(policies=[blocklist], filters=[Lists(REAL)], xclient=HERE, speak="connect")
    async with Client(gateway.port) as client:
        await client.ask("EHLO front.example")
        await client.ask(XFORWARD)
        for _ in range(2):
            assert (await client.ask("MAIL FROM:<s@a.example>")).code == 550
        assert (await client.ask("XFORWARD ADDR=203.0.113.10")).code == 250
        assert (await client.again(U1))[0].code == 250
    assert [record.client.address for record in gateway.records[:2]] == [REAL, REAL]


async def test_it_comes_in_several_commands(start_gateway: GatewayStarter, mta: FakeMTA):
    gateway = await start_gateway(xclient=HERE)
    async with Client(gateway.port) as client:
        await client.ask("EHLO front.example")
        await client.ask(f"XFORWARD NAME=c.example ADDR={REAL}")
        await client.ask("XFORWARD PORT=[UNAVAILABLE] PROTO=SMTP HELO=[UNAVAILABLE]")
        await client.again(U1)
        assert (await client.data(MESSAGE)).code == 250
    assert f"from unknown (c.example [{REAL}])\r\n".encode() in mta.messages[0].content
    assert b"with SMTP id" in mta.messages[0].content
    assert " PORT=[UNAVAILABLE] PROTO=SMTP HELO=[UNAVAILABLE] " in mta.messages[0].xforward[0]


async def test_a_client_of_unknown_address_is_where_the_peer_is(start_gateway: GatewayStarter, mta: FakeMTA):
    gateway = await start_gateway(xclient=HERE)
    async with Client(gateway.port) as client:
        await client.ask("EHLO front.example")
        await client.ask(XFORWARD)
        await client.ask("XFORWARD NAME=[UNAVAILABLE] ADDR=[UNAVAILABLE] HELO=helo.example")
        assert (await client.again("x@elsewhere.example"))[0].code == 550
    assert (gateway.records[0].client.address, gateway.records[0].client.name) == ("127.0.0.1", None)
    assert gateway.records[0].client.helo == "helo.example"


async def test_the_downstreams_refusal_is_the_forwarded_clients(start_gateway: GatewayStarter, mta: FakeMTA):
    mta.script["RCPT"] = say("550 5.1.1 no such user")
    gateway = await start_gateway(xclient=HERE)
    async with Client(gateway.port) as client:
        await client.ask("EHLO front.example")
        await client.ask(XFORWARD)
        assert (await client.again(U1))[0].code == 550
        assert (await client.ask("DATA")).code == 554
    assert (gateway.records[0].reason, gateway.records[0].client.address) == ("unknown-recipient", REAL)


# Towards the downstream


async def test_a_client_that_cannot_be_named_downstream_is_deferred(
    start_gateway: GatewayStarter, mta: FakeMTA
):
    gateway = await start_gateway([replace(destination(mta.address), identify="xclient")])
    async with Client(gateway.port) as client:
        assert [answer.status for answer in await client.open(U1, "u2@our.example")] == ["4.4.1", "4.4.1"]
    assert [record.reason for record in gateway.records] == ["downstream-unavailable"] * 2
    assert "XCLIENT" in gateway.records[0].detail
    assert not mta.heard("MAIL")


async def test_whom_xforward_brought_is_passed_on_by_xclient(start_gateway: GatewayStarter, mta: FakeMTA):
    mta.extensions = (*mta.extensions, "XCLIENT NAME ADDR PORT PROTO HELO LOGIN")
    gateway = await start_gateway(xclient=HERE)
    async with Client(gateway.port) as client:
        await client.ask("EHLO front.example")
        for address in (REAL, "203.0.113.10"):
            await client.ask(XFORWARD.replace(REAL, address))
            await client.again(U1)
            assert (await client.data(MESSAGE)).code == 250
    assert [message.xclient for message in mta.messages] == [
        [f"XCLIENT ADDR={address} PORT=1234 NAME=c.example LOGIN=[UNAVAILABLE] PROTO=ESMTP HELO=helo.example"]
        for address in (REAL, "203.0.113.10")
    ]
    assert mta.connections == 1
