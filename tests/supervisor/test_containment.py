"""Policies that loop, hang, eat memory or end their worker: each harms itself, and is named."""

import os
import re
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from gateway import child
from gateway.journal.tracebacks import place
from tests.client import Client
from tests.fakes.mta import FakeMTA
from tests.supervisor.watched import U1, Watched, content, in_the_middle
from tests.waiting import eventually


@pytest.fixture(params=["uvloop", "asyncio"])
def loop(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The event loop of the workers: uvloop where it is installed, asyncio's own."""
    if request.param == "asyncio":
        (tmp_path / "hiding").mkdir()
        (tmp_path / "hiding" / "sitecustomize.py").write_text("import sys; sys.modules['uvloop'] = None\n")
        monkeypatch.setenv("PYTHONPATH", str(tmp_path / "hiding"), prepend=os.pathsep)
    return str(request.param)


@pytest.fixture
async def watched(tmp_path: Path, mta: FakeMTA, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Watched]:
    monkeypatch.setattr(child, "SILENCE", 7.0)
    async with Watched(tmp_path, mta.address) as gateway:
        yield gateway


STOPPED = {
    "loops": ("took more than 1 s", "in loops"),
    "backtracks": ("took more than 1 s", "in backtracks"),
    "sleeps": ("took more than 1 s", "in sleeps"),
    "gives_in_and_makes_something_up": ("took more than 1 s", ""),
    "grabs": ("MemoryError", "in grabs"),
}


async def test_a_policy_that_can_be_stopped_costs_its_own_message_only(loop: str, watched: Watched):
    workers = watched.workers()
    for subject in STOPPED:
        async with Client(watched.port) as client:
            await in_the_middle(client)
            client.say(content(subject))
            assert str(await client.reply()).startswith("451 4.3.0 Temporary local problem")
            # The same session, and so the same worker, goes on.
            await client.again(U1)
            assert (await client.data(b"Subject: behaves\r\n\r\nx\r\n")).code == 250
    assert watched.workers() == workers
    records = [each for each in await watched.records(2 * len(STOPPED)) if each["reason"] == "policy-error"]
    assert [record["policy"] for record in records] == ["content"] * len(STOPPED)
    for record, words in zip(records, STOPPED.values(), strict=True):
        assert record["verdict"] == "tempfailed"
        assert all(word in record["detail"] for word in words), record["detail"]


async def test_many_slow_messages_in_a_row_are_no_stuck_worker(
    tmp_path: Path, mta: FakeMTA, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(child, "SILENCE", 4.0)
    async with Watched(tmp_path, mta.address, workers=1) as watched, AsyncExitStack() as sessions:
        (worker,) = watched.workers()
        clients = [await sessions.enter_async_context(Client(watched.port)) for _ in range(7)]
        for client in clients:
            await in_the_middle(client)
        # Stopped, so that all of it comes to the event loop at once.
        with watched.without(worker):
            for client in clients:
                client.say(content("loops"))
        for client in clients:
            assert str(await client.reply()).startswith("451 4.3.0 ")
        assert watched.workers() == {worker}


async def test_a_policy_that_grows_is_stopped_and_its_worker_replaced(loop: str, watched: Watched):
    other, mine = workers = watched.workers()
    async with AsyncExitStack() as clients:
        lines = clients.enter_context(capture_logs())
        with watched.without(other):
            beside, client = [await clients.enter_async_context(Client(watched.port)) for _ in range(2)]
        await in_the_middle(beside)
        await in_the_middle(client)
        client.say(content("grows"))
        assert str(await client.reply()).startswith("451 4.3.0 Temporary local problem")
        # A successor is there before the worker is told to finish what it has begun.
        assert str(await client.reply()).startswith("421 4.3.2 ")
        assert len(watched.workers() - workers) == 1
        beside.say(content("behaves"))
        assert (await beside.reply()).code == 250
    await eventually(lambda: mine not in watched.workers())
    assert other in watched.workers()
    assert len(watched.workers()) == 2
    async with Client(watched.port) as client:
        assert (await client.deliver(b"Subject: behaves\r\n\r\nx\r\n", U1)).code == 250
    (record,) = [each for each in await watched.records(3) if each["reason"] == "policy-error"]
    assert "MiB of memory" in record["detail"]
    assert "in grows" in record["detail"]
    (reason,) = (line["reason"] for line in lines if line["event"] == "a process is not well and is replaced")
    assert re.fullmatch(r"it has \d+ MiB of memory of 1024; policy 'content' took too much", reason), reason


KILLED = {
    "never_gives_in": ("showed no life and was killed", "in loops"),
    "stays_in_c": ("showed no life and was killed", "in stays_in_c"),
    "exits": ("died (exit status 3)", ""),
    "crashes": ("died (Segmentation fault)", "in crashes"),
    "is_killed": ("died (Killed)", ""),
}


@pytest.mark.parametrize(("subject", "words"), KILLED.items(), ids=KILLED)
async def test_a_policy_that_ends_its_worker_is_named_and_others_are_unharmed(
    watched: Watched, mta: FakeMTA, subject: str, words: tuple[str, str]
):
    one, another = workers = watched.workers()
    async with AsyncExitStack() as clients:
        with watched.without(one):
            beside = await clients.enter_async_context(Client(watched.port))
        with watched.without(another):
            client = await clients.enter_async_context(Client(watched.port))
        await in_the_middle(beside)
        await in_the_middle(client)
        client.say(content(subject))
        assert await client.is_closed()
        assert another in watched.workers()
        beside.say(content("behaves"))
        assert (await beside.reply()).code == 250
    await eventually(lambda: len(watched.workers() - {one}) == 2, 30)
    assert workers - watched.workers() == {one}

    records = await watched.records(2)
    (record,) = [each for each in records if each["verdict"] == "aborted"]
    assert (record["reason"], record["policy"], record["stage"]) == ("policy-error", "content", "end-of-data")
    assert (record["reverse_path"], record["recipients"]) == ("s@a.example", [U1])
    assert record["client"]["helo"] == "c.example"
    assert all(word in record["detail"] for word in words), record["detail"]
    # Whoever has it explained is led to the policy's own line.
    assert (place(record["detail"]) or "").endswith(words[1])
    assert len(mta.messages) == 1
