"""A worker whose event loop stands still. The supervisor runs in the test's own process, less patient."""

import asyncio
from pathlib import Path

import pytest

from gateway import supervisor
from gateway.supervisor import Supervisor
from tests.client import Client
from tests.fakes.mta import FakeMTA
from tests.supervisor.process import Process

U1 = "u1@our.example"
STUCK = """
from policies import Evidence, Stage, Transaction, Verdict, policy

@policy(at=Stage.END_OF_DATA)
def stuck(tx: Transaction, evidence: Evidence) -> Verdict | None:
    while tx.message.header("Subject") == "never":
        pass
    return None
"""


async def test_a_worker_that_stands_still_is_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(supervisor, "SILENCE", 5.0)
    (tmp_path / "stuck.py").write_text(STUCK)
    async with FakeMTA() as mta:
        process = Process(tmp_path, mta.address)
        process.configure()
        text = process.file.read_text()
        process.file.write_text(
            text.replace(
                'order = ["recipients"]', f'order = ["recipients", "stuck"]\ndirectory = "{tmp_path}"'
            )
        )
        ready = asyncio.Event()
        watched = Supervisor(process.file, ("smtp",))
        running = asyncio.create_task(watched.run(lambda _: ready.set()))
        await asyncio.wait_for(ready.wait(), 30)

        async with Client(process.port) as client:
            await client.open(U1)
            await client.ask("DATA")
            client.say(b"Subject: never\r\n\r\nb\r\n.\r\n")
            assert await client.is_closed()
        async with Client(process.port) as client:
            assert (await client.deliver(b"Subject: now\r\n\r\nb\r\n", U1)).code == 250
        assert [b"now" in message.content for message in mta.messages] == [True]

        watched._stopping.set()
        await running
