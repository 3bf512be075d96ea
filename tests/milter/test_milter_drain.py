"""Reloads and ends: who is there goes on, who comes is served by others, and no message is lost between."""

import asyncio
import contextlib
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway.journal.layout import Layout
from gateway.journal.search import Query, search_lines
from tests.fakes.milter_mta import MTA
from tests.fakes.milter_protocol import Command, packet
from tests.fakes.milter_response import read_response
from tests.milter.asked import A, Asked, deliver, order, up_to
from tests.supervisor.process import free_port
from tests.waiting import eventually

NO = order('reject("no")')
IN_FORCE = "the new configuration is in force"
PATIENCE = 30.0


async def is_refused(asked: Asked) -> bool:
    """Whether the policy of the end of data is asked about a new connection's message."""
    async with asked.mta() as mta:
        await mta.greet()
        return bool((await deliver(mta, NO)).is_reject)


async def reload(asked: Asked) -> None:
    count = asked.log.count(IN_FORCE)
    asked.send(signal.SIGHUP)
    await eventually(lambda: asked.log.count(IN_FORCE) > count, PATIENCE)


# Reload


async def test_an_open_session_goes_on_by_the_configuration_it_began_with(tmp_path: Path):
    with Asked(tmp_path) as asked:
        old = asked.worker
        async with asked.mta() as idle, asked.mta() as busy:
            await idle.greet()
            await busy.greet()
            await up_to(busy, "data")
            asked.order.remove("at_end")
            asked.configure()
            await reload(asked)
            while await is_refused(asked):
                assert old in asked.children("milter")
            assert not await is_refused(asked)
            assert (await busy.message(NO)).is_reject
            for mta in (busy, idle):
                assert (await deliver(mta, NO)).is_reject
            assert old in asked.children("milter")
        # Nothing keeps it any more.
        await eventually(lambda: old not in asked.children("milter"), PATIENCE)
        assert not await is_refused(asked)


async def test_nobody_is_refused_or_lost_while_it_is_reloaded(tmp_path: Path):
    with Asked(tmp_path, workers=2) as asked:
        is_over = asyncio.Event()

        async def come_and_go() -> int:
            count = 0
            while not is_over.is_set():
                async with asked.mta() as mta:
                    await mta.greet()
                    assert (await deliver(mta)).is_continue
                count += 1
            return count

        async def reload_again_and_again() -> None:
            try:
                for _ in range(4):
                    await reload(asked)
            finally:
                is_over.set()

        *counts, _ = await asyncio.gather(*(come_and_go() for _ in range(3)), reload_again_and_again())
        assert sum(counts) > 100
        taken = await asked.recorded(sum(counts))
        assert {record["verdict"] for record in taken} == {"accepted"}
        await eventually(lambda: len(asked.children("milter")) == 2, PATIENCE)
        assert "Traceback" not in asked.log


async def test_a_configuration_that_is_refused_changes_nothing(tmp_path: Path):
    with Asked(tmp_path) as asked:
        worker = asked.worker
        async with asked.mta() as mta:
            await mta.greet()
            asked.configure("[nonsense]\n")
            asked.send(signal.SIGHUP)
            await eventually(lambda: "the new configuration is refused" in asked.log)
            assert (await deliver(mta, NO)).is_reject
        assert await is_refused(asked)
        assert asked.worker == worker


# The end


async def test_a_transaction_may_end_after_sigterm(tmp_path: Path):
    with Asked(tmp_path) as asked:
        async with asked.mta() as mta:
            await mta.greet()
            await up_to(mta, "rcpt")
            asked.send(signal.SIGTERM)
            # Who comes now is refused at once, and not kept waiting.
            await eventually(lambda: not _is_open(asked.address))
            assert (await mta.message(NO)).is_reject
            assert await leaving(mta)
        assert await asyncio.to_thread(asked.exit_status) == 0
        assert [record["verdict"] for record in await asked.recorded()] == ["rejected"]
        assert "Traceback" not in asked.log


def _is_open(address: object) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(str(address))
        except ConnectionRefusedError:
            return False
    return True


class Lone:
    """A process that is only a milter, and what it says."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def says(self) -> str:
        """Its next line."""
        assert self._process.stdout is not None
        line = await asyncio.wait_for(self._process.stdout.readline(), PATIENCE)
        return line.decode().strip()

    async def ended(self) -> None:
        """Wait until it is gone."""
        await asyncio.wait_for(self._process.wait(), PATIENCE)

    def tell(self, line: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(line.encode() + b"\n")


@contextlib.asynccontextmanager
async def lone(address: str, directory: Path, grace: float = 0.1) -> AsyncIterator[Lone]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.milter.lone", address, str(directory / "state"), str(grace)),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        running = Lone(process)
        assert await running.says() == "ready"
        yield running
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.communicate()


async def leaving(mta: MTA) -> bool:
    """Whether a new transaction is sent away; one that is not is given up again."""
    response = await mta.mail(A)
    if response.is_continue:
        await mta.abort()
        return False
    assert (response.reply.code, response.reply.status) == (421, "4.3.2")
    return True


async def until_leaving(mta: MTA) -> None:
    async with asyncio.timeout(PATIENCE):
        while not await leaving(mta):
            continue


async def test_a_new_transaction_is_sent_away_at_once_and_an_open_one_may_end(tmp_path: Path):
    path = tmp_path / "milter"
    async with (
        lone(str(path), tmp_path, grace=10_000.0) as process,
        MTA.connect(path) as busy,
        MTA.connect(path) as idle,
    ):
        await busy.greet()
        await idle.greet()
        await up_to(busy, "body")
        process.tell("drain")
        await until_leaving(idle)
        assert (await busy.end()).is_continue
        await busy.abort()
        assert await leaving(busy)
        # Whoever is between two transactions is not waited for.
        assert await process.says() == "drained"


async def test_a_transaction_that_does_not_go_on_is_waited_for_no_longer_than_the_grace(tmp_path: Path):
    path = tmp_path / "milter"
    async with lone(str(path), tmp_path) as process, MTA.connect(path) as mta:
        await mta.greet()
        await up_to(mta, "rcpt")
        process.tell("drain")
        assert await process.says() == "drained"


@pytest.mark.parametrize("how", ["abort", "close"])
async def test_a_transaction_that_is_given_up_is_not_waited_for(tmp_path: Path, how: str):
    path = tmp_path / "milter"
    async with (
        lone(str(path), tmp_path, grace=10_000.0) as process,
        MTA.connect(path) as busy,
        MTA.connect(path) as idle,
    ):
        await busy.greet()
        await idle.greet()
        await up_to(busy, "rcpt")
        process.tell("drain")
        await until_leaving(idle)
        await (busy.abort() if how == "abort" else busy.close())
        assert await process.says() == "drained"


async def test_an_answer_that_is_being_written_is_waited_for(tmp_path: Path):
    path, layout = tmp_path / "milter", Layout(tmp_path / "state")
    async with lone(str(path), tmp_path) as process, MTA.connect(path) as mta:
        await mta.greet()
        await up_to(mta, "data")
        # More to be changed than fits between the two.
        for _ in range(500):
            await mta.header(b"X-Sluicegate-" + b"X" * 2000, b" x")
        await mta.eoh()
        mta.stop_reading()
        await mta.send(packet(Command.BODYEOB))
        await eventually(lambda: list(search_lines(layout.index, layout.spool, Query(limit=None))), PATIENCE)
        process.tell("drain")
        drained = asyncio.create_task(process.says())
        # Long enough for whoever does not wait.
        await asyncio.wait({drained}, timeout=3.0)
        if drained.done():
            process.tell("end")
            await process.ended()
        mta.go_on_reading()
        end = await read_response(mta.read, Command.BODYEOB, mta.negotiated)
        assert end.is_continue
        assert len(end.modifications) >= 500
        assert await drained == "drained"


async def test_who_retires_lets_its_sessions_go_on_to_their_end(tmp_path: Path):
    path = tmp_path / "milter"
    async with lone(str(path), tmp_path, grace=10_000.0) as process:
        async with MTA.connect(path) as mta:
            await mta.greet()
            process.tell("retire")
            await eventually(lambda: not _is_open(path), PATIENCE)
            assert (await deliver(mta, NO)).is_continue
            assert not await leaving(mta)
        assert await process.says() == "retired"


async def test_who_has_retired_for_long_sends_new_transactions_away(tmp_path: Path):
    path = tmp_path / "milter"
    async with lone(str(path), tmp_path, grace=1.0) as process, MTA.connect(path) as mta:
        await mta.greet()
        process.tell("retire")
        await until_leaving(mta)
        assert await process.says() == "retired"


async def test_who_retires_is_hurried_by_the_end(tmp_path: Path):
    with Asked(tmp_path) as asked:
        async with asked.mta() as mta:
            await mta.greet()
            await reload(asked)
            assert (await deliver(mta, NO)).is_reject
            asked.send(signal.SIGTERM)
            await until_leaving(mta)
        assert await asyncio.to_thread(asked.exit_status) == 0
        assert "Traceback" not in asked.log


async def test_not_more_than_a_few_retire_at_once(tmp_path: Path):
    with Asked(tmp_path) as asked:
        async with contextlib.AsyncExitStack() as open_sessions:
            sessions = []
            for _ in range(5):
                mta = await open_sessions.enter_async_context(asked.mta())
                await mta.greet()
                sessions.append(mta)
                await reload(asked)
            # Those who have been at it for longest are told to go, and wait for no idle session.
            await eventually(lambda: len(asked.children("milter")) <= 4, PATIENCE)
            for cut_off in sessions[:2]:
                await cut_off.close()
            for going_on in sessions[2:]:
                assert (await deliver(going_on, NO)).is_reject


# Several processes, and TCP


def states(pid: int) -> set[str]:
    """Of all its threads, by the letters of proc(5)."""
    files = Path(f"/proc/{pid}/task").glob("*/stat")
    return {file.read_text().rpartition(")")[2].split()[0] for file in files}


async def test_two_workers_share_the_socket_and_both_serve(tmp_path: Path):
    with Asked(tmp_path, workers=2) as asked:
        first, second = asked.children("milter")
        for asleep in (first, second):
            os.kill(asleep, signal.SIGSTOP)
            try:
                # The thread that is to stop all others may have to wait for its turn first.
                await eventually(lambda asleep=asleep: states(asleep) == {"T"}, PATIENCE)
                async with asked.mta() as mta:
                    await mta.greet()
                    assert (await deliver(mta)).is_continue
            finally:
                os.kill(asleep, signal.SIGCONT)


async def test_a_milter_by_tcp(tmp_path: Path):
    with Asked(tmp_path, is_tcp=True) as asked:
        async with asked.mta() as mta:
            await mta.greet()
            assert (await deliver(mta)).is_continue
            assert (await deliver(mta, NO)).is_reject
            await reload(asked)
            assert (await deliver(mta)).is_continue
        records = await asked.recorded(3)
        assert {record["listener"] for record in records} == {asked.listening_on}


async def test_over_tcp_no_packet_waits_for_the_one_before(tmp_path: Path):
    port = free_port()
    async with lone(str(port), tmp_path) as process, MTA.connect(("127.0.0.1", port)) as mta:
        await mta.greet()
        process.tell("nodelay")
        assert await process.says() == "nodelay [1]"
