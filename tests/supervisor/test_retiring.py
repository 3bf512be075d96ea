"""Processes that retire after a reload: journal and metrics are others' at once, and no record is lost."""

import asyncio
import signal
from pathlib import Path

from gateway.journal.layout import Layout
from gateway.journal.search import Query, search_lines
from tests.milter.asked import Asked, deliver, up_to
from tests.supervisor.process import free_port
from tests.supervisor.test_metrics import numbers
from tests.waiting import eventually

IN_FORCE = "the new configuration is in force"
ACCEPTED = ("sluicegate_decisions_total", "accepted", "end-of-data", "accepted")
PATIENCE = 30.0


def indexed(asked: Asked, nowhere: Path) -> int:
    """How many records are in the index; those of the spool do not count."""
    index = Layout(asked.directory / "state").index
    return len(list(search_lines(index, nowhere, Query(limit=None))))


async def test_who_retires_keeps_neither_journal_nor_metrics(tmp_path: Path):
    port = free_port()
    nowhere = tmp_path / "nowhere"
    nowhere.mkdir()
    metrics = f'[metrics]\naddress = "127.0.0.1:{port}"\n'
    with Asked(tmp_path, more=metrics) as asked:
        (journal,), (shown,), old = asked.children("journal"), asked.children("metrics"), asked.worker
        async with asked.mta() as idle, asked.mta() as busy:
            for mta in (idle, busy):
                await mta.greet()
                assert (await deliver(mta)).is_continue
            asked.send(signal.SIGHUP)
            await eventually(lambda: IN_FORCE in asked.log, PATIENCE)
            # The sessions keep the old process, and nothing else.
            await eventually(lambda: journal not in asked.children("journal"), PATIENCE)
            await eventually(lambda: shown not in asked.children("metrics"), PATIENCE)
            assert (len(asked.children("journal")), len(asked.children("metrics"))) == (1, 1)
            assert old in asked.children("milter")
            assert (await deliver(idle)).is_continue
            await eventually(lambda: indexed(asked, nowhere) == 3, PATIENCE)
            assert (await numbers(port))[ACCEPTED] == 3.0
            await up_to(busy, "body")
            asked.send(signal.SIGTERM)
            await eventually(lambda: asked.children("milter") == [old], PATIENCE)
            await eventually(lambda: not asked.children("metrics"), PATIENCE)
            gone = asyncio.create_task(eventually(lambda: not asked.children("journal"), PATIENCE))
            # Long enough for a journal that does not wait for who retires.
            await asyncio.wait({gone}, timeout=1.0)
            assert (await busy.end()).is_continue
            await busy.abort()
        assert await asyncio.to_thread(asked.exit_status) == 0
        await gone
        assert not asked.children()
        assert indexed(asked, nowhere) == 4
        assert "Traceback" not in asked.log
