"""Policies that misbehave in a milter's process: it is as in SMTP workers, beside libmilter's threads."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from gateway import child
from tests.fakes.milter_mta import MTA
from tests.supervisor.process import OnlyMilter
from tests.supervisor.test_containment import KILLED, STOPPED
from tests.supervisor.watched import Watched
from tests.waiting import eventually

U1 = "u1@our.example"


@pytest.fixture
async def watched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Watched]:
    monkeypatch.setattr(child, "SILENCE", 7.0)
    async with Watched(tmp_path, "", workers=1, kind=OnlyMilter) as gateway:
        yield gateway


@pytest.fixture
async def mta(watched: Watched, tmp_path: Path) -> AsyncIterator[MTA]:
    async with MTA.connect(str(tmp_path / "milter")) as asking:
        await asking.greet(client_address="192.0.2.7")
        yield asking


async def begin(mta: MTA) -> None:
    """A transaction up to the beginning of the content."""
    await mta.mail(b"<s@a.example>")
    assert (await mta.rcpt(f"<{U1}>".encode())).goes_on


def content(subject: str) -> bytes:
    return f"Subject: {subject}\r\n\r\nx\r\n".encode()


async def test_a_policy_that_can_be_stopped_costs_its_own_message_only(watched: Watched, mta: MTA):
    workers = watched.workers()
    for subject in STOPPED:
        await begin(mta)
        assert (await mta.message(content(subject))).is_tempfail, subject
        await begin(mta)
        assert not (await mta.message(content("behaves"))).is_tempfail
    assert watched.workers() == workers
    records = [each for each in await watched.records(2 * len(STOPPED)) if each["reason"] == "policy-error"]
    for record, words in zip(records, STOPPED.values(), strict=True):
        assert (record["verdict"], record["policy"]) == ("tempfailed", "content")
        assert all(word in record["detail"] for word in words), record["detail"]


@pytest.mark.parametrize(("subject", "words"), KILLED.items(), ids=KILLED)
async def test_a_policy_that_ends_its_process_is_named(
    watched: Watched, tmp_path: Path, subject: str, words: tuple[str, str]
):
    (doomed,) = watched.workers()
    async with AsyncExitStack() as stack:
        mta = await stack.enter_async_context(MTA.connect(str(tmp_path / "milter")))
        await mta.greet(client_address="192.0.2.7", helo="c.example")
        await begin(mta)
        with pytest.raises(EOFError):
            await mta.message(content(subject))
        await mta.close()
    await eventually(lambda: watched.workers() - {doomed}, 30)
    (record,) = await watched.records(1)
    assert (record["verdict"], record["reason"], record["policy"]) == ("aborted", "policy-error", "content")
    assert (record["reverse_path"], record["recipients"]) == ("s@a.example", [U1])
    assert (record["client"]["address"], record["client"]["helo"]) == ("192.0.2.7", "c.example")
    assert record["mta"] == {"name": "mx.example", "daemon": "mx.example", "queue_id": None}
    assert all(word in record["detail"] for word in words), record["detail"]
    async with MTA.connect(str(tmp_path / "milter")) as again:
        await again.greet()
        await begin(again)
        assert not (await again.message(content("behaves"))).is_tempfail


async def test_a_policy_that_grows_is_stopped_and_its_process_replaced(
    watched: Watched, mta: MTA, tmp_path: Path
):
    (mine,) = watched.workers()
    await begin(mta)
    assert (await mta.message(content("grows"))).is_tempfail
    await eventually(lambda: watched.workers() - {mine}, 30)
    async with MTA.connect(str(tmp_path / "milter")) as other:
        await other.greet()
        # The old one goes on with those it has.
        await begin(mta)
        assert not (await mta.message(content("behaves"))).is_tempfail
        await begin(other)
        assert not (await other.message(content("behaves"))).is_tempfail
    await mta.quit()
    await eventually(lambda: mine not in watched.workers(), 30)
