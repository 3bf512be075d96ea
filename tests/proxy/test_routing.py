"""Recipients of different [[relay]] entries in one transaction."""

from collections.abc import AsyncIterator

import pytest

from tests.client import Client
from tests.fakes.mta import FakeMTA, say
from tests.proxy.conftest import GatewayStarter
from tests.proxy.running import RunningGateway, destination

HERE, THERE = "u1@our.example", "u2@their.example"
MESSAGE = b"Subject: t\r\n\r\nb\r\n"


@pytest.fixture
async def other() -> AsyncIterator[FakeMTA]:
    """The downstream of their.example."""
    async with FakeMTA() as fake:
        yield fake


@pytest.fixture
async def gateway(start_gateway: GatewayStarter, mta: FakeMTA, other: FakeMTA) -> RunningGateway:
    return await start_gateway(
        [destination(mta.address), destination(other.address, domains=["their.example"])]
    )


async def test_one_message_goes_to_one_downstream(gateway: RunningGateway, mta: FakeMTA, other: FakeMTA):
    """Two of them could not be made to agree, and nothing is kept here to try again."""
    async with Client(gateway.port) as client:
        first, second = await client.open(HERE, THERE)
        assert first.code == 250
        assert (second.code, second.status) == (452, "4.5.3")
        assert gateway.records[0].reason == "other-relay"
        assert gateway.records[0].recipients == [THERE]
        assert (await client.data(MESSAGE)).code == 250
        (again,) = await client.again(THERE)
        assert again.code == 250
        assert (await client.data(MESSAGE)).code == 250
    assert [message.recipients for message in mta.messages] == [[f"RCPT TO:<{HERE}>"]]
    assert [message.recipients for message in other.messages] == [[f"RCPT TO:<{THERE}>"]]


async def test_a_downstream_that_took_nobody_keeps_nobody(
    gateway: RunningGateway, mta: FakeMTA, other: FakeMTA
):
    mta.script["RCPT"] = say("550 5.1.1 no such user")
    async with Client(gateway.port) as client:
        first, second = await client.open(HERE, THERE)
        assert (first.code, second.code) == (550, 250)
        assert (await client.data(MESSAGE)).code == 250
    assert not mta.messages
    assert [message.recipients for message in other.messages] == [[f"RCPT TO:<{THERE}>"]]
