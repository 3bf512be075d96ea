"""Asking filters on behalf of all sessions: who asks the same as somebody else gets the same answer.

A filter says by `subject` what its finding depends on. A question about an equal subject joins the
one under way, or is answered with a finding that is still fresh: a sender that hung up too early
and comes again does not have its message scanned twice, least of all by a scanner that is slow as
it is. Whatever goes wrong becomes evidence here, but only a finding is kept.

One object serves all pipelines of a worker.
"""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass

from filters.base import Filter, FilterError, TooLarge
from filters.evidence import Finding, Outcome, Skipped, Unavailable
from gateway.smtp.transaction import Transaction
from gateway.spool import Spool

# Seconds. Postfix tries again five to ten minutes later; signatures change from hour to hour.
MAX_AGE = 600.0
# Findings, of a kilobyte or two at most.
MAX_KEPT = 10_000

# What other people's code can end with. An exit of theirs must not be one of the process.
THROWN = (Exception, SystemExit, KeyboardInterrupt, asyncio.CancelledError)

_Key = tuple[Filter, Hashable]


@dataclass(frozen=True, slots=True)
class Answer:
    """An outcome; `joined` to a question that somebody else had put, or found `age` seconds ago."""

    outcome: Outcome
    joined: bool = False
    age: float | None = None


class _Question:
    """A question under way, and how many wait for the answer."""

    def __init__(self, asking: asyncio.Task[Outcome]) -> None:
        self.asking = asking
        self.waiting = 0


class Joiner:
    """Questions under way and fresh findings, by filter and subject."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._under_way: dict[_Key, _Question] = {}
        self._kept: OrderedDict[_Key, tuple[float, Finding]] = OrderedDict()

    async def ask(self, source: Filter, tx: Transaction) -> Answer:
        """The filter's outcome, from wherever it can be had.

        A caller may be cancelled at any time, which nobody else notices. When nobody waits for a
        question any more it is cancelled.
        """
        try:
            subject = source.subject(tx)
            hash(subject)
        except Exception as error:
            return Answer(_broken(source, error))
        if subject is None:
            return Answer(await _ask(source, tx))
        key = (source, subject)
        return self._recall(key) or await self._join(key, source, tx)

    def _recall(self, key: _Key) -> Answer | None:
        if key not in self._kept:
            return None
        found_at, finding = self._kept[key]
        age = self._clock() - found_at
        if age >= MAX_AGE:
            del self._kept[key]
            return None
        self._kept.move_to_end(key)
        return Answer(finding, age=age)

    async def _join(self, key: _Key, source: Filter, tx: Transaction) -> Answer:
        question = self._under_way.get(key)
        joined = question is not None
        if question is None:
            question = self._under_way[key] = _Question(asyncio.create_task(self._find(key, source, tx)))
            _hold_content(tx, question.asking)
        question.waiting += 1
        try:
            return Answer(await asyncio.shield(question.asking), joined)
        finally:
            question.waiting -= 1
            if not question.waiting:
                # At once, for nobody may join a question that is being given up.
                del self._under_way[key]
                question.asking.cancel()

    async def _find(self, key: _Key, source: Filter, tx: Transaction) -> Outcome:
        outcome = await _ask(source, tx)
        if isinstance(outcome, Finding):
            self._kept[key] = (self._clock(), outcome)
            if len(self._kept) > MAX_KEPT:
                self._kept.popitem(last=False)
        return outcome


def _hold_content(tx: Transaction, asking: asyncio.Task[Outcome]) -> None:
    """What is being scanned must not go away with the session that it came by."""
    content = tx.message.content if tx.message else None
    if isinstance(content, Spool):
        content.hold()
        asking.add_done_callback(lambda _: content.close())


async def _ask(source: Filter, tx: Transaction) -> Outcome:
    """Ask the filter; whatever it raises is evidence."""
    try:
        found = await source.find(tx)
    except TooLarge as error:
        return Skipped(source.name, str(error))
    except FilterError as error:
        return Unavailable(source.name, str(error))
    except THROWN as error:
        if isinstance(error, asyncio.CancelledError) and _is_cancelled():
            raise
        return _broken(source, error)
    if not isinstance(found, source.finds):
        return Unavailable(source.name, f"answered with {found!r:.200}")
    return found


def _broken(source: Filter, error: BaseException) -> Unavailable:
    return Unavailable(source.name, f"{type(error).__name__}: {error}")


def _is_cancelled() -> bool:
    """Whether somebody cancelled the running task, rather than something it waited for."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
