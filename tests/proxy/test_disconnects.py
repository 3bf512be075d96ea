"""Clients that vanish, fall silent, or say everything at once, in every state."""

import asyncio

import pytest

import gateway.proxy.stream
from filters.evidence import VirusReport
from policies import Stage, policy
from policies.virus import virus
from tests.client import Client
from tests.fakes.mta import FakeMTA, Gate, accept, drop, say
from tests.proxy.conftest import GatewayStarter
from tests.proxy.running import Scanner, answers, hangs, waits
from tests.waiting import eventually

MESSAGE = b"Subject: x\r\n\r\nHello\r\n"
U1 = "u1@our.example"
ENVELOPE = b"MAIL FROM:<s@a.example>\r\nRCPT TO:<u1@our.example>\r\n"


def vanish(client: Client, how: str) -> None:
    if how == "RST":
        client.reset()
    else:
        client.close()


both_ways = pytest.mark.parametrize("how", ["FIN", "RST"])

# What was said, and what the record of it says; no record where no transaction was open.
STATES = {
    "at once": (b"", None),
    "in a command": (b"EHLO c.exam", None),
    "after EHLO": (b"EHLO c.example\r\n", None),
    "after MAIL": (b"EHLO c.example\r\nMAIL FROM:<s@a.example>\r\n", "mail"),
    "after RCPT": (b"EHLO c.example\r\n" + ENVELOPE, "rcpt"),
    "after DATA": (b"EHLO c.example\r\n" + ENVELOPE + b"DATA\r\n", "end-of-data"),
    "in the content": (b"EHLO c.example\r\n" + ENVELOPE + b"DATA\r\n" + MESSAGE, "end-of-data"),
    "in the end": (b"EHLO c.example\r\n" + ENVELOPE + b"DATA\r\n" + MESSAGE + b".", "end-of-data"),
    "in the last CRLF": (b"EHLO c.example\r\n" + ENVELOPE + b"DATA\r\n" + MESSAGE + b".\r", "end-of-data"),
}


@both_ways
@pytest.mark.parametrize(("said", "stage"), STATES.values(), ids=STATES)
async def test_a_client_that_vanishes_delivers_nothing(
    start_gateway: GatewayStarter, mta: FakeMTA, said: bytes, stage: str | None, how: str
):
    running = await start_gateway()
    async with Client(running.port) as client:
        client.say(said)
        commands = said.split(b"DATA\r\n")[0].count(b"\r\n") + (b"DATA\r\n" in said)
        await client.replies(commands)
        vanish(client, how)
        await running.no_client()

    assert [(r.verdict, r.reason, r.stage) for r in running.records] == (
        [("aborted", "client-disconnected", stage)] if stage else []
    )
    assert not any(attempt.raw for attempt in mta.attempts)
    assert not mta.heard("DATA")


@both_ways
async def test_a_client_that_vanishes_at_rcpt_cancels_what_is_asked(
    start_gateway: GatewayStarter, mta: FakeMTA, how: str
):
    gate = Gate(say("250 2.1.5 Ok"))
    mta.script["RCPT"] = [gate]
    running = await start_gateway()
    async with Client(running.port) as client:
        client.say(b"EHLO c.example\r\n", ENVELOPE)
        await eventually(gate.reached.is_set)
        vanish(client, how)
        await running.no_client()
    gate.open()
    assert [record.verdict for record in running.records] == ["aborted"]


@pytest.mark.parametrize(("how", "ahead"), [("FIN", b""), ("RST", b""), ("RST", b"QUIT\r\n")])
async def test_a_client_that_vanishes_cancels_its_scans(
    start_gateway: GatewayStarter, mta: FakeMTA, how: str, ahead: bytes
):
    scanner = Scanner(hangs)
    running = await start_gateway(policies=[virus], filters=[scanner])
    async with Client(running.port) as client:
        await client.open(U1)
        await client.ask("DATA")
        client.say(MESSAGE, b".\r\n", ahead)
        await eventually(lambda: scanner.started)
        vanish(client, how)
        await eventually(lambda: scanner.cancelled)
        await running.no_client()

    (record,) = running.records
    assert (record.verdict, record.reason, record.stage) == ("aborted", "client-disconnected", "end-of-data")
    assert not mta.messages
    assert not mta.heard("DATA")


@both_ways
async def test_the_answer_to_an_end_of_data_is_awaited_for_a_client_that_vanished(
    start_gateway: GatewayStarter, mta: FakeMTA, how: str
):
    gate = Gate(accept("250 2.0.0 Ok: queued"))
    mta.script["end"] = [gate]
    running = await start_gateway()
    async with Client(running.port) as client:
        await client.open(U1)
        await client.ask("DATA")
        client.say(MESSAGE, b".\r\n")
        await eventually(gate.reached.is_set)
        vanish(client, how)
        await asyncio.sleep(0)
        gate.open()
        await running.no_client()

    (record,) = running.records
    assert record.verdict == "accepted"
    assert "the client has gone" in record.detail
    assert record.downstream.reply == "250 2.0.0 Ok: queued"
    assert len(mta.messages) == 1


async def test_a_refusal_for_a_client_that_vanished_is_recorded(start_gateway: GatewayStarter, mta: FakeMTA):
    gate = Gate(say("554 5.7.1 No"))
    mta.script["end"] = [gate]
    running = await start_gateway()
    async with Client(running.port) as client:
        await client.open(U1)
        await client.ask("DATA")
        client.say(MESSAGE, b".\r\n")
        await eventually(gate.reached.is_set)
        client.reset()
        await asyncio.sleep(0)
        gate.open()
        await running.no_client()
    assert [(r.verdict, r.reason) for r in running.records] == [("rejected", "downstream-rejected")]


@pytest.mark.parametrize("slow", [False, True], ids=["", "slow scanner"])
async def test_a_whole_session_in_one_write_gets_all_its_replies(
    start_gateway: GatewayStarter, mta: FakeMTA, slow: bool
):
    event = asyncio.Event()
    scanner = Scanner(waits(event, VirusReport()) if slow else answers(VirusReport()))
    running = await start_gateway(policies=[virus], filters=[scanner])
    async with Client(running.port, greet=False) as client:
        client.say(b"EHLO c.example\r\n", ENVELOPE, b"DATA\r\n", MESSAGE, b".\r\nQUIT\r\n")
        client.half_close()
        await eventually(lambda: scanner.started)
        await asyncio.sleep(0)
        event.set()
        assert [reply.code for reply in await client.replies(7)] == [220, 250, 250, 250, 354, 250, 221]
        assert await client.is_closed()
    assert [record.verdict for record in running.records] == ["accepted"]


async def test_a_client_that_closes_behind_its_acceptance_changes_nothing(
    start_gateway: GatewayStarter, mta: FakeMTA
):
    running = await start_gateway()
    async with Client(running.port) as client:
        assert (await client.deliver(MESSAGE, U1)).code == 250
    await running.no_client()
    assert [record.verdict for record in running.records] == ["accepted"]


@pytest.mark.parametrize("said", [said for said, _ in STATES.values()], ids=STATES)
async def test_a_silent_client_is_told_and_let_go(
    start_gateway: GatewayStarter, mta: FakeMTA, monkeypatch: pytest.MonkeyPatch, said: bytes
):
    monkeypatch.setattr(gateway.proxy.stream, "COMMAND_TIMEOUT", 0.2)
    monkeypatch.setattr(gateway.proxy.stream, "CONTENT_TIMEOUT", 0.2)
    running = await start_gateway()
    async with Client(running.port) as client:
        client.say(said)
        await client.replies(said.split(b"DATA\r\n")[0].count(b"\r\n") + (b"DATA\r\n" in said))
        assert str(await client.reply()).startswith("421 4.4.2 ")
        # Whatever it says now comes too late.
        client.say(b"\r\n.\r\nNOOP\r\n")
        assert await client.is_closed()
        await running.no_client()
    assert [r.reason for r in running.records] == (["client-timeout"] if b"MAIL" in said else [])
    assert not mta.messages


async def test_a_message_that_ends_in_bare_newlines_never_ends(
    start_gateway: GatewayStarter, mta: FakeMTA, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(gateway.proxy.stream, "CONTENT_TIMEOUT", 0.2)
    running = await start_gateway()
    async with Client(running.port) as client:
        await client.open(U1)
        await client.ask("DATA")
        client.say(b"Subject: x\n\nHello\n.\n")
        assert (await client.reply()).status == "4.4.2"
        assert await client.is_closed()
    assert not mta.messages


@policy(at=Stage.MAIL, needs=[VirusReport])
def slow_mail(tx, evidence):
    """Asked at MAIL."""


class EarlyScanner(Scanner):
    stage = Stage.CONNECT


@policy(at=Stage.CONNECT, needs=[VirusReport])
def slow_connect(tx, evidence):
    """Asked at connect."""


async def test_a_reset_does_not_forget_what_is_asked_about_the_session(
    start_gateway: GatewayStarter, mta: FakeMTA
):
    event = asyncio.Event()
    scanner = EarlyScanner(waits(event, VirusReport()))
    running = await start_gateway(policies=[slow_connect, slow_mail], filters=[scanner])
    async with Client(running.port) as client:
        await client.ask("EHLO c.example")
        await client.ask("MAIL FROM:<s@a.example>")
        await eventually(lambda: scanner.started)
        assert (await client.ask("RSET")).code == 250
        event.set()
        assert (await client.again(U1))[0].code == 250
        assert (await client.data(MESSAGE)).code == 250
    assert scanner.started == 1
    assert not scanner.cancelled


async def test_a_client_that_reads_nothing_is_hung_up_on(start_gateway: GatewayStarter, mta: FakeMTA):
    running = await start_gateway()
    async with Client(running.port) as client:
        await client.ask("EHLO c.example")
        for _ in range(90):
            client.say(b"EHLO c.example\r\n" * 10_000)
        await running.no_client()
    assert not running.records


async def test_a_session_in_the_middle_of_its_message_finishes_it(
    start_gateway: GatewayStarter, mta: FakeMTA
):
    running = await start_gateway()
    async with Client(running.port) as busy, Client(running.port) as idle:
        await busy.open(U1)
        await busy.ask("DATA")
        busy.say(MESSAGE)
        draining = asyncio.create_task(running.server.drain(10.0))
        assert str(await idle.reply()).startswith("421 4.3.2 ")
        assert await idle.is_closed()
        busy.say(b".\r\n")
        assert (await busy.reply()).code == 250
        assert str(await busy.reply()).startswith("421 4.3.2 ")
        assert await busy.is_closed()
        await draining
    assert [record.verdict for record in running.records] == ["accepted"]


async def test_a_transaction_that_was_begun_may_go_on_to_its_end(start_gateway: GatewayStarter, mta: FakeMTA):
    running = await start_gateway()
    async with Client(running.port) as busy, Client(running.port) as idle:
        await busy.ask("EHLO c.example")
        assert (await busy.ask("MAIL FROM:<s@a.example>")).code == 250
        draining = asyncio.create_task(running.server.drain(10.0))
        assert str(await idle.reply()).startswith("421 4.3.2 ")
        assert (await busy.ask(f"RCPT TO:<{U1}>")).code == 250
        assert (await busy.data(MESSAGE)).code == 250
        assert str(await busy.reply()).startswith("421 4.3.2 ")
        await draining
    assert [record.verdict for record in running.records] == ["accepted"]


async def test_a_transaction_that_is_not_gone_on_with_is_cut(start_gateway: GatewayStarter, mta: FakeMTA):
    running = await start_gateway()
    async with Client(running.port) as client:
        await client.open(U1)
        await running.server.drain(0.1)
        assert str(await client.reply()).startswith("421 4.3.2 ")
        assert await client.is_closed()
    assert [(r.verdict, r.reason) for r in running.records] == [("aborted", "shutdown")]


async def test_a_session_that_takes_too_long_to_finish_is_cut(start_gateway: GatewayStarter, mta: FakeMTA):
    scanner = Scanner(hangs)
    running = await start_gateway(policies=[virus], filters=[scanner])
    async with Client(running.port) as scanned, Client(running.port) as sending:
        for client in (scanned, sending):
            await client.open(U1)
            await client.ask("DATA")
            client.say(MESSAGE)
        scanned.say(b".\r\n")
        await eventually(lambda: scanner.started)
        await running.server.drain(0.1)
        for client in (scanned, sending):
            assert str(await client.reply()).startswith("421 4.3.2 ")
            assert await client.is_closed()
    assert [(r.verdict, r.reason) for r in running.records] == [("aborted", "shutdown")] * 2


async def test_a_delivery_under_way_is_never_cut(start_gateway: GatewayStarter, mta: FakeMTA):
    gate = Gate(accept("250 2.0.0 Ok"))
    mta.script["end"] = [gate]
    running = await start_gateway()
    async with Client(running.port) as client:
        await client.open(U1)
        await client.ask("DATA")
        client.say(MESSAGE, b".\r\n")
        await eventually(gate.reached.is_set)
        draining = asyncio.create_task(running.server.drain(0.0))
        await asyncio.sleep(0)
        gate.open()
        assert (await client.reply()).code == 250
        await draining


async def test_a_downstream_gone_before_the_client_leaves_no_trace(
    start_gateway: GatewayStarter, mta: FakeMTA
):
    mta.script["RCPT"] = drop
    running = await start_gateway()
    async with Client(running.port) as client:
        assert (await client.open(U1))[0].code == 451
    await running.no_client()
    assert [record.verdict for record in running.records] == ["tempfailed"]
