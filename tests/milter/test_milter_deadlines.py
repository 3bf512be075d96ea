"""Neighbours that hang and policies that do not return: the MTA has its answer in time all the same."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

import gateway.child as child
from filters.testing.server import hang
from gateway.supervisor import Supervisor
from tests.fakes.clamd import FakeClamd
from tests.fakes.nameserver import FakeNameserver, Mischief
from tests.milter.asked import ORDER, PLAIN, A, Asked, B, brief, deliver, order, unseen

LIMITS = "deadline = 1\npolicy_time = 1\n"
LISTS = """
[filters.dnsbl]
nameservers = ["{nameserver}"]
query_timeout = 20
[filters.dnsbl.zones]
"bl.example" = 4
[filters.clamav]
address = "{clamd}"
"""
# Whom the name server does not tell about.
UNKNOWN = "192.0.2.66"


@pytest.fixture(scope="module")
def neighbours() -> Iterator[tuple[FakeClamd, FakeNameserver]]:
    silence = {"66.2.0.192.bl.example": Mischief.SILENT}
    with FakeClamd() as clamd, FakeNameserver(silence) as nameserver:
        yield clamd, nameserver


def hasty(directory: Path, neighbours: tuple[FakeClamd, FakeNameserver], speak: str) -> Asked:
    clamd, nameserver = neighbours
    return Asked(
        directory,
        gateway=f'{LIMITS}speak = "{speak}"',
        more=LISTS.format(clamd=clamd.address, nameserver=nameserver.address),
        order=("blocklist", *ORDER, "virus"),
    )


@pytest.fixture(scope="module")
def _at_rcpt(
    neighbours: tuple[FakeClamd, FakeNameserver], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Asked]:
    with hasty(tmp_path_factory.mktemp("hasty"), neighbours, "rcpt") as running:
        yield running


@pytest.fixture(scope="module")
def _at_once(
    neighbours: tuple[FakeClamd, FakeNameserver], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Asked]:
    with hasty(tmp_path_factory.mktemp("hasty"), neighbours, "connect") as running:
        yield running


@pytest.fixture
def at_rcpt(_at_rcpt: Asked) -> Asked:
    return _at_rcpt.renewed()


@pytest.fixture
def at_once(_at_once: Asked) -> Asked:
    return _at_once.renewed()


# Neighbours


async def test_a_list_that_hangs_defers_at_rcpt(at_rcpt: Asked):
    async with at_rcpt.mta() as mta:
        assert (await mta.greet(client_address=UNKNOWN)).goes_on
        assert (await mta.mail(A)).is_continue
        reply = (await mta.rcpt(B)).reply
        assert (reply.code, reply.status) == (451, "4.4.7")
    assert brief(await at_rcpt.record()) == ("tempfailed", "connect", "rcpt", "deadline-exceeded")


async def test_a_list_that_hangs_defers_at_once(at_once: Asked):
    async with at_once.mta() as mta:
        reply = (await mta.greet(client_address=UNKNOWN)).reply
        assert (reply.code, reply.status) == (451, "4.4.7")
    assert brief(await at_once.record()) == ("tempfailed", "connect", "connect", "deadline-exceeded")


async def test_a_scanner_that_hangs_defers_the_message_and_nobody_else(
    at_rcpt: Asked, neighbours: tuple[FakeClamd, FakeNameserver]
):
    clamd, _ = neighbours
    clamd.behaviour, usual = hang, clamd.behaviour
    try:
        async with at_rcpt.mta() as mta, at_rcpt.mta() as other:
            await mta.greet()
            await other.greet()
            before = clamd.connections
            waiting = asyncio.create_task(deliver(mta, unseen()))
            await clamd.wait_for_connections(before + 1)
            await other.mail(A)
            assert (await other.rcpt(b"<refused@our.example>")).is_reject
            assert not waiting.done()
            reply = (await waiting).reply
            assert (reply.code, reply.status) == (451, "4.4.7")
            assert await clamd.last.has_left()
            clamd.behaviour = usual
            assert (await deliver(mta)).is_continue
    finally:
        clamd.behaviour = usual
    refused, late, taken = await at_rcpt.recorded(3)
    assert (refused["verdict"], taken["verdict"]) == ("rejected", "accepted")
    assert brief(late) == ("tempfailed", "end-of-data", "end-of-data", "deadline-exceeded")


async def test_whom_the_client_gives_up_waiting_for_is_not_asked_any_more(
    at_rcpt: Asked, neighbours: tuple[FakeClamd, FakeNameserver]
):
    """An MTA whose client has gone while the name server hangs goes on with the next one."""
    async with at_rcpt.mta() as mta:
        await mta.greet(client_address=UNKNOWN)
        await mta.mail(A)
        await mta.abort()
    async with at_rcpt.mta() as mta:
        await mta.greet()
        assert (await deliver(mta)).is_continue
    assert (await at_rcpt.record())["verdict"] == "accepted"


# Policies


@pytest.mark.parametrize("stage", ["connect", "helo", "mail", "rcpt", "end-of-data"])
async def test_a_policy_that_loops_is_interrupted(at_rcpt: Asked, stage: str):
    client = {"client_address": "192.0.2.80"} if stage == "connect" else {}
    helo = "loops.example" if stage == "helo" else "client.example"
    sender = b"<loops@example.net>" if stage == "mail" else A
    recipient = b"<loops@our.example>" if stage == "rcpt" else B
    async with at_rcpt.mta() as mta:
        await mta.greet(**client, helo=helo)
        assert (await mta.mail(sender)).is_continue
        response = await mta.rcpt(recipient)
        if stage == "end-of-data":
            assert response.is_continue
            response = await mta.message(order('_obey("loops")'))
        assert (response.reply.code, response.reply.status) == (451, "4.3.0")
    async with at_rcpt.mta() as mta:
        await mta.greet()
        assert (await deliver(mta)).is_continue
    failed, _ = await at_rcpt.recorded(2)
    spoken = "end-of-data" if stage == "end-of-data" else "rcpt"
    assert brief(failed) == ("tempfailed", stage, spoken, "policy-error")
    assert "interrupted" in failed["detail"]


async def test_a_policy_that_loops_is_interrupted_where_refusals_come_at_once(at_once: Asked):
    async with at_once.mta() as mta:
        assert (await mta.greet(client_address="192.0.2.80")).is_tempfail
    async with at_once.mta() as mta:
        assert (await mta.greet()).is_continue
    assert brief(await at_once.record()) == ("tempfailed", "connect", "connect", "policy-error")


@pytest.fixture
async def watched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Asked]:
    """A supervisor in the test's own process, less patient than in life."""
    monkeypatch.setattr(child, "SILENCE", 3.0)
    asked, ready = Asked(tmp_path, gateway=LIMITS), asyncio.Event()
    asked.configure()
    supervisor = Supervisor(asked.file)
    running = asyncio.create_task(supervisor.run(lambda _: ready.set()))
    await asyncio.wait_for(ready.wait(), 30)
    yield asked
    supervisor._stopping.set()
    await running


async def test_a_policy_that_cannot_be_interrupted_costs_its_process_and_no_mail_passes(watched: Asked):
    async with watched.mta() as mta:
        await mta.greet()
        with pytest.raises(EOFError):
            await deliver(mta, order("sum(__import__('itertools').repeat(1))"))
        await mta.close()

    async def is_served() -> bool:
        async with watched.mta() as mta:
            await mta.greet()
            return (await deliver(mta)).is_continue

    assert await is_served()
    died, taken = await watched.recorded(2)
    assert brief(died, "recipients") == (
        *("aborted", "end-of-data", "end-of-data", "policy-error"),
        ["b@our.example"],
    )
    assert (taken["verdict"], taken["message"]["size"]) == ("accepted", len(PLAIN))
