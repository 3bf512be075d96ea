"""The way from libmilter's threads into the event loop, and back in time.

A thread that asks is answered or hears within its patience that it is not; it never waits for a loop
that does not turn any more.
"""

import asyncio
from collections.abc import Coroutine
from concurrent.futures import Future
from typing import Any, TypeVar

T = TypeVar("T")


class NoAnswer(Exception):
    """The event loop did not answer in time, or answers nothing any more."""


class Crossing:
    """Into this loop; `patience` is seconds."""

    def __init__(self, loop: asyncio.AbstractEventLoop, patience: float) -> None:
        self._loop = loop
        self._patience = patience

    def ask(self, question: Coroutine[Any, Any, T]) -> T:
        """Its result. Raises NoAnswer, and what it raises."""
        answer = self._begin(question)
        try:
            return answer.result(self._patience)
        except TimeoutError:
            # It may have come in this very moment, and then it counts: what was said is recorded.
            if answer.cancel() or answer.cancelled():
                raise NoAnswer(f"nothing within {self._patience:g} s") from None
            return answer.result()

    def tell(self, news: Coroutine[Any, Any, object]) -> None:
        """Have it carried out, after what was asked and told before. Raises NoAnswer."""
        self._begin(news)

    def _begin(self, work: Coroutine[Any, Any, T]) -> Future[T]:
        try:
            return asyncio.run_coroutine_threadsafe(work, self._loop)
        except RuntimeError as error:
            work.close()
            raise NoAnswer(str(error)) from None
