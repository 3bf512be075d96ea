"""The way from libmilter's threads into the event loop, and back in time.

A thread that asks is answered, or hears within its patience that it is not; it never waits for a loop
that does not turn any more. This is `asyncio.run_coroutine_threadsafe` at half its cost: the thread is woken
where the answer is made, and not two turns of the loop later.
"""

import asyncio
import threading
from collections.abc import Coroutine
from typing import Any, Generic, TypeVar

import structlog

T = TypeVar("T")

_log = structlog.get_logger()


class NoAnswer(Exception):
    """The event loop did not answer in time, or answers nothing any more."""


class Crossing:
    """Into this loop; `patience` is seconds."""

    def __init__(self, loop: asyncio.AbstractEventLoop, patience: float) -> None:
        self._loop = loop
        self._patience = patience
        self._under_way: set[asyncio.Task[None]] = set()

    def ask(self, question: Coroutine[Any, Any, T]) -> T:
        """Its result. Raises NoAnswer, and what it raises."""
        asked = _Question(question)
        self._enter(asked.answer(), question)
        try:
            return asked.wait(self._patience)
        except NoAnswer:
            self._loop.call_soon_threadsafe(asked.cancel)
            raise

    def tell(self, news: Coroutine[Any, Any, object]) -> None:
        """Have it carried out, after what was asked and told before. Raises NoAnswer."""
        self._enter(_carried_out(news), news)

    def _enter(self, work: Coroutine[Any, Any, None], inner: Coroutine[Any, Any, object]) -> None:
        try:
            self._loop.call_soon_threadsafe(self._begin, work)
        except RuntimeError as error:
            work.close()
            inner.close()
            raise NoAnswer(str(error)) from None

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        task = self._loop.create_task(work)
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)


async def _carried_out(news: Coroutine[Any, Any, object]) -> None:
    try:
        await news
    except Exception:
        # Nobody waits for it. What it was to begin is not there, and is missed at the next question.
        _log.exception("what an MTA told could not be carried out")


class _Question(Generic[T]):
    """One question, between the thread that waits and the loop that answers."""

    def __init__(self, question: Coroutine[Any, Any, T]) -> None:
        self._question = question
        self._task: asyncio.Task[Any] | None = None
        self._result: T | None = None
        self._error: BaseException | None = None
        self._is_over = threading.Lock()
        self._is_over.acquire()
        # Who is first to take this has decided whether it was answered in time.
        self._decision = threading.Lock()

    async def answer(self) -> None:
        """On the loop: find the answer and wake the thread."""
        if self._decision.locked():
            # Given up before the loop came to it: nothing of it may be carried out, and recorded.
            self._question.close()
            return
        self._task = asyncio.current_task()
        try:
            self._result = await self._question
        except BaseException as error:
            self._error = error
            if not isinstance(error, Exception):
                raise
        finally:
            if self._decision.acquire(blocking=False):
                self._is_over.release()

    def wait(self, patience: float) -> T:
        """In the thread. Raises NoAnswer, and what the question raises."""
        if not self._is_over.acquire(timeout=patience) and self._decision.acquire(blocking=False):
            raise NoAnswer(f"nothing within {patience:g} s")
        if isinstance(self._error, Exception):
            raise self._error
        if self._error is not None:
            raise NoAnswer("the event loop has ended") from self._error
        return self._result  # type: ignore[return-value]

    def cancel(self) -> None:
        """On the loop: nobody waits any longer."""
        if self._task is not None:
            self._task.cancel()
