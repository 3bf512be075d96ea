"""Questions that are shared, and answers that are still fresh."""

import asyncio
from collections.abc import Hashable
from pathlib import Path

import pytest

import gateway.joining
from filters.base import FilterError, TooLarge
from filters.evidence import Finding, Skipped, Unavailable, VirusReport
from filters.testing.transactions import at_end_of_data, session
from gateway.joining import MAX_AGE, Answer, Joiner
from gateway.smtp.envelope import Envelope
from gateway.smtp.message import Message
from gateway.smtp.transaction import Stage, Transaction
from gateway.spool import Spool, Store
from tests.proxy.running import Scanner, answers, fails, hangs, waits

FOUND = VirusReport("Evil")
ONE, OTHER = at_end_of_data(b"one"), at_end_of_data(b"other")


class Sharing(Scanner):
    """Shares what it finds about equal content."""

    def subject(self, tx: Transaction) -> Hashable | None:
        return tx.message.digest


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


async def started(joiner: Joiner, source: Scanner, number: int, tx: Transaction = ONE) -> list[asyncio.Task]:
    """So many questions, under way."""
    tasks = [asyncio.create_task(joiner.ask(source, tx)) for _ in range(number)]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    return tasks


async def test_who_asks_the_same_joins_the_question_under_way():
    event = asyncio.Event()
    source, joiner = Sharing(waits(event, FOUND)), Joiner()
    tasks = await started(joiner, source, 3)
    event.set()
    assert await asyncio.gather(*tasks) == [Answer(FOUND, joined) for joined in (False, True, True)]
    assert source.started == 1


async def test_a_finding_is_given_again_while_it_is_fresh():
    clock = Clock()
    source, joiner = Sharing(answers(FOUND)), Joiner(clock)
    assert await joiner.ask(source, ONE) == Answer(FOUND)
    clock.now += MAX_AGE - 1
    assert await joiner.ask(source, ONE) == Answer(FOUND, age=MAX_AGE - 1)
    clock.now += 1
    assert await joiner.ask(source, ONE) == Answer(FOUND)
    assert source.started == 2


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (FilterError("down"), Unavailable("scanner", "down")),
        (TooLarge("over"), Skipped("scanner", "over")),
        (OSError("broken"), Unavailable("scanner", "OSError: broken")),
        (SystemExit(3), Unavailable("scanner", "SystemExit: 3")),
        (asyncio.CancelledError(), Unavailable("scanner", "CancelledError: ")),
    ],
)
async def test_a_failure_is_shared_and_never_kept(error: BaseException, outcome: object):
    source, joiner = Sharing(fails(error)), Joiner()
    tasks = [asyncio.create_task(joiner.ask(source, ONE)) for _ in range(2)]
    assert [answer.outcome for answer in await asyncio.gather(*tasks)] == [outcome, outcome]
    assert source.started == 1
    await joiner.ask(source, ONE)
    assert source.started == 2


async def test_nothing_is_shared_unless_a_filter_says_what_its_finding_depends_on():
    source, joiner = Scanner(answers(FOUND)), Joiner()
    for _ in range(2):
        assert await joiner.ask(source, ONE) == Answer(FOUND)
    assert source.started == 2


async def test_other_subjects_and_other_filters_are_other_questions():
    first, second, joiner = Sharing(answers(FOUND)), Sharing(answers(VirusReport())), Joiner()
    for tx in (ONE, OTHER):
        assert await joiner.ask(first, tx) == Answer(FOUND)
        assert await joiner.ask(second, tx) == Answer(VirusReport())
    assert (first.started, second.started) == (2, 2)


async def test_who_leaves_does_not_disturb_the_others():
    event = asyncio.Event()
    source, joiner = Sharing(waits(event, FOUND)), Joiner()
    first, second, third = await started(joiner, source, 3)
    for leaver in (first, third):
        leaver.cancel()
        with pytest.raises(asyncio.CancelledError):
            await leaver
    assert not source.cancelled
    event.set()
    assert await second == Answer(FOUND, joined=True)


async def test_each_has_a_time_out_of_its_own():
    source, joiner = Sharing(hangs), Joiner()
    patient = (await started(joiner, source, 1))[0]
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await joiner.ask(source, ONE)
    assert not source.cancelled
    patient.cancel()
    with pytest.raises(asyncio.CancelledError):
        await patient


async def test_the_last_who_leaves_ends_it_and_the_next_begins_anew():
    source, joiner = Sharing(hangs), Joiner()
    tasks = await started(joiner, source, 2)
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
    await asyncio.sleep(0)
    assert source.cancelled == 1
    (again,) = await started(joiner, source, 1)
    assert source.started == 2
    again.cancel()
    with pytest.raises(asyncio.CancelledError):
        await again


async def test_only_the_latest_findings_are_kept(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(gateway.joining, "MAX_KEPT", 2)
    source, joiner = Sharing(answers(FOUND)), Joiner()
    for content in (b"1", b"2", b"1", b"3", b"1", b"2"):
        await joiner.ask(source, at_end_of_data(content))
    assert source.started == 4


def unhashable(tx: Transaction) -> Hashable | None:
    return []  # type: ignore[return-value]


def raising(tx: Transaction) -> Hashable | None:
    raise KeyError("digest")


@pytest.mark.parametrize(
    ("subject", "cause"),
    [(unhashable, "TypeError: unhashable type: 'list'"), (raising, "KeyError: 'digest'")],
)
async def test_a_subject_that_is_none_is_a_failure(monkeypatch: pytest.MonkeyPatch, subject, cause: str):
    source = Sharing(answers(FOUND))
    monkeypatch.setattr(source, "subject", subject)
    assert await Joiner().ask(source, ONE) == Answer(Unavailable("scanner", cause))


async def test_the_content_stays_while_anybody_waits_for_its_scan(tmp_path: Path):
    event = asyncio.Event()
    seen = []

    async def reads_late(tx: Transaction) -> Finding:
        await event.wait()
        seen.append(b"".join(tx.message.content.chunks()))
        return FOUND

    spool = Spool(Store(tmp_path), 1000)
    spool.append(b"content")
    tx = Transaction(Stage.END_OF_DATA, session(), Envelope(ONE.envelope.reverse_path), Message(spool))
    source, joiner = Sharing(reads_late), Joiner()
    first, second = await started(joiner, source, 2, tx)
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    spool.close()
    event.set()
    assert await second == Answer(FOUND, joined=True)
    assert seen == [b"content"]
    await asyncio.sleep(0)
    with pytest.raises(ValueError, match="given back"):
        spool.head(1)
