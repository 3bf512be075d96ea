"""Downstreams at several addresses, ones that fail for long, take few clients at a time, or are ourselves."""

import asyncio
import collections
import threading
from pathlib import Path

import pytest

import gateway.relay.client
import gateway.smtp.breaker
from filters.testing.server import Conversation, Nobody
from gateway.smtp.breaker import TOLERATED
from tests.client import Client
from tests.fakes.mta import (
    Act,
    FakeMTA,
    Talk,
    drop,
    hang,
    reset,
    say,
    say_and_drop,
)
from tests.proxy.conftest import GatewayStarter
from tests.proxy.running import RunningGateway, destination
from tests.waiting import PATIENCE

MESSAGE = b"Subject: x\r\n\r\nHello\r\n"
U1, U2 = "u1@our.example", "u2@our.example"


@pytest.fixture
def short_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Time-outs towards the downstream that a test can wait for."""
    for name in ("CONNECT_TIMEOUT", "GREETING_TIMEOUT", "COMMAND_TIMEOUT"):
        monkeypatch.setattr(gateway.relay.client, name, 1.1)


async def rcpt(running: RunningGateway) -> str:
    """What a new session hears to RCPT."""
    async with Client(running.port) as client:
        return str((await client.open(U1))[0])


# Several addresses

UNUSABLE: dict[str, tuple[str, Act]] = {
    "421 greeting": ("banner", say_and_drop("421 4.3.2 Too many connections")),
    "554 greeting": ("banner", say("554 5.3.2 No service here")),
    "no greeting": ("banner", hang),
    "reset": ("banner", reset),
    "half a greeting": ("banner", say_and_drop("220-mta.test")),
    "EHLO hangs": ("EHLO", hang),
    "MAIL hangs": ("MAIL", hang),
    "421 to MAIL": ("MAIL", say_and_drop("421 4.3.2 Closing")),
    "drops at MAIL": ("MAIL", drop),
    "RCPT hangs": ("RCPT", hang),
    "garbage": ("RCPT", say("whatever")),
}


@pytest.mark.usefixtures("short_patience")
@pytest.mark.parametrize(("stage", "act"), UNUSABLE.values(), ids=UNUSABLE)
async def test_the_next_address_is_used_where_the_first_is_of_no_use(
    start_gateway: GatewayStarter, mta: FakeMTA, stage: str, act: Act
):
    async with FakeMTA({stage: act}) as broken:
        running = await start_gateway([destination(broken.address, mta.address)])
        for _ in range(2):
            async with Client(running.port) as client:
                assert (await client.deliver(MESSAGE, U1)).code == 250
        assert broken.connections == 1
        assert not broken.messages
    assert len(mta.messages) == 2
    assert {record.downstream.address for record in running.records} == {mta.address}


async def test_a_refusal_is_an_answer_and_no_reason_to_ask_elsewhere(
    start_gateway: GatewayStarter, mta: FakeMTA
):
    async with FakeMTA({"RCPT": say("550 5.1.1 unknown")}) as first:
        running = await start_gateway([destination(first.address, mta.address)])
        assert (await rcpt(running)).startswith("550 5.1.1 unknown")
    assert not mta.connections


async def test_a_name_that_is_not_known_defers_the_recipient(start_gateway: GatewayStarter):
    running = await start_gateway([destination("does-not-exist.invalid:25")])
    assert (await rcpt(running)).startswith("451 4.4.1 ")


# Addresses that keep failing


@pytest.mark.usefixtures("short_patience")
@pytest.mark.parametrize("stage", ["banner", "MAIL"])
async def test_a_downstream_that_keeps_hanging_keeps_no_client_waiting_and_is_used_again(
    start_gateway: GatewayStarter, mta: FakeMTA, stage: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(gateway.smtp.breaker, "FIRST_PAUSE", 3.0)
    mta.script[stage] = hang
    running = await start_gateway()
    for _ in range(TOLERATED):
        assert (await rcpt(running)).startswith("451 4.4.1 ")
    for _ in range(3):
        assert (await rcpt(running)).startswith("451 4.4.1 ")
        assert " given up on for " in running.records[-1].detail
    assert mta.connections == TOLERATED

    del mta.script[stage]
    async with asyncio.timeout(PATIENCE):
        while not (await rcpt(running)).startswith("250 "):
            continue
    assert mta.connections == TOLERATED + 1


@pytest.mark.usefixtures("short_patience")
async def test_a_downstream_that_hangs_once_is_asked_at_once_again(
    start_gateway: GatewayStarter, mta: FakeMTA
):
    mta.script["MAIL"] = [hang]
    running = await start_gateway()
    assert (await rcpt(running)).startswith("451 4.4.1 ")
    assert (await rcpt(running)).startswith("250 ")


async def test_a_downstream_that_is_started_again_gets_the_very_next_message(
    start_gateway: GatewayStarter, tmp_path: Path
):
    path = tmp_path / "mta"
    running = await start_gateway([destination(f"unix:{path}")])
    for _ in range(2):
        for _ in range(TOLERATED * 2):
            assert (await rcpt(running)).startswith("451 4.4.1 ")
        async with FakeMTA(unix=str(path)) as restarted:
            async with Client(running.port) as client:
                assert (await client.deliver(MESSAGE, U1)).code == 250
            assert len(restarted.messages) == 1
        path.unlink()


async def test_a_downstream_with_no_room_is_asked_again_and_again(
    start_gateway: GatewayStarter, mta: FakeMTA
):
    mta.script["banner"] = [say_and_drop("421 4.3.2 Too many connections")] * TOLERATED * 2
    running = await start_gateway()
    for _ in range(TOLERATED * 2):
        assert (await rcpt(running)).startswith("451 4.4.1 ")
        assert "421 4.3.2 Too many connections" in running.records[-1].detail
    assert (await rcpt(running)).startswith("250 ")


@pytest.mark.usefixtures("short_patience")
async def test_where_all_addresses_are_given_up_on_all_are_named(start_gateway: GatewayStarter, mta: FakeMTA):
    mta.script["banner"] = hang
    with Nobody() as nobody:
        running = await start_gateway([destination(mta.address, nobody.address)])
        for _ in range(TOLERATED + 1):
            await rcpt(running)
    causes = running.records[-1].detail.split("; ")
    assert causes[0] == f"{nobody.address}: Connection refused"
    assert causes[1].startswith(f"{mta.address}: given up on for ")


# Few at a time


class OneAtATime(FakeMTA):
    """Greets the next client when the one before has gone."""

    def __init__(self) -> None:
        super().__init__()
        self._turn = threading.Lock()

    def _converse(self, conversation: Conversation) -> None:
        with self._turn:
            Talk(conversation, self).serve()


async def test_a_downstream_that_takes_one_connection_at_a_time_gets_all_messages_one_by_one(
    start_gateway: GatewayStarter,
):
    async with OneAtATime() as slow:
        running = await start_gateway([destination(slow.address)])

        async def deliver() -> int:
            async with Client(running.port) as client:
                return (await client.deliver(MESSAGE, U1)).code

        assert await asyncio.gather(*(deliver() for _ in range(5))) == [250] * 5
        assert len(slow.messages) == 5


# Circles


async def test_a_gateway_that_relays_to_itself_comes_to_an_end(start_gateway: GatewayStarter, mta: FakeMTA):
    running = await start_gateway(limits=(1000, 10))
    (entry,) = running.service.router.destinations
    round_about = destination(f"127.0.0.1:{running.port}", domains=entry.domains)
    running.service.router.destinations = (round_about,)
    assert (await rcpt(running)).startswith("451 4.4.1 ")
    reasons = collections.Counter(record.reason for record in running.records)
    assert reasons == {"overloaded": 1, "downstream-unavailable": 1, "downstream-deferred": 9}
    assert not mta.connections
