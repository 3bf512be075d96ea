"""Processes that are killed, and MTAs that go away: nothing passes unrecorded, and nothing is left over."""

import asyncio
import os
import re
import signal
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from filters.testing.server import Conversation, hang
from gateway.roles.control import IN_HAND
from tests.fakes.clamd import FakeClamd
from tests.fakes.milter_protocol import Command, packet, strings
from tests.milter.asked import ORDER, STATES, Asked, brief, deliver, unseen, up_to
from tests.waiting import eventually

LIMIT = 1_048_576
# One message at a time has room.
GATEWAY = f"max_message_size = {LIMIT}\nmax_spool_size = {LIMIT}\ndeadline = 5\n"
CLAMAV = '[filters.clamav]\naddress = "{clamd}"\n'
each_state = pytest.mark.parametrize("state", STATES)


@pytest.fixture(scope="module")
def clamd() -> Iterator[FakeClamd]:
    with FakeClamd() as fake:
        yield fake


@pytest.fixture(scope="module")
def _mortal(clamd: FakeClamd, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Asked]:
    more = CLAMAV.format(clamd=clamd.address)
    directory = tmp_path_factory.mktemp("mortal")
    with Asked(directory, gateway=GATEWAY, more=more, order=(*ORDER, "virus")) as running:
        yield running


@pytest.fixture
def mortal(_mortal: Asked) -> Asked:
    return _mortal.renewed()


# The process is killed


async def revived(asked: Asked, died: int) -> None:
    """Wait until another process has taken its place."""
    await eventually(lambda: [pid for pid in asked.children("milter") if pid != died], 30)


@pytest.mark.parametrize("state", ["connected", "rcpt", "body"])
async def test_a_process_that_is_killed_takes_no_mail_with_it(mortal: Asked, state: str):
    async with mortal.mta() as mta:
        await mta.greet()
        assert (await deliver(mta)).is_continue
        await up_to(mta, state)
        worker = mortal.worker
        os.kill(worker, signal.SIGKILL)
        with pytest.raises(EOFError):
            await mta.end()
        await mta.close()
    await eventually(lambda: [pid for pid in mortal.children("milter") if pid != worker], 30)
    async with mortal.mta() as mta:
        await mta.greet()
        assert (await deliver(mta)).is_continue
    # What was answered was recorded before; of the rest nobody has heard.
    assert [record["verdict"] for record in await mortal.recorded(2)] == ["accepted"] * 2


# The MTA goes away


async def in_hand(asked: Asked) -> tuple[int, int]:
    """Tasks and descriptors of the worker."""
    said = re.compile(rf"{IN_HAND} +descriptors=(\d+) process={asked.worker} tasks=(\d+)")
    before = len(said.findall(asked.log))
    os.kill(asked.worker, signal.SIGUSR1)
    await eventually(lambda: len(said.findall(asked.log)) > before)
    descriptors, tasks = said.findall(asked.log)[-1]
    return int(tasks), int(descriptors)


@pytest.fixture
async def nothing_left(mortal: Asked) -> AsyncIterator[Asked]:
    """The same process goes on afterwards, with as much in hand as before, and room for a whole message."""
    await _deliver_a_large_one(mortal)
    worker, before = mortal.worker, await in_hand(mortal)
    yield mortal.renewed()
    await _deliver_a_large_one(mortal)
    await _comes_to(mortal, before)
    assert mortal.worker == worker


async def _comes_to(asked: Asked, before: tuple[int, int]) -> None:
    """What was the MTA's is given back after it has gone, not at once."""
    for _ in range(100):
        after = await in_hand(asked)
        if all(now <= then for now, then in zip(after, before, strict=True)):
            return
    raise AssertionError(f"{after} tasks and descriptors, {before} before")


async def _deliver_a_large_one(asked: Asked) -> None:
    async with asked.mta() as mta:
        await mta.greet()
        content = unseen()
        end = await deliver(mta, content + b"x" * (LIMIT - len(content) - 2) + b"\r\n")
        assert end.is_continue, end


@each_state
async def test_an_mta_may_go_away_at_any_time(nothing_left: Asked, state: str):
    async with nothing_left.mta() as mta:
        await mta.greet()
        await up_to(mta, state)
        await mta.close()
    if state in {"connected", "mail"}:
        return
    record = await nothing_left.record()
    assert brief(record)[0::3] == ("aborted", "given-up-by-mta")
    assert record["recipients"] == ["b@our.example"]


@each_state
async def test_an_mta_may_go_away_within_a_packet(nothing_left: Asked, state: str):
    async with nothing_left.mta() as mta:
        await mta.greet()
        await up_to(mta, state)
        await mta.send(packet(Command.HEADER, strings(b"Subject", b" x" * 10_000))[:10_000])
        await mta.close()
    if state not in {"connected", "mail"}:
        assert (await nothing_left.record())["verdict"] == "aborted"


async def test_an_mta_may_go_away_before_it_says_anything(nothing_left: Asked):
    path = nothing_left.address
    assert isinstance(path, Path)
    for octets in (
        b"",
        b"\0",
        b"\0\0\0\x0d",
        b"\0\0\0\x0dO\0\0",
        packet(Command.QUIT),
        b"GET / HTTP/1.0\r\n\r\n",
    ):
        _, writer = await asyncio.open_unix_connection(path)
        writer.write(octets)
        await writer.drain()
        writer.close()
        await writer.wait_closed()
    async with nothing_left.mta() as mta:
        await mta.close()


async def test_an_mta_may_go_away_while_its_message_is_judged(nothing_left: Asked, clamd: FakeClamd):
    clamd.behaviour, usual = hang, clamd.behaviour
    try:
        before = clamd.connections
        async with nothing_left.mta() as mta:
            await mta.greet()
            waiting = asyncio.create_task(deliver(mta, unseen()))
            await clamd.wait_for_connections(before + 1)
            await mta.close()
            with pytest.raises((EOFError, ConnectionError)):
                await waiting
        # Nobody can tell it apart from one that waits: it is judged and recorded to the end.
        assert (await nothing_left.record())["verdict"] == "tempfailed"
    finally:
        clamd.behaviour = usual


async def test_an_mta_that_cannot_be_told_what_to_change_has_a_second_record(
    nothing_left: Asked, clamd: FakeClamd
):
    """The message was to pass, and has not."""
    may_answer = threading.Event()
    usual = clamd.behaviour

    def answer_late(talk: Conversation) -> None:
        may_answer.wait(30)
        usual(talk)

    clamd.behaviour = answer_late
    try:
        before = clamd.connections
        async with nothing_left.mta() as mta:
            await mta.greet()
            # What is written first may still seem to arrive.
            waiting = asyncio.create_task(deliver(mta, unseen(*["X-Spam-Flag: NO"] * 20)))
            await clamd.wait_for_connections(before + 1)
            await mta.close()
            with pytest.raises((EOFError, ConnectionError)):
                await waiting
        may_answer.set()
        passed, failed = await nothing_left.recorded(2)
    finally:
        may_answer.set()
        clamd.behaviour = usual
    assert brief(passed)[0::3] == ("accepted", "accepted")
    assert brief(failed) == ("tempfailed", "end-of-data", "end-of-data", "internal-error")
    for key in ("reverse_path", "recipients", "mta", "client"):
        assert failed[key] == passed[key]
    assert (failed["reverse_path"], failed["recipients"]) == ("a@example.net", ["b@our.example"])
    assert failed["mta"]["queue_id"]


async def test_messages_that_are_given_up_leave_no_room_taken(nothing_left: Asked):
    for number in range(20):
        async with nothing_left.mta() as mta:
            await mta.greet()
            await up_to(mta, "eoh")
            for _ in range(10):
                assert (await mta.body(b"x" * 65_535)).is_continue
            if number % 2:
                await mta.abort()
            else:
                await mta.close()
        # The next one finds the room only when this one has given it back.
        await nothing_left.recorded(number + 1)


async def test_many_mtas_come_and_go(nothing_left: Asked):
    async def visit(number: int) -> None:
        async with nothing_left.mta() as mta:
            await mta.greet()
            await up_to(mta, STATES[number % len(STATES)])
            if number % 3:
                await mta.close()

    for start in range(0, 210, 30):
        await asyncio.gather(*(visit(number) for number in range(start, start + 30)))
    records = await nothing_left.recorded(150)
    assert {record["verdict"] for record in records} == {"aborted"}
