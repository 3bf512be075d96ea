"""What a client that talks nonsense gets, and when it is hung up on."""

import pytest

import gateway.proxy.budget
from gateway.proxy.budget import (
    MAX_DEFERRALS,
    MAX_ERRORS,
    MAX_IDLE_COMMANDS,
    TOO_MANY_COMMANDS,
    TOO_MANY_DEFERRALS,
    TOO_MANY_ERRORS,
    Budget,
)
from gateway.relay.capabilities import MAX_RECIPIENTS, Offer
from gateway.smtp.reply import Reply
from tests.client import Client
from tests.fakes.mta import FakeMTA, say
from tests.proxy.conftest import GatewayStarter
from tests.proxy.running import offering
from tests.waiting import eventually

ERROR = Reply.of(550, "5.1.1", "No")
DEFERRAL = Reply.of(450, "4.2.0", "Later")
MESSAGE = b"Subject: x\r\n\r\nHello\r\n"
U1 = "u1@our.example"


def test_the_first_errors_cost_nothing_then_each_costs_more_up_to_a_bound():
    budget = Budget()
    delays = []
    for _ in range(MAX_ERRORS):
        budget.note_reply(ERROR)
        delays.append(budget.take_delay())
    assert delays[:5] == [0.0] * 5
    assert delays[5:9] == [0.1, 0.2, 0.4, 0.8]
    assert set(delays[9:]) == {1.0}


def test_a_delay_is_owed_once():
    budget = Budget()
    for _ in range(6):
        budget.note_reply(ERROR)
    assert budget.take_delay() > 0
    assert budget.take_delay() == 0.0


def test_errors_end_it():
    budget = Budget()
    for _ in range(MAX_ERRORS - 1):
        budget.note_reply(ERROR)
    assert budget.exhausted is None
    budget.note_reply(ERROR)
    assert budget.exhausted is TOO_MANY_ERRORS


def test_being_put_off_ends_it_only_where_it_is_provoked_without_end():
    budget = Budget()
    for _ in range(MAX_DEFERRALS - 1):
        budget.note_reply(DEFERRAL)
    assert 0 < budget.take_delay() < 0.01
    assert budget.exhausted is None
    budget.note_reply(DEFERRAL)
    assert budget.exhausted is TOO_MANY_DEFERRALS


def test_what_is_no_refusal_costs_nothing():
    budget = Budget()
    for _ in range(MAX_DEFERRALS):
        budget.note_reply(Reply.of(250, "2.0.0", "Ok"))
        budget.note_reply(Reply.of(354, None, "Go on"))
    assert budget.exhausted is None
    assert budget.take_delay() == 0.0


def test_commands_that_bring_no_mail_end_it():
    budget = Budget()
    for _ in range(MAX_IDLE_COMMANDS):
        budget.note_command("MAIL")
    assert budget.exhausted is None
    for _ in range(MAX_IDLE_COMMANDS):
        budget.note_command("NOOP")
    assert budget.exhausted is TOO_MANY_COMMANDS


def test_delivered_mail_is_a_fresh_start():
    budget = Budget()
    for _ in range(MAX_ERRORS):
        budget.note_reply(ERROR)
        budget.note_command("RSET")
    for _ in range(MAX_DEFERRALS):
        budget.note_reply(DEFERRAL)
    budget.note_mail()
    assert budget.exhausted is None
    assert budget.take_delay() == 0.0


@pytest.fixture
def _no_delays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gateway.proxy.budget, "_LONGEST_DELAY", 0.0)


@pytest.mark.usefixtures("_no_delays")
@pytest.mark.parametrize("command", ["NOOP", "RSET", "EHLO c.example", "HELO c.example", "VRFY u1", "HELP"])
async def test_a_flood_of_idle_commands_is_ended(start_gateway: GatewayStarter, mta: FakeMTA, command: str):
    running = await start_gateway()
    async with Client(running.port) as client:
        client.say((command.encode() + b"\r\n") * (2 * MAX_IDLE_COMMANDS))
        assert (await client.rest()).count(b"421 4.7.0 ") == 1
    await running.no_client()
    assert not mta.attempts


@pytest.mark.usefixtures("_no_delays")
async def test_a_flood_of_too_long_lines_is_ended(start_gateway: GatewayStarter, mta: FakeMTA):
    running = await start_gateway()
    async with Client(running.port) as client:
        client.say((b"x" * 3000 + b"\r\n") * MAX_ERRORS)
        said = await client.rest()
    assert said.count(b"500 5.5.2 ") == MAX_ERRORS
    assert said.count(b"421 4.7.0 ") == 1
    await running.no_client()


@pytest.mark.usefixtures("_no_delays")
async def test_a_list_of_guessed_recipients_is_ended(start_gateway: GatewayStarter, mta: FakeMTA):
    mta.script["RCPT"] = say("550 5.1.1 User unknown")
    running = await start_gateway()
    async with Client(running.port) as client:
        client.say(b"EHLO c.example\r\nMAIL FROM:<s@a.example>\r\n")
        client.say(*(b"RCPT TO:<guess%d@our.example>\r\n" % number for number in range(1000)))
        said = await client.rest()
    assert said.count(b"550 5.1.1 ") == MAX_ERRORS
    assert said.count(b"421 4.7.0 ") == 1
    assert len(mta.heard("RCPT")) == MAX_ERRORS
    await running.no_client()


async def test_recipients_beyond_the_limit_are_put_off_and_the_others_get_their_message(
    start_gateway: GatewayStarter, mta: FakeMTA
):
    running = await start_gateway()
    beyond = 2 * MAX_RECIPIENTS
    async with Client(running.port) as client:
        await client.open()
        rcpts = [b"RCPT TO:<u%d@our.example>\r\n" % number for number in range(MAX_RECIPIENTS + beyond)]
        client.say(*rcpts)
        replies = await client.replies(MAX_RECIPIENTS + beyond)
        assert {reply.code for reply in replies[:MAX_RECIPIENTS]} == {250}
        assert {(reply.code, reply.status) for reply in replies[MAX_RECIPIENTS:]} == {(452, "4.5.3")}
        assert (await client.data(MESSAGE)).code == 250
    assert len(mta.heard("RCPT")) == MAX_RECIPIENTS


async def test_recipients_beyond_all_measure_end_it(
    start_gateway: GatewayStarter, mta: FakeMTA, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(gateway.proxy.budget, "MAX_DEFERRALS", 30)
    running = await start_gateway(capabilities=offering(Offer(50_000, recipients=1)))
    async with Client(running.port) as client:
        await client.open(U1)
        client.say(b"RCPT TO:<u2@our.example>\r\n" * 1000)
        said = await client.rest()
    assert said.count(b"452 4.5.3 ") == 30
    assert said.endswith(b"closing the connection\r\n")
    assert len(running.records) == 30 + 1
    assert (await running.record(30)).reason == "too-many-errors"


async def test_transactions_begun_and_given_up_need_one_downstream_connection(
    start_gateway: GatewayStarter, mta: FakeMTA
):
    running = await start_gateway()
    async with Client(running.port) as client:
        await client.ask("EHLO c.example")
        for _ in range(20):
            assert (await client.ask("MAIL FROM:<s@a.example>")).code == 250
            assert (await client.ask("RSET")).code == 250
        assert not mta.attempts
        for _ in range(20):
            assert (await client.again(U1))[0].code == 250
            assert (await client.ask("RSET")).code == 250
            # Before the downstream has confirmed its RSET, the next transaction would need another one.
            await eventually(lambda: not running.pool._resetting)
    await running.no_client()
    assert len(mta.heard("MAIL")) == 20
    assert len(mta.heard("EHLO")) == 1
