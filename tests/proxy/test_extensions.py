"""Extensions mirrored from the downstream: offered where it has them, carried as they came."""

import pytest

from gateway.relay.capabilities import Offer
from tests.client import Client
from tests.fakes.mta import FakeMTA
from tests.proxy.conftest import GatewayStarter
from tests.proxy.running import destination, offering

U1 = "u1@our.example"


@pytest.mark.parametrize(
    ("offer", "lines"),
    [
        (Offer(1000), ["SIZE 1000", "8BITMIME", "LIMITS RCPTMAX=1000"]),
        (Offer(1000, eight_bit=False), ["SIZE 1000", "LIMITS RCPTMAX=1000"]),
        (Offer(1000, dsn=True), ["SIZE 1000", "8BITMIME", "DSN", "LIMITS RCPTMAX=1000"]),
        (Offer(1000, smtputf8=True), ["SIZE 1000", "8BITMIME", "SMTPUTF8", "LIMITS RCPTMAX=1000"]),
        (Offer(1000, recipients=7), ["SIZE 1000", "8BITMIME", "LIMITS RCPTMAX=7"]),
    ],
)
async def test_what_is_offered(start_gateway: GatewayStarter, offer: Offer, lines: list[str]):
    gateway = await start_gateway(capabilities=offering(offer))
    async with Client(gateway.port) as client:
        answer = await client.ask("EHLO c.example")
        said = {line[4:] for line in answer.lines[1:]}
        assert said == {"PIPELINING", "ENHANCEDSTATUSCODES", "CHUNKING", "PRDR", *lines}


async def test_a_message_too_big_for_the_downstream_is_refused_at_mail(
    start_gateway: GatewayStarter, mta: FakeMTA
):
    gateway = await start_gateway(capabilities=offering(Offer(1000)))
    async with Client(gateway.port) as client:
        await client.ask("EHLO c.example")
        refusal = await client.ask("MAIL FROM:<s@a.example> SIZE=1001")
        assert (refusal.code, refusal.status) == (552, "5.3.4")
        assert (await client.ask("MAIL FROM:<s@a.example> SIZE=1000")).code == 250
    assert not mta.commands


async def test_dsn_parameters_are_carried_octet_for_octet(start_gateway: GatewayStarter):
    async with FakeMTA(extensions=["PIPELINING", "DSN"]) as mta:
        gateway = await start_gateway(
            [destination(mta.address)], capabilities=offering(Offer(1000, dsn=True))
        )
        async with Client(gateway.port) as client:
            await client.ask("EHLO c.example")
            await client.ask("MAIL FROM:<s@a.example> RET=hdrs ENVID=QQ+2B314159")
            await client.ask(f"RCPT TO:<{U1}> NOTIFY=SUCCESS,Delay ORCPT=rfc822;Bob+40x.example")
            await client.ask("RCPT TO:<u2@our.example>")
            assert (await client.data(b"Subject: t\r\n\r\nb\r\n")).code == 250
        (message,) = mta.messages
        assert message.mail == "MAIL FROM:<s@a.example> RET=hdrs ENVID=QQ+2B314159"
        assert message.recipients == [
            f"RCPT TO:<{U1}> NOTIFY=SUCCESS,Delay ORCPT=rfc822;Bob+40x.example",
            "RCPT TO:<u2@our.example>",
        ]


@pytest.mark.parametrize(
    "command",
    [
        "MAIL FROM:<s@a.example> RET=ALL",
        "MAIL FROM:<s@a.example> ENVID=a=b",
        "MAIL FROM:<s@a.example> ENVID=a+2b",
        "MAIL FROM:<s@a.example> RET",
        f"RCPT TO:<{U1}> NOTIFY=NEVER,SUCCESS",
        f"RCPT TO:<{U1}> NOTIFY=SOMETIMES",
        f"RCPT TO:<{U1}> ORCPT=Bob@x.example",
    ],
)
async def test_dsn_parameters_have_a_syntax(start_gateway: GatewayStarter, command: str):
    gateway = await start_gateway(capabilities=offering(Offer(1000, dsn=True)))
    async with Client(gateway.port) as client:
        await client.ask("EHLO c.example")
        if command.startswith("RCPT"):
            await client.ask("MAIL FROM:<s@a.example>")
        refusal = await client.ask(command)
        assert (refusal.code, refusal.status) == (501, "5.5.4")
        assert (await gateway.record()).reason == "malformed-command"


async def test_what_is_not_offered_is_refused(start_gateway: GatewayStarter):
    gateway = await start_gateway(capabilities=offering(Offer(1000)))
    async with Client(gateway.port) as client:
        await client.ask("EHLO c.example")
        assert (await client.ask("MAIL FROM:<s@a.example> RET=FULL")).code == 555
        assert (await client.ask("MAIL FROM:<s@a.example>")).code == 250
        assert (await client.ask(f"RCPT TO:<{U1}> NOTIFY=NEVER")).code == 555
