"""Workers are killed while they keep mail: whoever heard 250 has a whole entry, and a record."""

import asyncio
import os
import signal
from pathlib import Path

from gateway.quarantine.store import Entry, Quarantine, quarantine_directory
from tests.client import Client
from tests.fakes.mta import FakeMTA
from tests.supervisor.process import Process
from tests.waiting import eventually

KEEPER = """
from policies import Evidence, Stage, Transaction, Verdict, policy, quarantine

@policy(at=Stage.END_OF_DATA)
def keeper(tx: Transaction, evidence: Evidence) -> Verdict | None:
    return quarantine("kept")
"""
SENDERS, KILLS, EACH = 4, 6, 8
BODY = b"0123456789" * 100 + b"\r\n"


def letter(sender: int, number: int) -> bytes:
    return b"Subject: %d-%d\r\n\r\n" % (sender, number) + BODY * 500


async def send_all(port: int, sender: int, heard: dict[str, bytes]) -> None:
    """Each letter until it is taken; `heard` are references of those that were."""
    for number in range(EACH):
        while True:
            try:
                async with Client(port) as client:
                    answer = await client.deliver(letter(sender, number), "u1@our.example")
                    heard[answer.reference] = letter(sender, number)
                break
            except (OSError, EOFError, AssertionError, asyncio.IncompleteReadError):
                await asyncio.sleep(0)


async def kill_now_and_then(
    process: Process, heard: dict[str, bytes], sending: asyncio.Future[list[None]]
) -> None:
    """Each time some more letters were taken, one worker dies."""
    for number in range(1, KILLS + 1):
        taken = number * SENDERS * EACH // (KILLS + 2)
        await eventually(lambda: len(heard) >= taken or sending.done())  # noqa: B023 - called at once
        for pid in process.children("smtp")[:1]:
            os.kill(pid, signal.SIGKILL)


async def test_killed_workers_lose_nothing_they_have_taken(tmp_path: Path):
    (tmp_path / "plugins").mkdir()
    (tmp_path / "plugins" / "keeper.py").write_text(KEEPER)
    heard: dict[str, bytes] = {}
    async with FakeMTA() as mta:
        process = Process(tmp_path, mta.address, workers=2)
        process.order = ["recipients", "keeper"]
        process.plugins = tmp_path / "plugins"
        with process:
            senders = (send_all(process.port, sender, heard) for sender in range(SENDERS))
            sending = asyncio.gather(*senders)
            await kill_now_and_then(process, heard, sending)
            await sending
            recorded = {each["reference"] for each in process.records() if each["verdict"] == "quarantined"}
        assert not mta.messages
    quarantine = Quarantine(quarantine_directory(tmp_path / "state"))
    entries = list(quarantine.entries())
    assert len(heard) == SENDERS * EACH
    assert heard.keys() <= recorded
    assert recorded <= {entry.reference for entry in entries}
    for entry in entries:
        assert content(quarantine, entry).endswith(heard.get(entry.reference, BODY))


def content(quarantine: Quarantine, entry: Entry) -> bytes:
    with quarantine.open(entry.reference) as file:
        return file.read()
