"""Signals to a milter process end no session: its supervisor's word does, and that there is none any more."""

import asyncio
import os
import signal
from pathlib import Path

import pytest

from tests.milter.asked import PLAIN, Asked, deliver, up_to
from tests.waiting import eventually

PATIENCE = 30.0
TERM, INT, HUP, ALRM = signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGALRM


@pytest.mark.parametrize(
    "numbers",
    [(TERM,), (INT,), (HUP,), (ALRM, TERM), (ALRM, INT), (ALRM, HUP)],
    ids=lambda numbers: "-".join(number.name for number in numbers),
)
async def test_a_signal_to_the_process_ends_no_session(tmp_path: Path, numbers: tuple[signal.Signals, ...]):
    with Asked(tmp_path) as asked:
        worker = asked.worker
        async with asked.mta() as mta:
            await mta.greet()
            await up_to(mta, "rcpt")
            # While the main thread has one waiting, the next may be given to any other thread.
            for number in numbers:
                os.kill(worker, number)
            assert (await mta.message(PLAIN)).is_continue
            for _ in range(3):
                assert (await deliver(mta)).is_continue
                async with asked.mta() as other:
                    await other.greet()
                    assert (await deliver(other)).is_continue
        assert asked.worker == worker
        asked.send(TERM)
        assert await asyncio.to_thread(asked.exit_status) == 0
        assert not asked.children()
        assert len(await asked.recorded(7)) == 7
        assert "Traceback" not in asked.log


async def test_a_signal_to_the_whole_group_ends_it_cleanly(tmp_path: Path):
    with Asked(tmp_path) as asked:
        asked.send_group(TERM)
        assert await asyncio.to_thread(asked.exit_status) == 0
        assert not asked.children()
        assert "Traceback" not in asked.log


async def test_a_milter_does_not_outlive_its_supervisor(tmp_path: Path):
    with Asked(tmp_path) as asked:
        async with asked.mta() as mta:
            await mta.greet()
            await up_to(mta, "rcpt")
            os.kill(asked.pid, signal.SIGKILL)
            # What has begun may end.
            assert (await mta.message(PLAIN)).is_continue
        await eventually(lambda: not asked.children(), PATIENCE)
